"""Who leaves is mailed no more, wherever the worker is at that moment (G4)."""

from __future__ import annotations

import datetime as dt
import time

import pytest
import sqlalchemy as sa

from service.audience.departures import Nowhere, leave
from service.audience.erasure import erase
from service.domain.delivery import DeliveryState, SkipReason
from service.domain.subscriber import SuppressionReason
from service.domain.weeks import Week
from service.store import subscribers, suppressions, tables
from tests.chaos import arming
from tests.chaos.arming import Order
from tests.chaos.run import hurried
from tests.chaos.test_faults import is_sent, url_of
from tests.installation import audit, installed
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

POINTS = ("before-tokens", "after-tokens", "before-gate", "gate-commit", "after-gate")
WEEK = Week.parse("2019-W22")


def at_stake(made, point):
    """Addresses and ids of some whom nobody has begun to write to: not gated yet, or gated in this very moment."""
    d, s = tables.deliveries, tables.subscribers
    state = DeliveryState.ATTEMPTING if point == "after-gate" else DeliveryState.PENDING
    found = sa.select(s.c.id, s.c.sealed, d.c.at).join(s, s.c.id == d.c.subscriber_id).where(d.c.state == int(state))
    with made.database.read() as session:
        rows = session.execute(found.order_by(d.c.id)).all()
        if point == "after-gate":
            newest = max(row.at for row in rows)
            rows = [row for row in rows if row.at == newest]
        return [(session.sealer.open(row.id, row.sealed), row.id) for row in rows[:6]]


def depart(made, chosen):
    """Two unsubscribe, two are erased, two are suppressed."""
    now = dt.datetime.now(dt.UTC)
    with made.database.begin() as session:
        for number, (_, reader) in enumerate(chosen):
            if number % 3 == 0:
                leave(session, subscribers.get(session, reader), WEEK)
            elif number % 3 == 1:
                erase(session, Nowhere(), subscribers.get(session, reader), actor="test", now=now)
            else:
                hashed = subscribers.get(session, reader).address_hash
                suppressions.add(session, hashed, SuppressionReason.BOUNCED, WEEK)


def test_who_leaves_while_a_worker_holds_still_at_any_point_is_not_mailed(postgresql_database, tmp_path):
    orders = tmp_path / "orders"
    orders.mkdir()
    with installed(
        tmp_path / "run",
        url_of(postgresql_database),
        rules=[Rule("DOT", delay=0.02)],
        own_process=True,
        hide={"CHUNKING"},
        batch_size=30,
        rate=60,
    ) as made:
        made.environment["CHAOS_ORDERS"] = str(orders)
        made.fill(300)
        made.start_worker("-Q", "bulk", concurrency=1, app="tests.chaos.worker")
        gone = set()
        with hurried(made):
            made.start_sweeps()
            arming.give_orders(orders, Order(POINTS[0], POINTS[0], "hold", skip=1))
            mailing = made.send()
            for number, point in enumerate(POINTS):
                made.wait_for(lambda point=point: arming.done(orders, point), 60, point)
                chosen = at_stake(made, point)
                depart(made, chosen)
                gone |= set(chosen)
                # Longer than a gate is good for: what was let through before they left is worth nothing any more.
                time.sleep(1.2)
                following = POINTS[number + 1 : number + 2]
                arming.give_orders(orders, *(Order(name, name, "hold", skip=1) for name in following))
                arming.release(orders, point)
            made.wait_for(lambda: is_sent(made, mailing), 90)
        audit(made, mailing).complain()
        mailed = {entry.recipient for entry in made.sink.entries()}
        assert len(gone) > 10
        assert mailed.isdisjoint(address for address, _ in gone)
        reasons = [reason for state, reason in made.states(mailing).values() if state is DeliveryState.SKIPPED]
        assert len(reasons) == len(gone)
        assert {SkipReason.UNSUBSCRIBED.value, SkipReason.ERASED.value, SkipReason.SUPPRESSED.value} >= set(reasons)
