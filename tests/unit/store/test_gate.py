"""The send gate: who passes, who is skipped or moved, and what shuts it."""

import asyncio
import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.domain.keys import Keyring
from service.domain.subscriber import SuppressionReason
from service.store import Sealer, gate, outcomes, subscribers, suppressions, tables
from service.store.instants import stored
from tests.conftest import KEYRING
from tests.factories import JOINED
from tests.installation import miscounted
from tests.unit.delivery.parts import Run, accepted, result, wait_for_a_waiter
from tests.unit.store.statements import counted

ROTATED = Sealer(Keyring({**KEYRING.secrets, 2: bytes(range(50, 82))}))


@pytest.fixture
def run(database):
    return Run(database, readers=6)


def passed(gated):
    return {recipient.delivery for recipient in gated.recipients}


def test_the_gate_marks_and_returns_the_readers_with_the_address_as_it_was_typed(run):
    claim = run.claim()
    gated = run.gate(claim)

    assert sorted(recipient.address for recipient in gated.recipients) == sorted(run.addresses)
    assert {recipient.attempt for recipient in gated.recipients} == {1}
    assert run.counts() == {"attempting": 6}
    assert {run.delivery_of(number).sender_id for number in range(6)} == {run.sender}


def test_a_damaged_address_is_handed_out_as_none_and_the_others_as_they_are(run):
    with run.database.begin() as session:
        victim = subscribers.find(session, run.addresses[2]).id
        session.execute(tables.subscribers.update().where(tables.subscribers.c.id == victim).values(sealed=b"\x01torn"))

    gated = run.gate(run.claim())

    others = sorted(address for number, address in enumerate(run.addresses) if number != 2)
    assert sorted(recipient.address for recipient in gated.recipients) == ["", *others]
    assert [recipient.subscriber for recipient in gated.recipients if not recipient.address] == [victim]


def test_an_address_whose_key_is_missing_is_told_apart_and_the_others_are_handed_out(run):
    with run.database.begin() as session:
        victim = subscribers.find(session, run.addresses[2]).id
        sealed = ROTATED.seal(victim, run.addresses[2])
        session.execute(tables.subscribers.update().where(tables.subscribers.c.id == victim).values(sealed=sealed))

    gated = run.gate(run.claim())

    others = sorted(address for number, address in enumerate(run.addresses) if number != 2)
    assert sorted(recipient.address for recipient in gated.recipients) == others
    assert [recipient.subscriber for recipient in gated.locked] == [victim]


def test_only_pending_deliveries_pass(run):
    claim = run.claim()
    ids = run.due(claim)
    first = run.gate(claim, ids[:2])
    run.record(accepted(first.recipients[0]))

    assert passed(run.gate(claim, ids)) == set(ids[2:])
    assert not run.gate(claim, ids).recipients


def test_a_delivery_of_another_batch_does_not_pass(database):
    run = Run(database, readers=4, batch_limit=2)
    one, other = run.batch_ids()
    claim = run.claim(one)
    with database.read() as session:
        of_the_other = session.execute(
            sa.select(tables.deliveries.c.id).where(tables.deliveries.c.batch_id == other)
        ).scalars().all()  # fmt: skip

    assert not run.gate(claim, of_the_other).recipients
    assert run.counts() == {"pending": 4}


def test_whose_fence_has_moved_on_passes_nobody(run):
    stale = run.claim(lease=0)
    fresh = run.claim()

    assert run.gate(stale, run.due(fresh)) is None
    assert run.counts() == {"pending": 6}
    assert run.gate(fresh).recipients


def test_whose_lease_is_over_passes_nobody(run):
    claim = run.claim(lease=0)

    assert run.gate(claim) is None


def test_the_gate_renews_the_lease(run):
    claim = run.claim(lease=5)
    before = run.batch(claim.batch).lease_until
    run.gate(claim, run.due(claim)[:1], lease=60)

    assert run.batch(claim.batch).lease_until - before > 50_000


@pytest.mark.parametrize("verb", ["pause", "cancel"])
def test_a_mailing_that_is_not_sending_passes_nobody(run, verb):
    claim = run.claim()
    ids = run.due(claim)
    run.control(verb)

    assert run.gate(claim, ids) is None
    assert "attempting" not in run.counts()


def suppress(run, number):
    with run.database.begin() as session:
        found = subscribers.find(session, run.addresses[number])
        suppressions.add(session, found.address_hash, SuppressionReason.OPERATOR, JOINED)


def erase(run, number):
    with run.database.begin() as session:
        subscribers.erase(session, subscribers.find(session, run.addresses[number]).id, week=JOINED)


def in_days(run, days):
    return (run.now.date() + dt.timedelta(days=days)).isoformat()


@pytest.mark.parametrize(
    ("leave", "reason"),
    [
        (lambda run: run.change_reader(2, status="unsubscribed"), "unsubscribed"),
        (lambda run: run.change_reader(2, status="bounced"), "inactive"),
        (lambda run: run.change_reader(2, status="complained"), "inactive"),
        (lambda run: suppress(run, 2), "suppressed"),
        (lambda run: erase(run, 2), "erased"),
        (lambda run: run.change_reader(2, paused_until=in_days(run, 1)), "paused"),
    ],
)
def test_whoever_left_is_skipped_with_the_reason(run, leave, reason):
    claim = run.claim()
    ids = run.due(claim)
    leave(run)

    gated = run.gate(claim, ids)

    assert len(gated.recipients) == 5
    assert run.addresses[2] not in {recipient.address for recipient in gated.recipients}
    assert run.counts() == {"attempting": 5, "skipped": 1}
    with run.database.read() as session:
        skipped = tables.deliveries.c.state == int(DeliveryState.SKIPPED)
        assert session.scalar(sa.select(tables.deliveries.c.reason).where(skipped)) == reason
    assert not miscounted(run.database, run.mailing)


def test_a_reader_of_other_languages_moves_to_a_batch_of_that_edition_and_is_mailed_in_it(run):
    claim = run.claim()
    ids = run.due(claim)
    run.change_reader(2, chain="be,ru")
    run.change_reader(4, chain="be,ru")
    run.change_reader(5, chain="ru")

    assert len(run.gate(claim, ids).recipients) == 3

    assert run.counts() == {"attempting": 3, "pending": 3}
    assert not miscounted(run.database, run.mailing)
    moved = {run.batch(number).chain: number for number in run.batch_ids()[1:]}
    assert sorted(moved) == ["be,ru", "ru"]
    later = run.claim(moved["be,ru"])
    assert later.chain == "be,ru"
    assert later.rendition is None
    gated = run.gate(later).recipients
    assert {recipient.address for recipient in gated} == {run.addresses[2], run.addresses[4]}


def test_a_pause_is_over_on_its_day(run):
    claim = run.claim()
    ids = run.due(claim)
    run.change_reader(2, paused_until=in_days(run, 0))
    run.change_reader(3, paused_until=in_days(run, -40))
    assert len(run.gate(claim, ids).recipients) == 6


def test_a_reader_who_wants_text_alone_moves_to_that_edition(run):
    claim = run.claim()
    ids = run.due(claim)
    run.change_reader(2, text_only=True)
    run.change_reader(4, text_only=True, chain="be,ru")
    assert len(run.gate(claim, ids).recipients) == 4
    moved = {run.batch(number).chain: number for number in run.batch_ids()[1:]}
    assert sorted(moved) == ["be,ru+text", "en+text"]
    assert [one.address for one in run.gate(run.claim(moved["en+text"])).recipients] == [run.addresses[2]]
    assert not miscounted(run.database, run.mailing)


def test_an_address_that_was_changed_before_the_gate_is_the_one_returned(run):
    claim = run.claim()
    ids = run.due(claim)
    with run.database.begin() as session:
        found = subscribers.find(session, run.addresses[0])
        values = {"sealed": session.sealer.seal(found.id, "New.One@example.test"), "epoch": 1}
        session.execute(tables.subscribers.update().where(tables.subscribers.c.id == found.id).values(values))

    changed = [one for one in run.gate(claim, ids).recipients if one.subscriber == found.id]

    assert [(one.address, one.epoch) for one in changed] == [("New.One@example.test", 1)]


def test_the_mailings_rate_comes_with_the_gate(run):
    claim = run.claim()
    ids = run.due(claim)
    assert run.gate(claim, ids[:1]).rate is None
    run.control("set_rate", rate=12.5)

    assert run.gate(claim, ids[1:2]).rate == 12.5


def test_an_old_gate_is_still_open_only_while_everything_it_asked_holds(run):
    claim = run.claim()
    one, other, *_ = run.gate(claim).recipients

    def still(recipient, attempt=1, of=claim):
        with run.database.begin() as session:
            return gate.still_open(session, of, recipient.delivery, attempt, now_ms=stored(run.now))

    assert still(one)
    assert not still(one, attempt=2)
    run.record(accepted(other))
    assert not still(other)
    leaver = run.addresses.index(one.address)
    run.change_reader(leaver, status="unsubscribed")
    assert not still(one)
    run.change_reader(leaver, status="active")
    assert still(one)
    for change, back in (
        ({"paused_until": in_days(run, 1)}, {"paused_until": None}),
        ({"text_only": True}, {"text_only": False}),
        ({"chain": "ru"}, {"chain": claim.chain}),
        ({"epoch": 1}, {"epoch": 0}),
    ):
        run.change_reader(leaver, **change)
        assert not still(one), change
        run.change_reader(leaver, **back)
        assert still(one)
    run.control("pause")
    assert not still(one)


def test_a_gate_asks_the_same_number_of_statements_for_one_reader_and_for_a_hundred(database):
    run = Run(database, readers=101)
    claim = run.claim()
    ids = run.due(claim)
    with counted(database) as one:
        run.gate(claim, ids[:1])
    with counted(database) as many:
        run.gate(claim, ids[1:])

    assert len(many) == len(one) <= (3 if database.postgresql else 7)


def test_a_gate_on_sqlite_looks_up_its_own_letters_and_does_not_go_through_the_batch(sqlite_database):
    run = Run(sqlite_database, readers=4)
    claim = run.claim()
    ids, seen = run.due(claim), []
    with sqlite_database.begin() as session:
        sa.event.listen(session.connection, "before_cursor_execute", lambda *told: seen.append(told[2:4]))
        gate.pass_gate(session, claim, ids, sender=run.sender, lease_seconds=60, now_ms=stored(run.now))
        statement, values = next(
            one for one in seen if "json_each" in one[0] and "SELECT" in one[0].split("json_each")[0]
        )
        plan = session.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        first, second, *_ = [row.detail for row in plan]
    assert first.startswith("SCAN wanted ")
    assert second.startswith("SEARCH d USING INTEGER PRIMARY KEY ")


def test_a_gate_that_waited_for_the_batch_counts_right_and_passes_nobody_who_was_cancelled(postgresql_database):
    run = Run(postgresql_database, readers=6)
    claim = run.claim()
    ids = run.due(claim)
    first = run.gate(claim, ids[:3]).recipients
    answers = []

    with run.database.begin() as session:
        # A recording transaction holds the batch while the next gate asks for it.
        outcomes.record(session, list(map(accepted, first[:2])), now_ms=stored(run.now))
        thread = threading.Thread(target=lambda: answers.append(run.gate(claim, ids[3:])))
        thread.start()
        wait_for_a_waiter(run.database)
    thread.join()

    assert len(answers[0].recipients) == 3
    assert run.counts() == {"attempting": 4, "accepted": 2}
    assert not miscounted(run.database, run.mailing)


def test_a_gate_and_a_cancel_at_the_same_time_never_lose_a_reader(postgresql_database):
    run = Run(postgresql_database, readers=6)
    claim = run.claim()
    ids = run.due(claim)
    answers = []
    with run.database.begin() as session:
        gated = gate.pass_gate(session, claim, ids[:3], sender=run.sender, lease_seconds=60, now_ms=stored(run.now))
        thread = threading.Thread(target=lambda: answers.append(run.control("cancel")))
        thread.start()
        wait_for_a_waiter(run.database)
    thread.join()

    assert len(gated.recipients) == 3
    assert answers == [3]
    assert run.counts() == {"attempting": 3, "skipped": 3}
    run.record(*(result(one, DeliveryState.ACCEPTED) for one in gated.recipients))
    assert run.counts() == {"accepted": 3, "skipped": 3}
    assert not miscounted(run.database, run.mailing)


def test_a_gate_that_moves_readers_does_not_deadlock_with_a_cancel(postgresql_database):
    run = Run(postgresql_database, readers=6)
    claim = run.claim()
    ids = run.due(claim)
    run.change_reader(2, chain="ru")
    answers = []

    def cancel():
        answers.append(run.control("cancel"))

    with run.database.begin() as session:
        # The gate holds the batch; the cancel takes the mailing and waits for the batch; then the gate makes a batch.
        session.execute(sa.select(tables.batches.c.id).where(tables.batches.c.id == claim.batch).with_for_update())
        thread = threading.Thread(target=cancel)
        thread.start()
        wait_for_a_waiter(run.database)
        gated = gate.pass_gate(session, claim, ids, sender=run.sender, lease_seconds=60, now_ms=stored(run.now))
    thread.join()

    assert len(gated.recipients) == 5
    assert answers == [1]
    assert run.counts() == {"attempting": 5, "skipped": 1}
    assert not miscounted(run.database, run.mailing)


def pass_alone(run, claim, ids, done):
    passing = gate.pass_alone(
        run.database,
        claim,
        ids,
        gate.Acceptances(1, [recipient.delivery for recipient in done]),
        sender=run.sender,
        lease_seconds=60,
        now_ms=stored(run.now),
    )
    return asyncio.run(passing)


def test_a_gate_of_one_statement_passes_and_records_what_was_accepted(postgresql_database):
    run = Run(postgresql_database, readers=6)
    claim = run.claim()
    ids = run.due(claim)
    first, nobody = pass_alone(run, claim, ids[:4], []).gated, ids[:0]
    assert passed(first) == set(ids[:4])
    assert {recipient.address for recipient in first.recipients} <= set(run.addresses)

    found = pass_alone(run, claim, ids[4:], first.recipients[:3])
    assert (passed(found.gated), found.all_recorded) == (set(ids[4:]), True)
    assert run.counts() == {"attempting": 3, "accepted": 3}

    found = pass_alone(run, claim, nobody, first.recipients[3:])
    assert (found.gated.recipients, found.all_recorded) == ([], True)
    assert run.counts() == {"attempting": 2, "accepted": 4}
    assert not miscounted(run.database, run.mailing)


def test_a_gate_of_one_statement_that_is_shut_records_nothing(postgresql_database):
    run = Run(postgresql_database, readers=6)
    claim = run.claim()
    ids = run.due(claim)
    first = run.gate(claim, ids[:3])
    run.control("pause")

    assert pass_alone(run, claim, ids[3:], first.recipients) is None
    assert run.counts() == {"attempting": 3, "pending": 3}


def test_a_gate_of_one_statement_says_when_an_acceptance_is_left_to_be_recorded(postgresql_database):
    run = Run(postgresql_database, readers=6)
    claim = run.claim()
    ids = run.due(claim)
    first = run.gate(claim, ids[:3]).recipients
    run.record(result(first[0], DeliveryState.UNCERTAIN))

    found = pass_alone(run, claim, ids[3:], first)
    assert (passed(found.gated), found.all_recorded) == (set(ids[3:]), False)
    assert run.counts() == {"attempting": 3, "accepted": 2, "uncertain": 1}
    assert not miscounted(run.database, run.mailing)


def test_a_gate_of_one_statement_that_waited_for_the_batch_counts_right(postgresql_database):
    run = Run(postgresql_database, readers=6)
    claim = run.claim()
    ids = run.due(claim)
    first = run.gate(claim, ids[:3]).recipients
    answers = []

    with run.database.begin() as session:
        outcomes.record(session, [accepted(first[0])], now_ms=stored(run.now))
        thread = threading.Thread(target=lambda: answers.append(pass_alone(run, claim, ids[3:], first)))
        thread.start()
        wait_for_a_waiter(run.database)
    thread.join()

    found = answers[0]
    assert (passed(found.gated), found.all_recorded) == (set(ids[3:]), False)
    assert run.counts() == {"attempting": 3, "accepted": 3}
    assert not miscounted(run.database, run.mailing)


def test_a_gate_of_one_statement_skips_whoever_left(postgresql_database):
    run = Run(postgresql_database, readers=6)
    claim = run.claim()
    ids = run.due(claim)
    suppress(run, 2)

    found = pass_alone(run, claim, ids, [])
    assert len(found.gated.recipients) == 5
    with run.database.begin() as session:
        gate.sort_out(session, claim, found.missing, stored(run.now))
    assert run.counts() == {"attempting": 5, "skipped": 1}
    assert not miscounted(run.database, run.mailing)
