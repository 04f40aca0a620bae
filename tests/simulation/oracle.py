"""The promise, held against what the relay took and what the database says (docs/proof.md)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.delivery.send import GATE_SECONDS
from service.domain.delivery import FINAL, DeliveryState, SkipReason
from service.domain.mailing import MailingState
from service.store import mailings, tables
from service.store.tables import COUNTED
from tests.growth import astray
from tests.simulation.facts import Course
from tests.simulation.relay import Dot

if TYPE_CHECKING:
    from tests.simulation.seed import Run

_S = DeliveryState
_HAIR = 1e-6  # seconds: instants are sums of floats
_RENDITIONS = sa.select(tables.renditions.c.id, tables.renditions.c.chain, tables.renditions.c.subject)


@dataclass(frozen=True)
class Books:
    """What the database says in the end."""

    deliveries: list[Any]
    batches: list[Any]
    states: dict[int, MailingState]  # by mailing
    evidence: dict[tuple[int, int], Any]  # by delivery and attempt
    renditions: dict[int, Any]


@dataclass(frozen=True)
class Account:
    """One mailing: what its operator knows, what its rows say, and the letters of each of its deliveries."""

    course: Course
    state: MailingState
    rows: list[Any]
    batches: dict[int, Any]
    dots: dict[int, list[Dot]]


def judge(run: Run) -> list[str]:
    """What is wrong; empty where the promise was kept."""
    for link in run.network.links:
        link.session.read_what_was_lost()
    with run.site.database.read() as session:
        rows = session.execute(sa.select(tables.deliveries)).all()
        batches = session.execute(sa.select(tables.batches)).all()
        states = {one.id: one.state for one in mailings.everyone(session)}
        evidence = {(row.delivery_id, row.number): row for row in session.execute(sa.select(tables.attempts))}
        renditions = {row.id: row for row in session.execute(_RENDITIONS)}
        wrong_sums = astray(session)
    books = Books(rows, batches, states, evidence, renditions)
    dots: dict[int, list[Dot]] = defaultdict(list)
    for dot in run.relay.dots:
        dots[dot.delivery].append(dot)
    run.counts["letters"] += len(run.relay.dots)
    run.counts["taken"] += sum(dot.taken_at is not None for dot in run.relay.dots)
    run.counts["uncertain"] += sum(row.state == _S.UNCERTAIN for row in rows)
    return [
        *(f"complaint: {complaint}" for complaint in run.world.complaints),
        *(f"wire: {fault}" for fault in run.relay.faults),
        *(f"wire: there is no delivery {delivery}" for delivery in sorted(dots.keys() - {row.id for row in rows})),
        *(wrong for mailing in run.facts.courses for wrong in _of_mailing(run, books, mailing, dots)),
        *_no_issue_twice(run),
        *_uncertain_is_small(run, books, dots),
        *(f"growth: {chain} sums up to {sums}, not {there}" for chain, (sums, there) in wrong_sums.items()),
    ]


def _of_mailing(run: Run, books: Books, mailing: int, dots: dict[int, list[Dot]]) -> list[str]:
    rows = [row for row in books.deliveries if row.mailing_id == mailing]
    account = Account(
        run.facts.courses[mailing],
        books.states[mailing],
        rows,
        {batch.id: batch for batch in books.batches if batch.mailing_id == mailing},
        {row.id: dots[row.id] for row in rows if row.id in dots},
    )
    return [
        *_no_loss(run, account),
        *_no_duplicate(run, account),
        *_no_mail_after_goodbye(run, account),
        *_no_other_edition(account, books.renditions),
    ]


def known_unsent(run: Run, dot: Dot) -> bool:
    """Whether the worker was told, in words that mean it, that the relay did not take this letter."""
    if dot.refused:
        return dot.answered_at is not None
    # Nothing after a 421 is executed, so whoever has read one knows of all that follows it.
    return dot.taken_at is None and run.network.links[dot.link].farewell_heard


def _no_loss(run: Run, account: Account) -> list[str]:
    wrong = []
    course, rows, state = account.course, account.rows, account.state
    expected = len(course.audience)
    # Whom a relay does not know is no reader any more.
    gone_first = 0 if course.planned else len(course.audience & (run.facts.gone.keys() | run.relay.unknown))
    if not expected - gone_first <= len(rows) <= expected and state is not MailingState.CANCELLED:
        wrong.append(f"G1: {expected} readers, {len(rows)} deliveries")
    counted: dict[tuple[int, str], int] = defaultdict(int)
    for row in rows:
        counted[row.batch_id, _S(row.state).label] += 1
        final = _S(row.state) in FINAL
        if not final and not (state is MailingState.PAUSED and row.state != _S.ATTEMPTING):
            wrong.append(f"G1: delivery {row.id} of a {state.value} mailing is {_S(row.state).label}")
        chain = account.batches[row.batch_id].chain
        if row.reason == SkipReason.NO_EDITION.value and "en" in chain.split(","):
            wrong.append(f"G1: delivery {row.id} was skipped for want of an edition of {chain}, which there is")
    for batch in account.batches.values():
        differing = [name for name in COUNTED if getattr(batch, name) != counted[batch.id, name]]
        if differing:
            wrong.append(f"G1: batch {batch.id} counts its {', '.join(differing)} wrongly")
    return wrong


def _no_duplicate(run: Run, account: Account) -> list[str]:
    wrong = []
    for row in account.rows:
        mine = account.dots.get(row.id, [])
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


def _no_issue_twice(run: Run) -> list[str]:
    """As a reader counts, who knows of no deliveries: by address and issue, corrected or not."""
    taken = Counter((dot.recipient, dot.title.partition(" ")[0]) for dot in run.relay.dots if dot.taken_at is not None)
    return [f"G2: {reader} got {title!r} {times} times" for (reader, title), times in taken.items() if times > 1]


def _uncertain_is_small(run: Run, books: Books, dots: dict[int, list[Dot]]) -> list[str]:
    wrong = []
    by_link: dict[int, int] = defaultdict(int)
    for row in books.deliveries:
        if row.state != _S.UNCERTAIN:
            continue
        found = books.evidence.get((row.id, row.attempts))
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


def _no_mail_after_goodbye(run: Run, account: Account) -> list[str]:
    wrong = []
    for delivery, letters in account.dots.items():
        for dot in letters:
            if dot.recipient not in account.course.audience:
                wrong.append(f"G4: delivery {delivery} was written to a reader whom its mailing is not for")
            gone = run.facts.gone.get(dot.recipient)
            if gone is not None and dot.body_at > gone + GATE_SECONDS + _HAIR:
                late = dot.body_at - gone
                wrong.append(f"G4: delivery {delivery} was written {late:.3f} s after its reader's goodbye")
            for since, until in account.course.shut:
                if since + GATE_SECONDS + _HAIR < dot.body_at < until:
                    wrong.append(f"G4: delivery {delivery} was written while nothing may be sent")
    return wrong


def _no_other_edition(account: Account, renditions: dict[int, Any]) -> list[str]:
    """Who is mailed after a correction gets what was corrected, and the ledger knows who got which."""
    wrong = []
    for row in account.rows:
        for dot in account.dots.get(row.id, []):
            if not dot.title:
                continue  # not the letter of its recipient, which is a fault already
            allowed = account.course.titles_within(dot.body_at - GATE_SECONDS - _HAIR, dot.body_at)
            if dot.title not in allowed:
                wrong.append(f"G4: delivery {row.id} was written as {dot.title!r}, when it was to be {allowed[-1]!r}")
            frozen = renditions.get(account.batches[row.batch_id].rendition_id)
            taken = dot.taken_at is not None
            if taken and (frozen is None or (frozen.subject, frozen.chain) != (dot.title, dot.edition)):
                wrong.append(
                    f"ledger: delivery {row.id} was taken as {dot.title!r} for {dot.edition}, and says otherwise"
                )
    return wrong
