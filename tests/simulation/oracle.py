"""The promise, held against what the relay took and what the database says (docs/proof.md)."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.delivery.send import GATE_SECONDS
from service.domain.delivery import FINAL, DeliveryState
from service.domain.mailing import MailingState
from service.store import mailings, tables
from service.store.tables import COUNTED
from tests.growth import astray
from tests.simulation.relay import Dot

if TYPE_CHECKING:
    from tests.simulation.seed import Run

_S = DeliveryState
_HAIR = 1e-6  # seconds: instants are sums of floats


def judge(run: Run) -> list[str]:
    """What is wrong; empty where the promise was kept."""
    for link in run.network.links:
        link.session.read_what_was_lost()
    with run.site.database.read() as session:
        rows = session.execute(sa.select(tables.deliveries)).all()
        batches = session.execute(sa.select(tables.batches)).all()
        evidence = {(row.delivery_id, row.number): row for row in session.execute(sa.select(tables.attempts))}
        state = mailings.get(session, run.template.mailing).state
        wrong_sums = astray(session)
    dots: dict[int, list[Dot]] = defaultdict(list)
    for dot in run.relay.dots:
        dots[dot.delivery].append(dot)
    run.counts["letters"] += len(run.relay.dots)
    run.counts["taken"] += sum(dot.taken_at is not None for dot in run.relay.dots)
    run.counts["uncertain"] += sum(row.state == _S.UNCERTAIN for row in rows)
    return [
        *(f"complaint: {complaint}" for complaint in run.world.complaints),
        *(f"wire: {fault}" for fault in run.relay.faults),
        *_no_loss(run, rows, batches, state),
        *_no_duplicate(run, rows, dots),
        *_uncertain_is_small(run, rows, dots, evidence),
        *_no_mail_after_goodbye(run, rows, dots),
        *(f"growth: {chain} sums up to {sums}, not {there}" for chain, (sums, there) in wrong_sums.items()),
    ]


def known_unsent(run: Run, dot: Dot) -> bool:
    """Whether the worker was told, in words that mean it, that the relay did not take this letter."""
    if dot.refused:
        return dot.answered_at is not None
    # Nothing after a 421 is executed, so whoever has read one knows of all that follows it.
    return dot.taken_at is None and run.network.links[dot.link].farewell_heard


def _no_loss(run: Run, rows: list[Any], batches: list[Any], state: MailingState) -> list[str]:
    wrong = []
    expected = len(run.template.addresses)
    gone_first = 0 if run.planned else len(run.facts.gone)
    if not expected - gone_first <= len(rows) <= expected and state is not MailingState.CANCELLED:
        wrong.append(f"G1: {expected} readers, {len(rows)} deliveries")
    counted: dict[tuple[int, str], int] = defaultdict(int)
    for row in rows:
        counted[row.batch_id, _S(row.state).label] += 1
        final = _S(row.state) in FINAL
        if not final and not (state is MailingState.PAUSED and row.state != _S.ATTEMPTING):
            wrong.append(f"G1: delivery {row.id} of a {state.value} mailing is {_S(row.state).label}")
    for batch in batches:
        differing = [name for name in COUNTED if getattr(batch, name) != counted[batch.id, name]]
        if differing:
            wrong.append(f"G1: batch {batch.id} counts its {', '.join(differing)} wrongly")
    return wrong


def _no_duplicate(run: Run, rows: list[Any], dots: dict[int, list[Dot]]) -> list[str]:
    wrong = []
    for row in rows:
        mine = dots[row.id]
        taken = [dot for dot in mine if dot.taken_at is not None]
        if len(taken) > 1:
            wrong.append(f"G2: delivery {row.id} was taken {len(taken)} times")
        open_ones = [dot for dot in mine if not known_unsent(run, dot)]
        if len(open_ones) > 1:
            wrong.append(f"G2: delivery {row.id} passed the dot {len(open_ones)} times that nobody can call refused")
        state = _S(row.state)
        if state is _S.ACCEPTED and not taken:
            wrong.append(f"G2: delivery {row.id} counts as accepted and was never taken")
        if taken and state not in {_S.ACCEPTED, _S.UNCERTAIN}:
            wrong.append(f"G2: delivery {row.id} was taken and counts as {state.label}")
    return wrong


def _uncertain_is_small(
    run: Run, rows: list[Any], dots: dict[int, list[Dot]], evidence: dict[tuple[int, int], Any]
) -> list[str]:
    wrong = []
    by_link: dict[int, int] = defaultdict(int)
    for row in rows:
        if row.state != _S.UNCERTAIN:
            continue
        found = evidence.get((row.id, row.attempts))
        if found is None or not found.reply or not row.reason:
            wrong.append(f"G3: delivery {row.id} is uncertain without evidence")
        if run.facts.power_cuts:
            continue  # then the bound is what was gated and unrecorded, which the rows are by their own states
        unknown = [dot for dot in dots[row.id] if not known_unsent(run, dot) and not _understood(dot)]
        if not unknown and not any(delivery == row.id for delivery, _ in run.relay.voided):
            wrong.append(f"G3: delivery {row.id} is uncertain, and no letter of it was past its dot and unanswered")
        elif unknown:
            by_link[unknown[-1].link] += 1
    for link, count in by_link.items():
        chunking = run.site.window and b"CHUNKING" in run.relay.whims.extensions
        if count > (run.site.window if chunking else 1):
            wrong.append(f"G3: link {link} left {count} letters uncertain")
    return wrong


def _understood(dot: Dot) -> bool:
    return dot.answered_at is not None and dot.said[:3] == b"250" and not dot.astray


def _no_mail_after_goodbye(run: Run, rows: list[Any], dots: dict[int, list[Dot]]) -> list[str]:
    wrong = []
    readers = {row.id: row.subscriber_id for row in rows} | run.template.readers
    for delivery, letters in dots.items():
        for dot in letters:
            gone = run.facts.gone.get(readers.get(delivery) or b"")
            if gone is not None and dot.body_at > gone + GATE_SECONDS + _HAIR:
                late = dot.body_at - gone
                wrong.append(f"G4: delivery {delivery} was written {late:.3f} s after its reader's goodbye")
            for since, until in run.facts.shut:
                if since + GATE_SECONDS + _HAIR < dot.body_at < until:
                    wrong.append(f"G4: delivery {delivery} was written while nothing may be sent")
    return wrong
