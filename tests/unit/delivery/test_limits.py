"""Daily caps: what is known of them, and what is given back to them."""

from __future__ import annotations

import asyncio
import datetime as dt
import threading

from service.delivery.account import Account
from service.delivery.limits import Limits
from service.delivery.meter import Meter
from service.delivery.offload import Offload
from service.domain.limits import Limit
from service.store import limits
from service.store.batches import Claim
from tests.unit.delivery.parts import NOW

DAY = NOW.date()


def test_a_limit_that_is_taken_away_as_its_cap_is_found_used_up_stops_nobody(database):
    with database.begin() as session:
        limits.save(session, "provider:gmail", Limit(per_day=5), now_ms=0)
    known = Limits({})
    with database.begin() as session:
        known.read(session, NOW)
    assert known.caps(["provider:gmail"], NOW) == {"provider:gmail": 5}
    with database.begin() as session:
        limits.remove(session, "provider:gmail")
        known.read(session, NOW)

    known.note_spent("provider:gmail", NOW)

    assert not known.spent("provider:gmail", NOW)


def test_two_that_give_back_to_a_cap_and_take_of_another_lock_each_other_out_of_nothing(postgresql_database):
    database, (one, other) = postgresql_database, ("relay:a:25", "relay:b:25")
    with database.begin() as session:
        limits.left(session, {one: 100, other: 100}, DAY)
        limits.count(session, [one, other], DAY, 20)
    both = threading.Barrier(2, timeout=30)

    def work(gives, takes):
        account = Account(
            *(database, Offload(), Limits({}), Meter(), lambda: dt.datetime.now(dt.UTC), lambda: False),
            Claim(1, 1, "en", None, 1),
            lambda: None,
        )
        account.unused((gives,), DAY)

        def first(session):
            if not done.is_set():
                both.wait()
            limits.left(session, {takes: 100}, DAY)

        asyncio.run(account.transaction(lambda _session: done.set(), first=first))
        account.offload.close()

    done = threading.Event()
    others = threading.Thread(target=work, args=(other, one))
    others.start()
    work(one, other)
    others.join()

    with database.read() as session:
        assert limits.counted(session, DAY) == {one: 19, other: 19}
