"""Confirmations that are answered at the same instant."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.domain.chains import Chain
from service.store import confirmations
from service.store.confirmations import State
from tests.unit.delivery.parts import wait_for_a_waiter

NOW = dt.datetime(2019, 6, 5, 7, 20, tzinfo=dt.UTC)
ADDRESS_HASH = bytes(32)


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_links_of_one_address_that_are_pressed_at_once_one_comes_first(postgresql_database, first):
    database = postgresql_database
    with database.begin() as session:
        days = (NOW - dt.timedelta(days=1), NOW)
        ids = [confirmations.add(session, ADDRESS_HASH, Chain(("be",)), text_version=1, now=day) for day in days]

    def press(row_id):
        with database.begin() as session:
            held = confirmations.hold(session, row_id)
            confirmations.close(session, ADDRESS_HASH)
        return held.state

    with ThreadPoolExecutor(1) as other:
        with database.begin() as session:
            held = confirmations.hold(session, ids[first])
            second = other.submit(press, ids[1 - first])
            wait_for_a_waiter(database)
            confirmations.close(session, ADDRESS_HASH)
        assert (held.state, second.result(timeout=60)) == (State.OPEN, State.CONFIRMED)
