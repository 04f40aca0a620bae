"""What dead workers left open is decided by their journals."""

import datetime as dt
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import sqlalchemy as sa

from service import log
from service.delivery import release
from service.delivery.recovery import Recovery
from service.delivery.sweep import Sweep
from service.domain.chains import Chain
from service.domain.delivery import DeliveryState
from service.domain.mailing import MailingState
from service.domain.replies import Reply, ReplyClass
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.mail import autopsy, journal
from service.mail.host import boot_id, host_id
from service.queue import ANSWER_SIGNUP, PLAN_MAILING, SEND_BATCH
from service.store import (
    batches,
    confirmations,
    issues,
    locks,
    mailings,
    outcomes,
    senders,
    signups,
    subscribers,
    tables,
    uncertain,
)
from service.store.outcomes import Result
from tests.factories import MADE_AT
from tests.installation import miscounted
from tests.modes import heeded
from tests.unit.delivery.parts import Run, accepted, books, wait_for_a_waiter
from tests.unit.render import samples

OK = Reply(250, "2.0.0", "taken")


class World:
    """A mailing, a worker on this host with a journal, and the recovery of this host."""

    def __init__(self, database, data_dir, clock, readers=6):
        self.data_dir = data_dir
        self.clock = clock
        self.run = Run(database, readers=readers)
        self.run.host = host_id(data_dir)
        self.sender = self.run.register(boot=boot_id())
        self.journal = journal.Journal(data_dir, sender_id=self.sender)
        self.claim = self.run.claim(sender=self.sender)
        self.gated = self.run.gate(self.claim, sender=self.sender).recipients
        self.recovery = Recovery(database, data_dir, clock, 3600.0)

    def dot(self, number):
        self.journal.dot(self.gated[number].delivery, 1)

    def reply(self, number, reply=OK, of=ReplyClass.ACCEPTED):
        self.journal.reply(self.gated[number].delivery, 1, reply, of)

    def state(self, number):
        return self.run.states()[self.gated[number].delivery]

    def age(self, **columns):
        with self.run.database.begin() as session:
            session.execute(tables.senders.update().values(columns))


@pytest.fixture
def world(database, tmp_path, clock):
    made = World(database, tmp_path, clock)
    yield made
    made.journal.close()


def test_the_journal_of_the_dead_decides_each_letter(world):
    for number in (1, 2, 3, 4):
        world.dot(number)
    world.reply(2)
    world.reply(3, Reply(550, "5.1.1", "no such user"), ReplyClass.HARD)
    world.reply(4, Reply(451, "4.3.0", "later"), ReplyClass.TRANSIENT)
    world.journal.close()

    assert world.recovery.settle_journals() == 1

    assert [world.state(number) for number in range(6)] == [
        DeliveryState.PENDING,  # no dot: provably not sent
        DeliveryState.UNCERTAIN,  # a dot without a reply
        DeliveryState.ACCEPTED,
        DeliveryState.REFUSED,
        DeliveryState.DEFERRED,
        DeliveryState.PENDING,
    ]
    assert not miscounted(world.run.database, world.run.mailing)
    # The batch is free at once, and whoever held it is fenced off.
    assert world.run.gate(world.claim, [world.gated[0].delivery]) is None
    again = world.run.claim()
    assert len(world.run.gate(again).recipients) == 2
    assert not list(autopsy.unsettled(world.data_dir))


def test_a_living_workers_journal_is_left_alone(world):
    world.dot(0)
    assert world.recovery.settle_journals() == 0
    assert {world.state(number) for number in range(6)} == {DeliveryState.ATTEMPTING}


def test_settling_twice_changes_nothing(world):
    world.dot(0)
    world.journal.close()
    assert world.recovery.settle_journals() == 1
    before = world.run.states()
    assert world.recovery.settle_journals() == 0
    assert world.run.states() == before


def test_after_a_reboot_every_attempt_without_a_reply_is_uncertain(world, monkeypatch):
    world.dot(0)
    world.dot(1)
    world.reply(1)
    world.journal.close()
    monkeypatch.setattr(autopsy, "boot_id", lambda: "another-boot-entirely-000000000000000")

    world.recovery.settle_journals()

    assert world.run.counts() == {"accepted": 1, "uncertain": 5}


def test_the_journal_of_an_attempt_that_was_recorded_in_time_changes_nothing(world):
    world.dot(0)
    world.run.record(accepted(world.gated[0]))
    world.journal.close()

    world.recovery.settle_journals()

    assert world.run.counts() == {"accepted": 1, "pending": 5}


def test_a_journal_that_knows_no_more_leaves_the_evidence_of_the_worker(world):
    world.dot(0)
    letter = world.gated[0].delivery
    seen = Result(
        letter, 1, DeliveryState.UNCERTAIN, "uncertain", reason="uncertain", reply="the relay closed", phase="dot"
    )
    world.run.record(seen)
    world.journal.close()

    world.recovery.settle_journals()

    with world.run.database.read() as session:
        told = sa.select(tables.attempts.c.reply).where(tables.attempts.c.delivery_id == letter)
        assert session.scalar(told) == "the relay closed"
    assert world.run.counts() == {"uncertain": 1, "pending": 5}


def test_a_host_that_stays_away_makes_its_letters_uncertain_and_its_journal_still_decides(world):
    world.dot(0)
    world.reply(0)
    world.dot(1)
    world.age(seen_at=1)
    world.journal.close()

    assert world.recovery.give_up_lost_hosts() == 6
    assert world.run.counts() == {"uncertain": 6}
    assert not miscounted(world.run.database, world.run.mailing)
    # Again finds nothing new.
    assert world.recovery.give_up_lost_hosts() == 0

    world.recovery.settle_journals()

    assert world.state(0) is DeliveryState.ACCEPTED
    assert world.state(1) is DeliveryState.UNCERTAIN
    assert world.run.counts() == {"accepted": 1, "uncertain": 1, "pending": 4}


def test_a_host_that_was_seen_is_not_away(world):
    assert world.recovery.give_up_lost_hosts() == 0
    world.age(seen_at=1)
    world.recovery.settle_journals()
    assert world.recovery.give_up_lost_hosts() == 0


class Gone:
    """Two senders of two hosts that have stayed away: the first that is looked at has the second batch."""

    def __init__(self, database, tmp_path, clock):
        self.run = Run(database, readers=2, batch_limit=1)
        self.batches = self.run.batch_ids()
        one, other = self.run.register(host="one"), self.run.register(host="other")
        self.hosts = ["one", "other"] if one < other else ["other", "one"]
        for sender, batch in zip(sorted((one, other)), reversed(self.batches), strict=True):
            self.run.gate(self.run.claim(batch, sender=sender), sender=sender)
        with database.begin() as session:
            session.execute(tables.senders.update().values(seen_at=1))
        self.recovery = Recovery(database, tmp_path, clock, 3600.0)


@pytest.fixture
def gone(postgresql_database, tmp_path, clock):
    return Gone(postgresql_database, tmp_path, clock)


def test_whoever_holds_batches_of_two_hosts_that_stay_away_waits_for_neither_for_ever(gone):
    database, (first, second) = gone.run.database, gone.batches
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as session:
            batches.hold(session, first)
            lost = pool.submit(gone.recovery.give_up_lost_hosts)
            wait_for_a_waiter(database)
            batches.hold(session, second)
        assert lost.result() == 2
    assert gone.run.counts() == {"uncertain": 2}


def test_a_host_that_comes_back_while_others_are_given_up_keeps_its_letters(gone):
    database, (_, looked_at_first) = gone.run.database, gone.batches
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as session:
            batches.hold(session, looked_at_first)
            lost = pool.submit(gone.recovery.give_up_lost_hosts)
            wait_for_a_waiter(database)
            senders.seen(session, gone.hosts[1])
        assert lost.result() == 1
    assert gone.run.counts() == {"uncertain": 1, "attempting": 1}


def test_a_mailing_waits_for_a_host_that_is_away(world):
    world.run.record(*map(accepted, world.gated[:5]))
    world.age(seen_at=1)
    tidy(world)
    assert world.run.state() == "sending"

    world.recovery.give_up_lost_hosts()
    tidy(world)
    assert world.run.state() == "sent"


def tidy(world):
    from service.delivery import progress

    with world.run.database.begin() as session:
        progress.tidy(session, now=world.run.now)


def test_a_journal_that_cannot_be_read_makes_its_letters_uncertain(world):
    path = world.journal.path
    world.journal.close()
    with path.open("r+b") as file:
        file.write(bytes(128))

    world.recovery.settle_journals()

    assert world.run.counts() == {"uncertain": 6}
    assert not list(autopsy.unsettled(world.data_dir))


def test_a_journal_that_is_gone_makes_its_letters_uncertain_but_not_at_once(world):
    world.journal.path.unlink()
    world.recovery.settle_journals()
    assert world.run.counts() == {"attempting": 6}

    world.age(started_at=1)
    world.recovery.settle_journals()

    assert world.run.counts() == {"uncertain": 6}


@pytest.fixture
def another(world):
    """The closed journal of another dead worker of this host, which has nothing open."""
    with journal.Journal(world.data_dir, sender_id=world.run.register(boot=boot_id())) as made:
        # It comes after the world's.
        os.utime(made.path, (made.path.stat().st_mtime + 60,) * 2)
    return made.path


def lines(capsys, event):
    return [json.loads(line) for line in capsys.readouterr().err.splitlines() if event in line]


@pytest.mark.parametrize("mode", [0o000, 0o200])
def test_letters_of_a_journal_that_may_not_be_read_wait_for_it_and_others_are_settled(world, another, capsys, mode):
    log.configure(json=True)
    world.dot(0)
    world.reply(0)
    world.dot(1)
    path = world.journal.path
    world.journal.close()
    # Its host has been silent, its lease has run out, and its sender is old: nothing of it tells that they may go.
    world.age(seen_at=1, started_at=1)
    with world.run.database.begin() as session:
        session.execute(tables.batches.update().values(lease_until=1))
    books(world.run.database, world.data_dir).compare()
    path.chmod(mode)
    with heeded():
        assert world.recovery.settle_journals() == 1
        assert sweep(world, resend_uncertain=True).run()
        assert world.recovery.give_up_lost_hosts() == 0

    assert not another.exists()
    assert list(autopsy.unsettled(world.data_dir)) == [path]
    assert world.run.counts() == {"attempting": 6}
    held = [one.delivery for one in world.gated]
    assert not world.run.gate(world.run.claim(), held).recipients
    told = lines(capsys, "journal-not-settled")
    assert [(one["journal"], one["error"]) for one in told] == [(path.name, "Permission denied")] * 2

    # Its owner may read it by now.
    path.chmod(0o600)
    assert world.recovery.settle_journals() == 1
    assert world.run.counts() == {"accepted": 1, "uncertain": 1, "pending": 4}


def test_a_journal_that_may_not_be_written_decides_its_letters_and_stays_until_it_may(world, another, capsys):
    log.configure(json=True)
    world.dot(0)
    path = world.journal.path
    world.journal.close()
    path.chmod(0o400)
    with heeded():
        assert world.recovery.settle_journals() == 1
        assert sweep(world).run()
    assert not another.exists()
    assert world.run.counts() == {"pending": 5, "uncertain": 1}
    assert [one["journal"] for one in lines(capsys, "journal-not-settled")] == [path.name] * 2

    path.chmod(0o600)
    assert world.recovery.settle_journals() == 1
    assert world.run.counts() == {"pending": 5, "uncertain": 1}
    assert not list(autopsy.unsettled(world.data_dir))


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o600])
def test_a_folder_of_journals_that_may_not_be_looked_into_is_no_loss_of_them(world, capsys, mode):
    log.configure(json=True)
    world.dot(0)
    folder = world.journal.path.parent
    world.journal.close()
    world.age(started_at=1)
    folder.chmod(mode)
    try:
        with heeded():
            assert world.recovery.settle_journals() == 0
    finally:
        folder.chmod(0o700)
    assert world.run.counts() == {"attempting": 6}
    (told,) = lines(capsys, "not-settled")
    assert told["error"] == "Permission denied"

    assert world.recovery.settle_journals() == 1
    assert world.run.counts() == {"pending": 5, "uncertain": 1}


def test_an_old_journal_that_may_not_be_opened_keeps_no_other_from_being_removed(world, another):
    world.journal.close()
    world.recovery.settle_journals()
    kept, *others = sorted((world.data_dir / "journals").glob("*.settled"))
    assert others
    for path in (kept, *others):
        os.utime(path, (0, 0))
    kept.chmod(0o000)
    world.clock.set(dt.datetime.now(dt.UTC))
    with heeded():
        world.recovery.settle_journals()
    assert list((world.data_dir / "journals").iterdir()) == [kept]


def test_two_sweeps_that_settle_the_same_journal_at_once_do_it_once(world, monkeypatch):
    world.dot(0)
    world.journal.close()
    settle = Recovery._settle

    def slow(self, path):
        monkeypatch.undo()
        world.recovery.settle_journals()
        settle(self, path)

    monkeypatch.setattr(Recovery, "_settle", slow)
    world.recovery.settle_journals()

    assert world.run.counts() == {"pending": 5, "uncertain": 1}
    assert not miscounted(world.run.database, world.run.mailing)


def test_old_settled_journals_are_removed_after_seven_days(world):
    world.journal.close()
    world.recovery.settle_journals()
    (settled,) = (world.data_dir / "journals").glob("*.settled")
    os.utime(settled, (0, 0))
    world.clock.set(dt.datetime.now(dt.UTC))
    world.recovery.settle_journals()
    assert not list((world.data_dir / "journals").iterdir())


# The sweep


def sweep(world, **more):
    return Sweep(
        world.run.database,
        world.run.bell,
        lambda *_: [],
        world.clock,
        world.recovery,
        books(world.run.database, world.data_dir),
        **more,
    )


def release_lock(world):
    with world.run.database.begin() as session:
        locks.release(session, "sweep")


def test_a_hint_that_was_lost_is_rung_again_after_a_minute(world):
    world.journal.close()
    world.run.bell.rung.clear()
    # The dead worker's batch is free, and its ring forgotten.
    assert sweep(world).run()
    assert world.run.bell.heard(SEND_BATCH) == [world.claim.batch]

    release_lock(world)
    assert sweep(world).run()
    assert world.run.bell.heard(SEND_BATCH) == [world.claim.batch]

    with world.run.database.begin() as session:
        session.execute(tables.batches.update().values(rung_at=tables.batches.c.rung_at - 61_000))
    release_lock(world)
    assert sweep(world).run()
    assert world.run.bell.heard(SEND_BATCH) == [world.claim.batch] * 2


def test_a_hint_that_is_known_to_be_lost_is_rung_again_by_the_next_sweep(world):
    world.journal.close()
    world.run.bell.rung.clear()
    world.run.bell.away = True
    assert sweep(world).run()

    world.run.bell.away = False
    release_lock(world)
    assert sweep(world).run()
    assert world.run.bell.heard(SEND_BATCH) == [world.claim.batch]


def test_where_no_hint_waits_what_was_rung_seconds_ago_and_not_taken_up_is_rung_again(world):
    world.journal.close()
    world.run.bell.rung.clear()
    assert sweep(world).run()

    # The broker is emptied: whose hint was rung at this moment may be in a worker's hand.
    world.run.bell.rung.clear()
    release_lock(world)
    assert sweep(world).run()
    assert not world.run.bell.rung

    with world.run.database.begin() as session:
        session.execute(tables.batches.update().values(rung_at=tables.batches.c.rung_at - 6_000))
    release_lock(world)
    assert sweep(world).run()
    assert world.run.bell.heard(SEND_BATCH) == [world.claim.batch]


def test_an_error_that_one_part_did_not_foresee_stops_no_other_and_is_raised_afterwards(world, capsys):
    world.journal.close()
    world.run.bell.rung.clear()
    log.configure(json=True)

    def check(*_):
        raise ZeroDivisionError("no number of canary@example.org")

    with world.run.database.begin() as session:
        issues.save(session, samples.issue(week=Week.parse("2019-W23")), MADE_AT)
        at = world.clock.now() - dt.timedelta(hours=1)
        release.send(session, "2019-W23", world.run.bell, lambda *_: [], actor="test", now=at, at=world.clock.now())
    with pytest.raises(ZeroDivisionError):
        replace(sweep(world), check=check).run()

    # What comes after the release of mailings was done: the dead worker's batch is rung for.
    assert world.run.bell.heard(SEND_BATCH) == [world.claim.batch]
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "sweep-part-failed" in line]
    assert (line["part"], line["error"]) == ("release", "ZeroDivisionError")
    assert "in check" in line["exception"]
    assert "canary" not in line["exception"]


def test_a_bell_that_fails_to_say_whether_hints_wait_keeps_no_part_from_its_turn(world, capsys, monkeypatch):
    world.journal.close()
    world.run.bell.rung.clear()
    log.configure(json=True)

    def empty():
        raise ZeroDivisionError("no number of canary@example.org")

    monkeypatch.setattr(world.run.bell, "empty", empty)
    with pytest.raises(ZeroDivisionError):
        sweep(world).run()

    assert world.run.bell.heard(SEND_BATCH) == [world.claim.batch]
    (line,) = lines(capsys, "sweep-part-failed")
    assert (line["part"], line["error"]) == ("doubt", "ZeroDivisionError")
    assert "canary" not in line["exception"]


def test_a_host_whose_clock_is_ahead_releases_nothing_before_its_time(world):
    with world.run.database.begin() as session:
        issues.save(session, samples.issue(week=Week.parse("2019-W23")), MADE_AT)
        now = session.now()
        at = now + dt.timedelta(hours=20)
        later = release.send(session, "2019-W23", world.run.bell, lambda *_: [], actor="test", now=now, at=at)
    world.clock.set(now + dt.timedelta(days=1))

    assert sweep(world).run()

    assert later not in world.run.bell.heard(PLAN_MAILING)
    with world.run.database.read() as session:
        assert mailings.get(session, later).state is MailingState.SCHEDULED


def test_one_sweep_at_a_time_does_the_common_part_and_each_settles_its_hosts_journals(world):
    with world.run.database.begin() as session:
        assert locks.take(session, "sweep", 10)
    world.journal.close()
    world.run.bell.rung.clear()

    assert not sweep(world).run()

    assert not world.run.bell.rung
    assert world.run.counts() == {"pending": 6}


def test_a_mailing_whose_planning_hint_was_lost_is_rung_for(database, tmp_path, clock):
    run = Run(database, readers=3, planned=False)
    run.bell.rung.clear()
    recovery = Recovery(database, tmp_path, clock, 3600.0)
    Sweep(database, run.bell, lambda *_: [], clock, recovery, books(database, tmp_path)).run()
    assert run.bell.heard(PLAN_MAILING) == [run.mailing]


def test_a_sign_up_whose_hint_was_lost_is_rung_for_and_who_never_confirmed_is_forgotten(world):
    now = world.clock.now()
    with world.run.database.begin() as session:
        late = now - dt.timedelta(hours=74)
        never = subscribers.add(
            session,
            "never@reader.test",
            Chain(("en",)),
            status=SubscriberStatus.PENDING,
            consent=None,
            week=Week.of(late.date()),
        )
        confirmations.add(session, never.address_hash, never.chain, text_version=1, now=late)
        waiting = signups.add(session, "waits@reader.test", Chain(("en",)), text_version=1, now=late)
    world.journal.close()
    assert sweep(world).run()
    assert world.run.bell.heard(ANSWER_SIGNUP) == [waiting]
    with world.run.database.read() as session:
        assert subscribers.get(session, never.id) is None


def test_the_state_of_senders_is_settled_with_their_journal(world):
    world.journal.close()
    world.recovery.settle_journals()
    with world.run.database.read() as session:
        settled = sa.select(tables.senders.c.settled_at).where(tables.senders.c.id == world.sender)
        assert session.scalar(settled) is not None


def test_a_journal_that_comes_while_an_operator_resolves_its_letters_waits_its_turn(
    postgresql_database, tmp_path, clock
):
    world = World(postgresql_database, tmp_path, clock, readers=1)
    world.dot(0)
    world.reply(0)
    world.age(seen_at=1)
    world.journal.close()
    world.recovery.give_up_lost_hosts()
    thread = threading.Thread(target=world.recovery.settle_journals)
    with world.run.database.begin() as session:
        uncertain.hold(session, world.run.mailing)
        thread.start()
        wait_for_a_waiter(world.run.database)
        (one,) = uncertain.listed(session, world.run.mailing)
        refused = Result(one.delivery, one.attempt, DeliveryState.REFUSED, "resolved")
        assert outcomes.record(session, [refused], now_ms=0) == {one.batch}
    thread.join()

    assert world.run.counts() == {"refused": 1}
    assert not miscounted(world.run.database, world.run.mailing)
    assert not list(autopsy.unsettled(world.data_dir))


def test_what_a_journal_or_a_lost_host_leaves_uncertain_names_its_relay(world):
    world.dot(0)
    world.journal.close()
    world.recovery.settle_journals()
    with world.run.database.read() as session:
        (one,) = uncertain.listed(session, world.run.mailing)
    assert (one.relay, one.phase, one.reason) == ("relay", "dot", "worker died")
    assert one.read == "the worker died between the final dot and its reply"
