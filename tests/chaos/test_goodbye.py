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
from tests.installation import _SIGNER, audit, installed, unanswered
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

PLANNING = ("plan-after-rendering", "plan-before-start")
GATED = ("after-gate", "before-mail", "after-dot-record")
# There a letter is under way: it goes on, and nothing follows it.
UNDER_WAY = ("before-mail", "after-dot-record")
POINTS = (
    *PLANNING, "after-claim", "after-prepare", "before-tokens", "after-tokens", "before-gate", "gate-commit", *GATED,
)  # fmt: skip
READERS = 600
WEEK = Week.parse("2019-W22")


def at_stake(made, point, before):
    """Addresses and ids of some whom nobody has begun to write to: not gated yet, or gated in this very moment.

    Those who come next are of the batch in hand; who left `before` is not asked about again.
    Where a letter is under way, all that were gated and that the relay has not taken.
    """
    b, d, s = tables.batches, tables.deliveries, tables.subscribers
    state = DeliveryState.ATTEMPTING if point in GATED else DeliveryState.PENDING
    wanted = (
        sa.select(s.c.id, s.c.sealed, d.c.at)
        .join(s, s.c.id == d.c.subscriber_id)
        .where(d.c.state == int(state))
        .join(b, b.c.id == d.c.batch_id)
        .order_by(b.c.lease_until.desc(), d.c.id)
    )
    if point == "plan-after-rendering":  # there are no deliveries yet
        wanted = sa.select(s.c.id, s.c.sealed).order_by(s.c.id)
    with made.database.read() as session:
        rows = session.execute(wanted).all()
        if point == "after-gate":
            newest = max(row.at for row in rows)
            rows = [row for row in rows if row.at == newest]
        opened = [(session.sealer.open(row.id, row.sealed), row.id) for row in rows]
        found = [one for one in opened if one[0] not in before]
    if point not in UNDER_WAY:
        return found[:6]
    # The worker stands still, and the relay takes what it has been handed over: all but the one that is held at its dot,
    # or whose dot is on record and goes out with the envelope that is held.
    made.wait_for(lambda: len(past_dot(made) - arrived(made)) <= 1, why=f"not taken at {point}")
    taken = {entry.recipient for entry in made.sink.entries()}
    return [one for one in found if one[0] not in taken]


def past_dot(made):
    """The deliveries whose dot is on record and has no reply yet."""
    journals = (made.folder / "data" / "journals").glob("*.journal")
    return set().union(*map(unanswered, journals))


def arrived(made):
    """The deliveries that the relay has taken."""
    return {_SIGNER.read_envelope(entry.mail_from.partition("@")[0]) for entry in made.sink.entries()}


def order(point):
    """To hold there: not with the first that comes by; but a task plans once, and claims once before others follow.

    The next gates may be for those alone who have just left, and let nobody through.
    """
    return Order(point, point, "hold", skip=0 if point in (*PLANNING, "after-claim") else 8 if point in GATED else 1)


def depart(made, chosen):
    """A third unsubscribes, a third is erased, a third suppressed."""
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
        rate=200,
    ) as made:
        made.environment["CHAOS_ORDERS"] = str(orders)
        made.fill(READERS)
        made.start_worker("-Q", "bulk", concurrency=1, app="tests.chaos.worker")
        gone = {}
        with hurried(made):
            made.start_sweeps()
            arming.give_orders(orders, order(POINTS[0]))
            mailing = made.send()
            for number, point in enumerate(POINTS):
                made.wait_for(lambda point=point: arming.done(orders, point), 60, point)
                chosen = at_stake(made, point, set().union(*gone.values()))
                depart(made, chosen)
                gone[point] = {address for address, _ in chosen}
                # Longer than a gate is good for: what was let through before they left is worth nothing any more.
                time.sleep(1.2)
                following = POINTS[number + 1 : number + 2]
                arming.give_orders(orders, *map(order, following))
                arming.release(orders, point)
            made.wait_for(lambda: is_sent(made, mailing), 90)
        audit(made, mailing).complain()
        mailed = {entry.recipient for entry in made.sink.entries()}
        left = {point: len(gone[point]) for point in POINTS}
        assert all(left.values()), left
        written = {point: len(mailed & gone[point]) for point in POINTS}
        under_way = written.pop("before-mail"), written.pop("after-dot-record")
        assert not any(written.values()), written
        assert under_way[0] <= 1
        assert under_way[1] == 1
        states = made.states(mailing)
        reasons = [reason for state, reason in states.values() if state is DeliveryState.SKIPPED]
        # Who left before the audience was frozen is not of it.
        unplanned = len(gone["plan-after-rendering"])
        assert len(states) == READERS - unplanned
        assert len(reasons) == sum(map(len, gone.values())) - unplanned - sum(under_way)
        assert {SkipReason.UNSUBSCRIBED.value, SkipReason.ERASED.value, SkipReason.SUPPRESSED.value} >= set(reasons)
