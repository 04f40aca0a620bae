"""Who moves or chooses other languages gets one letter, wherever the worker is at that moment: the gate decides which."""

from __future__ import annotations

import email
import email.policy
import time
from dataclasses import dataclass

import pytest
import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.delivery import DeliveryState
from service.domain.subscriber import SuppressionReason
from service.domain.weeks import Week
from service.store import subscribers, suppressions, tables
from tests.chaos import arming
from tests.chaos.arming import Order
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_scarcity import everybody_has_one, sending

pytestmark = pytest.mark.slow

WEEK = Week.parse("2019-W22")
READERS = 240
# Longer than a gate is good for: what was let through by then is asked for again.
TOO_LONG = 1.2
# As long as a gate surely is good for.
SURELY_GOOD = 0.9
BEFORE = ("before-tokens", "after-tokens", "before-gate", "gate-commit")
AFTER = ("after-gate", "before-mail", "before-dot-record", "after-dot-record")
HELD = [*((point, TOO_LONG) for point in BEFORE), *((point, 0.0) for point in AFTER), ("after-gate", TOO_LONG)]


@dataclass(frozen=True)
class Changed:
    """A reader who changed while a worker held still; `gated` is when he was let through before, if he was."""

    point: str
    seconds: float
    reader: bytes
    old: str
    new: str
    chain: str
    gated: float | None


def at_stake(made, point, known):
    """Some whom nobody has begun to write to: those who come next, or those who were gated in this very moment."""
    d, s = tables.deliveries, tables.subscribers
    gated = point in AFTER
    state = DeliveryState.ATTEMPTING if gated else DeliveryState.PENDING
    found = sa.select(s.c.id, s.c.sealed, d.c.at).join(s, s.c.id == d.c.subscriber_id).where(d.c.state == int(state))
    with made.database.read() as session:
        rows = session.execute(found.order_by(d.c.at.desc() if gated else d.c.id, d.c.id)).all()
        fresh = [row for row in rows if row.id not in known]
        return [
            (row.id, session.sealer.open(row.id, row.sealed), row.at / 1000 if gated else None) for row in fresh[:6]
        ]


def change(made, point, seconds, known):
    """Every second one moves, as a confirmed new address has it; the others choose Russian."""
    changed = []
    chosen = at_stake(made, point, known)
    with made.database.begin() as session:
        for number, (reader, old, gated) in enumerate(chosen):
            new, chain = old, "en"
            if number % 2:
                subscribers.set_chain(session, reader, Chain(("ru",)), week=WEEK)
                chain = "ru"
            else:
                new = f"moved-{old}"
                before = subscribers.get(session, reader)
                subscribers.move(session, before, new)
                suppressions.add(session, before.address_hash, SuppressionReason.ERASED, WEEK)
            changed.append(Changed(point, seconds, reader, old, new, chain, gated))
    return changed


def too_late(changed):
    """Whether those should go as they were gated, and none of them surely can any more."""
    gated = [one.gated for one in changed if not one.seconds and one.gated is not None]
    return bool(gated) and time.time() >= max(gated) + SURELY_GOOD


def letters(made):
    """By recipient, when the relay took each letter and in which language it is."""
    languages = {}
    for octets in made.sink.messages:
        message = email.message_from_bytes(octets, policy=email.policy.default)
        languages[message["Message-ID"]] = message["Content-Language"]
    found = {}
    for entry in made.sink.entries():
        found.setdefault(entry.recipient, []).append((entry.at, languages[entry.message_id]))
    return found


def test_who_moves_or_chooses_a_language_while_a_worker_holds_still_at_any_point_gets_one_letter(
    postgresql_database, tmp_path
):
    orders = tmp_path / "orders"
    orders.mkdir()
    with sending(
        tmp_path / "run",
        url_of(postgresql_database),
        READERS,
        chains=("en",),
        own_process=False,
        hide={"CHUNKING"},
        batch_size=40,
        rate=60,
    ) as made:
        made.environment["CHAOS_ORDERS"] = str(orders)
        made.start_worker("-Q", "bulk", concurrency=1, app="tests.chaos.worker")
        changed, to_hold, number = [], list(HELD), 0
        arming.give_orders(orders, Order("0", HELD[0][0], "hold"))
        mailing = made.send()
        while to_hold:
            point, seconds = to_hold[0]
            made.wait_for(lambda number=number: arming.done(orders, f"{number}"), 60, point)
            these = change(made, point, seconds, {one.reader for one in changed})
            changed += these
            time.sleep(seconds)
            # Where all in hand have changed before, or on a slow machine their gate is too old by now, the next time does.
            to_hold = to_hold if not these or too_late(these) else to_hold[1:]
            held, number = number, number + 1
            arming.give_orders(orders, *(Order(f"{number}", name, "hold") for name, _ in to_hold[:1]))
            arming.release(orders, f"{held}")
        made.wait_for(lambda: is_sent(made, mailing), 90)
        everybody_has_one(made, mailing, READERS)
        taken = letters(made)
        as_gated = 0
        for one in changed:
            copies = taken.get(one.old, []) + (taken.get(one.new, []) if one.new != one.old else [])
            # Never both, never none.
            assert len(copies) == 1, one
            ((at, language),) = copies
            is_new = one.new in taken and language == one.chain
            is_old = one.old in taken and language == "en"
            assert is_new != is_old, one
            if one.seconds or one.gated is None:
                # Within the transaction of a gate, whose statement may have read before or after.
                assert is_new or one.point == "gate-commit", one
            elif at < one.gated + SURELY_GOOD:
                as_gated += 1
                assert is_old, one
        assert as_gated >= len(AFTER)
        assert {one.point for one in changed} == {*BEFORE, *AFTER}
