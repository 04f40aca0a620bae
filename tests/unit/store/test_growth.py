"""Sums of who came and who left: with the transaction or not at all, once per key, and in one order."""

import contextlib
import threading

import pytest
import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.growth import Change
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.store import DuplicateError, growth, subscribers
from service.store.engine_tables import growth as table
from service.store.subscribers import prepared
from tests.growth import astray, rows, sums
from tests.unit.delivery.parts import wait_for_a_waiter
from tests.unit.store.statements import counted

WEEK, NEXT = Week(2019, 23), Week(2019, 24)
BE, EN = Chain(("be",)), Chain(("en",))
ACTIVE = SubscriberStatus.ACTIVE


def add(session, name, chain=BE, status=ACTIVE, week=WEEK):
    return subscribers.add(session, f"{name}@reader.test", chain, status=status, consent=None, week=week)


def test_a_reader_is_counted_from_one_chain_to_another_and_out(database):
    with database.begin() as session:
        ann, bob = add(session, "ann"), add(session, "bob")
        pending = add(session, "eve", status=SubscriberStatus.PENDING)
    with database.begin() as session:
        subscribers.activate(session, pending.id, EN, consent="a form", week=NEXT)
        subscribers.set_chain(session, ann.id, EN, week=NEXT)
        subscribers.set_status(session, bob.id, SubscriberStatus.UNSUBSCRIBED, week=NEXT)
    with database.begin() as session:
        subscribers.erase(session, ann.id, week=NEXT)
    assert sums(database) == {
        ("2019-W23", "be"): {"added": 2},
        ("2019-W24", "be"): {"changed": -1, "left": 1},
        ("2019-W24", "en"): {"confirmed": 1, "changed": 1, "left": 1},
    }
    with database.read() as session:
        assert astray(session) == {}
        assert subscribers.active(session) == {"en": 1}


def test_who_was_not_active_is_counted_nowhere(database):
    with database.begin() as session:
        for status in set(SubscriberStatus) - {ACTIVE}:
            reader = add(session, status.value, status=status)
            subscribers.set_chain(session, reader.id, EN, week=WEEK)
            subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=WEEK)
            subscribers.erase(session, reader.id, week=WEEK)
        subscribers.activate(session, b"x" * 16, BE, consent="", week=WEEK)
        subscribers.set_chain(session, b"x" * 16, EN, week=WEEK)
    assert rows(database) == 0


def test_the_same_again_is_counted_once(database):
    with database.begin() as session:
        reader = add(session, "ann", status=SubscriberStatus.PENDING)
        for _ in range(2):
            subscribers.activate(session, reader.id, BE, consent="a form", week=WEEK)
            subscribers.set_chain(session, reader.id, BE, week=WEEK)
    for _ in range(2):
        with database.begin() as session:
            subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=WEEK)
    for _ in range(2):
        with database.begin() as session:
            subscribers.erase(session, reader.id, week=WEEK)
    assert sums(database) == {("2019-W23", "be"): {"confirmed": 1, "left": 1}}


def test_what_is_taken_back_is_not_counted(database):
    with contextlib.suppress(RuntimeError), database.begin() as session:
        add(session, "ann")
        raise RuntimeError
    with database.begin() as session:
        add(session, "bob")
        with pytest.raises(DuplicateError):
            add(session, "bob")
    assert sums(database) == {("2019-W23", "be"): {"added": 1}}


def test_there_and_back_in_one_transaction_writes_nothing(database):
    with database.begin() as session:
        reader = add(session, "ann", status=SubscriberStatus.PENDING)
        subscribers.activate(session, reader.id, BE, consent="", week=WEEK)
        subscribers.set_chain(session, reader.id, EN, week=WEEK)
        subscribers.set_chain(session, reader.id, BE, week=WEEK)
    assert rows(database) == 1


def new_rows(database, count):
    return [
        prepared(
            database.sealer,
            f"reader{number}@reader.test",
            BE if number % 2 else EN,
            status=ACTIVE if number % 5 else SubscriberStatus.UNSUBSCRIBED,
            consent=None,
            week=Week(2015, 1),
        )
        for number in range(count)
    ]


def test_many_at_once_cost_one_statement_and_count_who_went_in(database):
    with database.begin() as session:
        add(session, "reader1", week=NEXT)
        add(session, "reader0", week=NEXT)
    with counted(database) as statements, database.begin() as session:
        assert subscribers.insert(session, new_rows(database, 1000), week=NEXT) == 998
    assert sum("INTO growth" in statement for statement in statements) == 1
    # In the week in which they were added, not in the one in which they joined some other list.
    assert sums(database) == {("2019-W24", "be"): {"added": 401}, ("2019-W24", "en"): {"added": 400}}
    with database.read() as session:
        assert astray(session) == {}


def test_a_transaction_that_changes_no_reader_asks_for_nothing_more(database):
    with counted(database) as statements, database.begin() as session:
        session.execute(sa.select(table))
    assert not [statement for statement in statements if "INTO growth" in statement]


def test_two_transactions_in_opposite_orders_wait_for_each_other_in_no_circle(postgresql_database):
    """Both come to write while a third holds the sum that both need: whoever had written another first would hang."""
    database = postgresql_database
    with database.begin() as session:
        for chain in (BE, EN):
            growth.note(session, WEEK, str(chain), Change.ADDED)
    failed = []

    def work(order):
        try:
            with database.begin() as session:
                for chain in order:
                    growth.note(session, WEEK, chain, Change.ADDED)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(order,)) for order in (("be", "en"), ("en", "be"))]
    with database.begin() as session:
        held = sa.and_(table.c.week == str(WEEK), table.c.chain == "be")
        session.execute(sa.select(table).where(held).with_for_update())
        for thread in threads:
            thread.start()
        wait_for_a_waiter(database, waiters=2)
    for thread in threads:
        thread.join()
    assert not failed
    assert sums(database) == {("2019-W23", "be"): {"added": 3}, ("2019-W23", "en"): {"added": 3}}


def test_two_confirmations_of_one_reader_at_once_are_counted_once(postgresql_database):
    database = postgresql_database
    with database.begin() as session:
        reader = add(session, "ann", status=SubscriberStatus.PENDING)

    def confirm():
        with database.begin() as session:
            subscribers.activate(session, reader.id, EN, consent="", week=WEEK)

    with database.begin() as session:
        subscribers.activate(session, reader.id, BE, consent="", week=WEEK)
        thread = threading.Thread(target=confirm)
        thread.start()
        wait_for_a_waiter(database)
    thread.join()
    assert sums(database) == {
        ("2019-W23", "be"): {"confirmed": 1, "changed": -1},
        ("2019-W23", "en"): {"changed": 1},
    }


def test_who_leaves_and_bounces_at_once_goes_once(postgresql_database):
    database = postgresql_database
    with database.begin() as session:
        reader = add(session, "ann")

    def leave():
        with database.begin() as session:
            subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=WEEK)

    with database.begin() as session:
        subscribers.set_status(session, reader.id, SubscriberStatus.BOUNCED, week=WEEK)
        thread = threading.Thread(target=leave)
        thread.start()
        wait_for_a_waiter(database)
    thread.join()
    assert sums(database) == {("2019-W23", "be"): {"added": 1, "bounced": 1}}
    with database.read() as session:
        assert subscribers.get(session, reader.id).status is SubscriberStatus.UNSUBSCRIBED
