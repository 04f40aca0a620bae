"""Notices: made once, claimed by one, rung until they are settled, recovered."""

from dataclasses import dataclass, field

import pytest

from service.audience.reader_notices import tell
from service.delivery import notices
from service.domain.chains import Chain
from service.domain.delivery import DeliveryState
from service.domain.reader_notices import GOODBYE, MOVE, MOVED, REQUEST
from service.domain.replies import ReplyClass
from service.domain.signup import NEWEST_ISSUE, WELCOME
from service.domain.subscriber import RequestPurpose, SubscriberStatus
from service.domain.tokens import hour_of
from service.domain.weeks import Week
from service.mail.autopsy import Fate, Verdict
from service.queue import SEND_NOTICE
from service.store import confirmations, requests, subscribers
from service.store import notices as store
from service.store.tables import notices as table
from service.store.tables import subscribers as subscriber_table
from tests.factories import OPERATORS, save_publication
from tests.fakes import FakeBell
from tests.unit.delivery.post import ADDRESS, MINUTE, NOW, PARAMETERS, enqueue, made, row, state

# Made once


def test_a_notice_is_rung_once_it_is_committed(database):
    bell = FakeBell()
    with database.begin() as session:
        notice = enqueue(session, bell)
        assert bell.rung == []
    assert bell.rung == [(SEND_NOTICE, notice)]


def test_a_notice_that_is_rolled_back_is_not_rung(database):
    bell = FakeBell()
    with pytest.raises(ZeroDivisionError), database.begin() as session:  # noqa: PT012
        enqueue(session, bell)
        1 / 0  # noqa: B018
    assert bell.rung == []


def test_asking_twice_for_a_notice_makes_one(database):
    bell = FakeBell()
    with database.begin() as session:
        first = enqueue(session, bell)
        assert enqueue(session, bell) is None
        assert enqueue(session, bell, once="trouble:2") not in {None, first}
    assert len(bell.rung) == 2


def test_the_row_holds_no_address_that_can_be_read(database):
    notice = made(database, parameters={"words": [f"ask {ADDRESS}", {"to": ADDRESS}], "count": 2})
    stored = row(database, notice)
    assert "canary" not in repr(tuple(stored))
    assert stored.parameters == {"words": ["ask <address>", {"to": "<address>"}], "count": 2}
    with database.read() as session:
        assert session.sealer.open(stored.seal_id, stored.sealed) == ADDRESS


def test_every_operator_is_told_once_in_the_publications_first_language(database):
    bell = FakeBell()

    def tell():
        with database.begin() as session:
            known = save_publication(session, languages=("be", "ru", "en"))
            return notices.tell_operators(
                session, bell, notices.MAILING_TROUBLE, once="m:1", parameters=PARAMETERS, publication=known, now=NOW
            )

    assert (tell(), tell()) == (len(OPERATORS), 0)
    with database.read() as session:
        rows = session.execute(table.select()).all()
    assert {stored.language for stored in rows} == {"be"}
    assert all("@" not in stored.once for stored in rows)
    assert len(bell.rung) == len(OPERATORS)


# Claimed by one


def test_one_of_two_workers_gets_a_notice(database):
    notice = made(database)
    with database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        assert store.claim(session, notice, sender=2, lease_seconds=60) is None
    assert (held.id, held.kind, held.attempts) == (notice, notices.MAILING_TROUBLE, 0)


def test_a_worker_whose_lease_ended_passes_no_gate(database):
    notice = made(database)
    with database.begin() as session:
        slow = store.claim(session, notice, sender=1, lease_seconds=0)
        quick = store.claim(session, notice, sender=2, lease_seconds=60)
        assert store.pass_gate(session, slow, sender=1, now=NOW) is None
        gated = store.pass_gate(session, quick, sender=1, now=NOW)
        assert (gated.attempt, gated.address) == (1, ADDRESS)
        assert store.pass_gate(session, quick, sender=1, now=NOW) is None
        assert not store.still_open(session, slow, 1, now=NOW)
        assert store.still_open(session, quick, 1, now=NOW)
        store.take_back(session, slow, due_at=NOW)
    assert state(database, notice) is DeliveryState.ATTEMPTING


def test_an_address_shows_in_no_representation(database):
    notice = made(database)
    with database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        gated = store.pass_gate(session, held, sender=1, now=NOW)
    assert "canary" not in repr((held, gated))


# Rung again


def test_a_lost_hint_costs_a_minute(database):
    notice = made(database)
    bell = FakeBell()

    def sweep(now):
        with database.begin() as session:
            return notices.ring_due(session, bell, now=now)

    assert sweep(NOW + 0.9 * MINUTE) == 0
    assert sweep(NOW + MINUTE) == 1
    assert bell.heard(SEND_NOTICE) == [notice]
    assert sweep(NOW + 1.5 * MINUTE) == 0
    assert sweep(NOW + 2 * MINUTE) == 1


def test_a_notice_in_somebodys_hands_is_not_rung(database):
    notice = made(database)
    with database.begin() as session:
        store.claim(session, notice, sender=1, lease_seconds=3600)
        assert store.due(session, NOW + 2 * MINUTE) == []


def test_a_deferred_notice_is_rung_when_it_is_due(database):
    notice = made(database)
    with database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        store.pass_gate(session, held, sender=1, now=NOW)
        assert store.record(session, notice, 1, DeliveryState.DEFERRED, due_at=NOW + 30 * MINUTE, reason="4.7.1")
        assert store.claim(session, notice, sender=1, lease_seconds=60) is None
        assert store.due(session, NOW + 29 * MINUTE) == []
        assert store.due(session, NOW + 30 * MINUTE) == [notice]
        assert store.claim(session, notice, sender=1, lease_seconds=60) is not None


READER = bytes(range(16))
ELSEWHERE = "moved-canary@example.org"
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def links(database):
    """Those of notices to READER, who is active, wants to move and has asked for the data."""
    with database.begin() as session:
        week = Week.of(NOW.date())
        subscribers.add(session, ADDRESS, Chain(("be",)), status=SubscriberStatus.ACTIVE, consent="test", week=week)
        session.execute(subscriber_table.update().values(id=READER))
        moving = confirmations.add(
            session,
            session.sealer.address_hash(ELSEWHERE),
            Chain(("be",)),
            text_version=1,
            now=NOW,
            mover=(READER, 0, ELSEWHERE),
        )
        asked = requests.add(session, READER, 0, RequestPurpose.DATA, now=NOW)
    hour = hour_of(NOW)
    return {"preferences": [READER.hex(), 0], "confirm": [moving.hex(), hour], "request": [asked.hex(), hour]}


def told(database, kind, links, about=b"a" * 16, reader=READER):
    """What the reader is told, as use-cases tell it; the id of the notice."""
    bell = FakeBell()
    with database.begin() as session:
        tell(
            session,
            bell,
            kind,
            about=about,
            address=ELSEWHERE if kind == MOVE else ADDRESS,
            chain=Chain(("be",)),
            links=links,
            reader=reader,
            now=NOW,
        )
    return next(iter(bell.heard(SEND_NOTICE)), None)


def attempted(database, notice, state=None):
    """The notice is being written; with a `state` it was, and that came of it."""
    with database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        store.pass_gate(session, held, sender=1, now=NOW)
        if state is not None:
            assert store.record(session, notice, 1, state, due_at=NOW + MINUTE)


@pytest.mark.parametrize("state", [DeliveryState.ACCEPTED, DeliveryState.REFUSED, DeliveryState.EXPIRED])
@pytest.mark.parametrize("kind", [WELCOME, GOODBYE, REQUEST, MOVE, MOVED, NEWEST_ISSUE])
def test_of_a_notice_that_is_settled_neither_reader_nor_hour_is_left_and_none_comes_twice(database, links, kind, state):
    notice = told(database, kind, links)
    attempted(database, notice, state)
    stored = row(database, notice)
    assert READER.hex() not in repr(stored)
    assert repr(READER) not in repr(stored)
    assert (stored.made_at % DAY_MS, stored.due_at % DAY_MS, stored.rung_at) == (0, 0, 0)
    assert 0 <= int(NOW.timestamp() * 1000) - stored.made_at < DAY_MS
    assert told(database, kind, links) is None
    assert told(database, kind, links, about=b"b" * 16) is not None


@pytest.mark.parametrize("state", ["pending", "attempting", "deferred", "uncertain"])
def test_whatever_waits_for_a_reader_who_is_erased_goes_and_what_is_heard_of_it_counts_no_more(database, links, state):
    notice, others = told(database, WELCOME, links), told(database, WELCOME, links, b"c" * 16, b"o" * 16)
    if state != "pending":
        attempted(database, notice, None if state == "attempting" else DeliveryState[state.upper()])
    with database.begin() as session:
        store.forget(session, READER)
        assert not store.record(session, notice, 1, DeliveryState.DEFERRED, due_at=NOW + MINUTE)
    stored = row(database, notice)
    assert (DeliveryState(stored.state), stored.sealed, stored.made_at % DAY_MS) == (DeliveryState.SKIPPED, b"", 0)
    assert READER.hex() not in repr(stored)
    assert DeliveryState(row(database, others).state) is DeliveryState.PENDING
    with database.begin() as session:
        assert store.due(session, NOW + 60 * MINUTE) == [others]


def test_only_final_notices_are_forgotten(database):
    kept, done = made(database), made(database, once="trouble:2")
    with database.begin() as session:
        held = store.claim(session, done, sender=1, lease_seconds=60)
        store.pass_gate(session, held, sender=1, now=NOW)
        store.record(session, done, 1, DeliveryState.ACCEPTED, due_at=NOW)
        # Of a final one, the day is known.
        today = NOW.replace(hour=0)
        assert store.prune(session, today) == 0
        assert store.prune(session, today + MINUTE) == 1
    with database.read() as session:
        assert [stored.id for stored in session.execute(table.select())] == [kept]


# Recovered


@dataclass
class Contents:
    """A journal as read back, as far as notices look into it."""

    sender_id: int = 1
    verdicts: dict = field(default_factory=dict)

    def verdict(self, number, attempt):
        return self.verdicts.get((number, attempt), Verdict(Fate.NOT_SENT))


def left_open(database):
    notice = made(database)
    with database.begin() as session:
        store.pass_gate(session, store.claim(session, notice, sender=1, lease_seconds=3600), sender=1, now=NOW)
    return notice


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict(Fate.NOT_SENT), DeliveryState.PENDING),
        (Verdict(Fate.UNCERTAIN), DeliveryState.UNCERTAIN),
        (Verdict(Fate.REPLIED, ReplyClass.ACCEPTED, 250), DeliveryState.ACCEPTED),
        (Verdict(Fate.REPLIED, ReplyClass.TRANSIENT, 451), DeliveryState.DEFERRED),
        (Verdict(Fate.REPLIED, ReplyClass.HARD, 550, "5.1.1"), DeliveryState.REFUSED),
    ],
)
def test_the_journal_of_a_dead_worker_decides(database, verdict, expected):
    notice = left_open(database)
    contents = Contents(verdicts={(-notice, 1): verdict})
    with database.begin() as session:
        assert notices.settle_journal(session, contents, now=NOW) == 1
    assert state(database, notice) is expected
    wiped = expected in {DeliveryState.ACCEPTED, DeliveryState.REFUSED}
    assert (row(database, notice).sealed == b"") is wiped


def test_the_journal_of_another_sender_decides_nothing(database):
    notice = left_open(database)
    with database.begin() as session:
        assert notices.settle_journal(session, Contents(sender_id=2), now=NOW) == 0
    assert state(database, notice) is DeliveryState.ATTEMPTING


def test_a_host_that_stays_away_leaves_notices_uncertain_until_it_returns(database):
    notice = left_open(database)
    with database.begin() as session:
        assert notices.give_up(session, 1, now=NOW) == 1
        assert notices.give_up(session, 1, now=NOW) == 0
    assert state(database, notice) is DeliveryState.UNCERTAIN
    contents = Contents(verdicts={(-notice, 1): Verdict(Fate.REPLIED, ReplyClass.ACCEPTED, 250)})
    with database.begin() as session:
        notices.settle_journal(session, contents, now=NOW)
    assert state(database, notice) is DeliveryState.ACCEPTED
