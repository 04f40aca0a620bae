"""A database that was set back in time learns from the journals what it does not know."""

import asyncio
import datetime as dt
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.audience.departures import leave, note
from service.delivery import control, release, standing
from service.delivery.account import Account, Answer
from service.delivery.correcting import Proofreader
from service.delivery.limits import Limits
from service.delivery.meter import Meter
from service.delivery.offload import Offload
from service.delivery.reconciling import Look
from service.delivery.recovery import Recovery
from service.domain.delivery import DeliveryState
from service.domain.errors import ConfigurationError, ConflictError, NotFoundError
from service.domain.mailing import MailingState
from service.domain.replies import Reply, ReplyClass
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.mail.host import boot_id, host_id
from service.mail.journal import Journal
from service.mail.notebook import Begun, Mark, Notebook
from service.store import audit, hosts, lost_issues, mailings, publication, subscribers, tables
from service.store.departures import DepartureLog, Step
from tests.factories import MADE_AT, OPERATORS, add_readers
from tests.installation import miscounted
from tests.modes import heeded
from tests.unit.delivery.parts import (
    PRESS,
    WEEK,
    Run,
    Time,
    accepted,
    books,
    replaced_in_silence,
    wait_for_a_waiter,
)
from tests.unit.render import samples

OK = Reply(250, "2.0.0", "taken")
GONE = Reply(550, "5.1.1", "no such user")
S = DeliveryState


class World:
    def __init__(self, database, data_dir, clock, readers=8):
        self.database, self.data_dir, self.clock = database, data_dir, clock
        self.time = Time(database)
        self.run = Run(database, readers=readers)
        self.run.host = host_id(data_dir)
        self.books = books(database, data_dir, clock)
        self.books.compare(Look.ALL)
        self.recovery = Recovery(database, data_dir, clock, 3600.0)
        self.journals = []
        # Too late for this issue.
        (self.leaver,) = add_readers(database, 1, prefix="leaver")

    def start(self):
        """A worker, and what it holds: its sender, its journal, its claim."""
        sender = self.run.register(boot=boot_id())
        journal = Journal(self.data_dir, sender_id=sender)
        self.journals.append(journal)
        with self.database.read() as session:
            self.books.begin(mailings.get(session, self.run.mailing))
        return sender, journal, self.run.claim(sender=sender)

    def say(self, journal, recipient, reply=None, of=ReplyClass.ACCEPTED):
        journal.dot(recipient.delivery, recipient.attempt)
        if reply:
            journal.reply(recipient.delivery, recipient.attempt, reply, of)

    def end_with_one_of_each(self, journal, recipients):
        """Accepted, refused, put off, and one whose reply nobody read; the database knows of the first."""
        self.say(journal, recipients[0], OK)
        self.say(journal, recipients[1], GONE, ReplyClass.HARD)
        self.say(journal, recipients[2], Reply(451, "4.3.0", "later"), ReplyClass.TRANSIENT)
        self.say(journal, recipients[3])
        self.run.record(accepted(recipients[0]))
        journal.close()

    def leave(self):
        """The reader of no letter leaves, as by a link."""
        with self.database.begin() as session:
            reader, week = subscribers.find(session, self.leaver), Week.of(self.clock.now().date())
            self.note(Step.UNSUBSCRIBED)
            assert leave(session, reader, week)

    def come_back(self):
        """The same reader confirms anew."""
        with self.database.begin() as session:
            reader, week = subscribers.find(session, self.leaver), Week.of(self.clock.now().date())
            assert subscribers.set_status(session, reader.id, SubscriberStatus.ACTIVE, week=week)

    def note(self, step):
        """What the log of this host is told of that reader."""
        log = DepartureLog(self.data_dir / "departures.log")
        note(log, [(self.database.sealer.address_hash(self.leaver), step)], Week.of(self.clock.now().date()))

    def has_left(self):
        with self.database.read() as session:
            return subscribers.find(session, self.leaver).status is SubscriberStatus.UNSUBSCRIBED

    def mailing(self):
        with self.database.read() as session:
            return mailings.get(session, self.run.mailing)

    def again(self):
        """Another process of this host, started now."""
        return books(self.database, self.data_dir, self.clock)

    def answered_by_another(self):
        """Another process of this host, to which the server has another name than what was written down last."""
        notebook = Notebook(self.data_dir)
        notebook.write(replace(notebook.mark(), database="another"))
        return self.again()


@pytest.fixture
def world(database, tmp_path, clock):
    made = World(database, tmp_path, clock)
    yield made
    for journal in made.journals:
        journal.close()


def test_letters_of_a_lost_time_are_settled_by_the_journal_and_the_mailing_is_paused(world):
    sender, journal, claim = world.start()
    world.time.keep()
    world.books.compare()
    gated = world.run.gate(claim, sender=sender).recipients
    world.end_with_one_of_each(journal, gated)

    world.time.go_back()
    assert world.run.counts() == {"pending": 8}
    assert world.again().compare()

    states = world.run.states()
    assert [states[one.delivery] for one in gated[:5]] == [S.ACCEPTED, S.REFUSED, S.DEFERRED, S.UNCERTAIN, S.PENDING]
    assert not miscounted(world.database, world.run.mailing)
    found = world.mailing()
    assert found.state.value == "paused"
    assert "4 letters that it did not know of" in found.reason
    assert f"tydzen mailing resume {found.id}" in found.reason
    assert "tydzen subscriber reapply --log" in found.reason
    # What its dead worker held is free, once more finds nothing, and the operator may go on.
    world.recovery.settle_journals()
    assert not world.again().compare(Look.ALL)
    world.run.control("resume")
    assert len(world.run.gate(world.run.claim()).recipients) == 4


@pytest.mark.parametrize("closed", ["journal", "settled", "folder", "unwritable folder"])
def test_nothing_may_be_claimed_while_a_journal_may_not_be_read_and_it_is_named_with_the_mend(world, closed):
    sender, journal, claim = world.start()
    world.time.keep()
    world.books.compare()
    gated = world.run.gate(claim, sender=sender).recipients
    world.end_with_one_of_each(journal, gated)
    path = journal.path
    if closed == "settled":
        world.recovery.settle_journals()
        path = path.with_suffix(".settled")
    world.time.go_back()
    shut = path.parent if "folder" in closed else path
    shut.chmod(0o500 if closed == "unwritable folder" else 0o000)
    try:
        with heeded():
            for look in (Look.NOTHING, Look.ALL):
                with pytest.raises(ConfigurationError, match=rf"^{shut}: .*chown -R --reference={world.data_dir} "):
                    world.again().compare(look)
    finally:
        shut.chmod(0o700)
    with world.database.read() as session:
        assert not world.books.believed(session)
    assert world.run.counts() == {"pending": 8}

    # Nobody has learnt anything meanwhile that he would not look for again.
    assert world.again().compare()
    states = world.run.states()
    assert [states[one.delivery] for one in gated[:4]] == [S.ACCEPTED, S.REFUSED, S.DEFERRED, S.UNCERTAIN]


def test_nothing_may_be_claimed_by_a_process_that_has_not_seen_that_the_database_was_set_back(world):
    with world.database.read() as session:
        assert world.books.believed(session)
    world.time.keep()
    world.books.compare()
    world.time.go_back()
    with world.database.read() as session:
        assert not world.books.believed(session)
    assert world.books.compare()
    with world.database.read() as session:
        assert world.books.believed(session)


def test_a_database_that_only_grew_is_believed_and_nothing_is_paused(world):
    sender, journal, claim = world.start()
    gated = world.run.gate(claim, sender=sender).recipients
    for one in gated[:4]:
        world.say(journal, one, OK)
    world.run.record(*map(accepted, gated[:2]))
    # Deferred and due again: the record's attempt is known, whatever came after it.
    world.say(journal, gated[4], Reply(451, None, "later"), ReplyClass.TRANSIENT)

    assert not world.again().compare(Look.ALL)
    assert not world.again().compare(Look.OPEN)
    assert world.mailing().state.value == "sending"
    journal.close()
    world.recovery.settle_journals()
    assert not world.again().compare(Look.ALL)
    assert world.mailing().state.value == "sending"


def test_a_copy_that_lagged_behind_by_less_than_a_sweep_is_noticed_by_the_journal(world):
    sender, journal, claim = world.start()
    world.time.keep()
    gated = world.run.gate(claim, sender=sender).recipients
    world.say(journal, gated[0], OK)
    world.say(journal, gated[1])
    world.time.go_back()

    # The owner of the journal lives, and may still hear of the second.
    assert world.books.compare(Look.OPEN)
    states = world.run.states()
    assert (states[gated[0].delivery], states[gated[1].delivery]) == (S.ACCEPTED, S.ATTEMPTING)
    world.run.record(accepted(gated[1]))
    assert world.run.states()[gated[1].delivery] is S.ACCEPTED
    assert not miscounted(world.database, world.run.mailing)


def test_a_copy_that_answers_in_place_of_the_server_is_not_claimed_from_unseen(
    postgresql_database, tmp_path, clock, monkeypatch
):
    world = World(postgresql_database, tmp_path, clock)
    sender, journal, claim = world.start()
    world.time.keep()
    gated = world.run.gate(claim, sender=sender).recipients
    world.say(journal, gated[0], OK)
    world.time.go_back()
    with world.database.read() as session:
        assert world.books.believed(session)
    replaced_in_silence(world.database, monkeypatch)

    with world.database.read() as session:
        assert not world.books.believed(session)
    # Whoever would claim asks for this much, and the loss makes it more.
    assert world.books.compare(Look.NOTHING)

    assert world.run.states()[gated[0].delivery] is S.ACCEPTED
    assert world.mailing().state.value == "paused"
    with world.database.read() as session:
        assert world.books.believed(session)
    journal.close()


@pytest.mark.parametrize("by_one_statement", [False, True])
def test_a_batch_in_work_takes_a_copy_for_a_database_that_was_lost(
    postgresql_database, tmp_path, clock, monkeypatch, by_one_statement
):
    world = World(postgresql_database, tmp_path, clock)
    _, journal, claim = world.start()
    returned = []
    offload, now = Offload(), clock.now
    account = Account(
        world.database, offload, Limits({}), Meter(), now, lambda: False, claim, lambda: returned.append(world.database)
    )
    asked = []

    def work(session):
        asked.append(session.scalar(sa.text("SELECT pg_backend_pid()")))
        return len(asked)

    async def alone(database, _accepted):
        asked.append(await database.rows_alone("SELECT pg_backend_pid()", {}))
        return Answer(len(asked), all_recorded=True)

    with asyncio.Runner() as loop:
        ask = {"alone": alone} if by_one_statement else {}
        # The first reads the limits: what has more to do than one statement is a transaction of several.
        assert loop.run(account.transaction(work)) == 1
        assert loop.run(account.transaction(work, **ask)) == 2
        assert not returned
        replaced_in_silence(world.database, monkeypatch)
        # What the copy said is not believed: it is compared, and asked again; each connection tells of its own end.
        lost = 2 if by_one_statement else 1
        assert loop.run(account.transaction(work, **ask)) == 3 + lost
        assert len(returned) == lost
        assert asked[2] != asked[1]
    offload.close()
    journal.close()


def test_a_settled_journal_settles_again_what_the_database_has_forgotten(world):
    sender, journal, claim = world.start()
    gated = world.run.gate(claim, sender=sender).recipients
    world.time.keep()
    world.say(journal, gated[0], OK)
    world.say(journal, gated[1])
    journal.close()
    world.recovery.settle_journals()
    world.books.compare()
    before = world.run.states()

    world.time.go_back()
    assert world.again().compare()
    world.recovery.settle_journals()

    assert {number: world.run.states()[number] for number in before} == before
    assert world.run.counts() == {"accepted": 1, "uncertain": 1, "pending": 6}


def test_an_issue_that_was_begun_after_the_backup_is_not_sent_again(database, tmp_path, clock):
    run = Run(database, readers=5, planned=False)
    time = Time(database)
    with database.begin() as session:
        session.execute(tables.mailings.delete())
    time.keep()
    with database.begin() as session:
        run.mailing = release.send(session, WEEK, run.bell, lambda *_: [], actor="test", now=run.now)
    assert run.planner().plan(run.mailing)
    first = books(database, tmp_path, clock)
    first.compare(Look.ALL)
    with database.read() as session:
        first.begin(mailings.get(session, run.mailing))
    before = max(run.states())

    time.go_back()
    assert books(database, tmp_path, clock).compare(Look.ALL)

    with pytest.raises(ConflictError, match=f"tydzen mailing reconcile {WEEK}"), database.begin() as session:
        release.send(session, WEEK, run.bell, lambda *_: [], actor="test", now=run.now)
    with database.begin() as session:
        standing.send_again(session, WEEK, actor="test", now=run.now)
    with database.begin() as session:
        run.mailing = release.send(session, WEEK, run.bell, lambda *_: [], actor="test", now=run.now)
    assert run.planner().plan(run.mailing)
    # No number of the lost time is given out again.
    assert min(number for number in run.states() if number in _deliveries(database, run.mailing)) > before + 1000
    assert not books(database, tmp_path, clock).compare(Look.ALL)


def _deliveries(database, mailing):
    with database.read() as session:
        chosen = sa.select(tables.deliveries.c.id).where(tables.deliveries.c.mailing_id == mailing)
        return set(session.execute(chosen).scalars())


def test_a_mailing_whose_planning_is_newer_than_the_backup_is_cancelled_in_words(database, tmp_path, clock):
    run = Run(database, readers=5, planned=False)
    time = Time(database)
    time.keep()
    assert run.planner().plan(run.mailing)
    first = books(database, tmp_path, clock)
    first.compare(Look.ALL)
    with database.read() as session:
        first.begin(mailings.get(session, run.mailing))

    time.go_back()
    assert books(database, tmp_path, clock).compare(Look.ALL)

    assert run.state() == "cancelled"
    with database.read() as session:
        # The hour at which it began, in words.
        assert "began to send on 2019-06-03 07:00 UTC" in mailings.get(session, run.mailing).reason
    with pytest.raises(ConflictError, match="was mailed already"):
        run.control("retry")


@pytest.mark.parametrize("same_process", [True, False])
def test_an_issue_that_was_lost_and_sent_again_is_lost_once_more(database, tmp_path, clock, same_process):
    run = Run(database, readers=5, planned=False)
    first, earlier, later = books(database, tmp_path, clock), Time(database), Time(database)

    def sends(made):
        assert run.planner().plan(run.mailing)
        made.compare(Look.ALL)
        with database.read() as session:
            made.begin(mailings.get(session, run.mailing))

    earlier.keep()
    sends(first)
    earlier.go_back()
    assert books(database, tmp_path, clock).compare(Look.ALL)
    # Everybody may get it again, and a day later does.
    run.now += dt.timedelta(days=1)
    clock.set(run.now)
    with database.begin() as session:
        standing.send_again(session, WEEK, actor="test", now=run.now)
    run.control("retry")
    later.keep()
    sends(first if same_process else books(database, tmp_path, clock))

    later.go_back()
    assert run.state() == "planning"
    assert books(database, tmp_path, clock).compare(Look.ALL)

    assert run.state() == "cancelled"
    with pytest.raises(ConflictError, match="began it on 2019-06-04"):
        run.control("retry")


def test_a_mailing_is_written_down_once_for_each_time_that_it_was_begun(world):
    with world.database.read() as session:
        mailing = mailings.get(session, world.run.mailing)
    for made in (world.books, world.again(), world.again()):
        made.begin(mailing)
    world.clock.advance(hours=1)
    world.again().begin(mailing)
    assert len(Notebook(world.data_dir).begun()) == 1


def test_a_process_whose_open_journal_knows_more_looks_for_lost_issues_too(database, tmp_path, clock):
    run, time = Run(database, readers=5, planned=False), Time(database)
    mine = books(database, tmp_path, clock)
    mine.compare(Look.ALL)
    time.keep()
    assert run.planner().plan(run.mailing)
    with database.read() as session:
        mine.begin(mailings.get(session, run.mailing))
    sender = run.register(boot=boot_id())
    with closing(Journal(tmp_path, sender_id=sender)) as journal:
        recipient, *_ = run.gate(run.claim(sender=sender), sender=sender).recipients
        journal.dot(recipient.delivery, recipient.attempt)

        # Before the next sweep: the mark says nothing.
        time.go_back()
        assert mine.compare(Look.OPEN)

    assert run.state() == "cancelled"


def compared_while(database, made, change):
    """Compare with the journals while a transaction that has done `change` is not committed until it is waited for."""
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as session:
            change(session)
            compared = pool.submit(made.compare, Look.ALL)
            wait_for_a_waiter(database)
        return compared.result()


@pytest.mark.parametrize("end", ["cancel", "finish"])
def test_a_mailing_that_ends_while_everything_is_stopped_stays_ended(postgresql_database, tmp_path, clock, end):
    run = Run(postgresql_database, readers=3)
    time = Time(postgresql_database)
    time.keep()
    books(postgresql_database, tmp_path, clock).compare(Look.ALL)
    time.go_back()

    def ends(session):
        if end == "cancel":
            control.cancel(session, run.mailing, actor="test", now=run.now)
        else:
            mailings.lock(session, run.mailing)
            mailings.move(session, run.mailing, MailingState.SENT, now=run.now)

    assert compared_while(postgresql_database, books(postgresql_database, tmp_path, clock), ends)

    with postgresql_database.read() as session:
        found = mailings.get(session, run.mailing)
        pauses = [entry for entry in audit.newest(session, 9) if entry.action == "mailing.pause"]
    assert (found.state.value, found.finished_at) == ({"cancel": "cancelled", "finish": "sent"}[end], run.now)
    assert not pauses
    with pytest.raises(ConflictError):
        run.control("resume")


def test_a_mailing_that_is_resumed_while_everything_is_stopped_is_stopped(postgresql_database, tmp_path, clock):
    run = Run(postgresql_database, readers=3)
    run.control("pause")
    time = Time(postgresql_database)
    time.keep()
    books(postgresql_database, tmp_path, clock).compare(Look.ALL)
    time.go_back()

    def goes_on(session):
        proofs = Proofreader(PRESS, lambda *_: [])
        control.resume(session, run.mailing, run.bell, proofs=proofs, actor="test", now=run.now)

    assert compared_while(postgresql_database, books(postgresql_database, tmp_path, clock), goes_on)

    assert run.state() == "paused"


def begun_and_lost(database, tmp_path, clock):
    """A mailing that was begun after the backup which is there now."""
    run = Run(database, readers=3, planned=False)
    time = Time(database)
    time.keep()
    assert run.planner().plan(run.mailing)
    with database.read() as session:
        books(database, tmp_path, clock).begin(mailings.get(session, run.mailing))
    time.go_back()
    return run


def test_what_an_operator_cancels_while_it_is_found_lost_keeps_his_reason(postgresql_database, tmp_path, clock):
    run = begun_and_lost(postgresql_database, tmp_path, clock)

    def cancels(session):
        control.cancel(session, run.mailing, actor="test", now=run.now)

    assert compared_while(postgresql_database, books(postgresql_database, tmp_path, clock), cancels)

    with postgresql_database.read() as session:
        assert mailings.get(session, run.mailing).reason == "cancelled by test"


def test_what_is_planned_while_it_is_found_lost_is_not_sent(postgresql_database, tmp_path, clock):
    run = begun_and_lost(postgresql_database, tmp_path, clock)

    def begins(session):
        mailings.lock(session, run.mailing)
        mailings.move(session, run.mailing, MailingState.SENDING, now=run.now)

    assert compared_while(postgresql_database, books(postgresql_database, tmp_path, clock), begins)

    assert run.state() == "cancelled"


@dataclass
class TwoHosts:
    """A mailing to five, and two hosts that have swept after the backup that is there now."""

    run: Run
    time: Time
    one: Path
    other: Path


@pytest.fixture
def two_hosts(database, tmp_path, clock):
    made = TwoHosts(Run(database, readers=5), Time(database), tmp_path / "one", tmp_path / "other")
    for folder in (made.one, made.other):
        books(database, folder, clock).compare(Look.ALL)
    made.time.keep()
    for folder in (made.one, made.other):
        books(database, folder, clock).compare()
    made.time.go_back()
    return made


def test_a_mailing_waits_until_every_host_has_compared_its_journals(database, clock, two_hosts):
    run, one, other = two_hosts.run, two_hosts.one, two_hosts.other
    assert books(database, one, clock).compare()
    with pytest.raises(ConflictError, match=host_id(other)[:8]):
        run.control("resume")
    assert awaited(database) == {host_id(other)}
    # It comes back, and has nothing to add.
    assert books(database, other, clock).compare()
    run.control("resume")
    assert run.state() == "sending"


def test_an_operator_may_go_on_without_a_host_that_is_gone(database, clock, two_hosts):
    run, one, other = two_hosts.run, two_hosts.one, two_hosts.other
    assert books(database, one, clock).compare()

    with database.begin() as session:
        with pytest.raises(NotFoundError):
            standing.go_on_without(session, "no-such", actor="test", now=run.now)
        standing.go_on_without(session, host_id(other)[:8], actor="test", now=run.now)
    run.control("resume")
    assert run.state() == "sending"


def test_a_host_that_had_compared_before_the_backup_is_waited_for_when_that_one_is_restored(database, clock, two_hosts):
    run, time, one, other = two_hosts.run, two_hosts.time, two_hosts.one, two_hosts.other
    assert books(database, one, clock).compare()
    # A backup of now says that the other one is waited for, and this one is not.
    time.keep()
    assert books(database, other, clock).compare()
    run.control("resume")
    books(database, one, clock).compare()
    time.go_back()

    assert books(database, other, clock).compare()

    assert awaited(database) == {host_id(one)}
    with pytest.raises(ConflictError, match=host_id(one)[:8]):
        run.control("resume")
    assert books(database, one, clock).compare()
    assert not awaited(database)
    run.control("resume")


@dataclass
class Newcomer:
    """Two hosts, of which one came after the backup that is there now, and mailed three of eight readers since."""

    run: Run
    old: Path
    new: Path
    letters: list[int]


@pytest.fixture
def newcomer(database, tmp_path, clock):
    run, old, new = Run(database, readers=8), tmp_path / "old", tmp_path / "new"
    books(database, old, clock).compare(Look.ALL)
    time = Time(database)
    time.keep()
    books(database, new, clock).compare(Look.ALL)
    # What the old one's next sweep finds.
    books(database, old, clock).compare()
    sender = run.register(host=host_id(new), boot=boot_id())
    gated = run.gate(run.claim(sender=sender), sender=sender).recipients
    with Journal(new, sender_id=sender) as journal:
        for one, reply in zip(gated, (OK, OK, None), strict=False):
            journal.dot(one.delivery, one.attempt)
            if reply:
                journal.reply(one.delivery, one.attempt, reply, ReplyClass.ACCEPTED)
    time.go_back()
    return Newcomer(run, old, new, [one.delivery for one in gated[:3]])


def awaited(database):
    with database.read() as session:
        return {one.host for one in hosts.awaited(session)}


@pytest.mark.parametrize("remembers", [True, False], ids=["by-its-mark", "by-its-journal-alone"])
def test_a_host_that_came_after_the_backup_stops_and_settles_as_any_other(database, clock, newcomer, remembers):
    if not remembers:
        (newcomer.new / "mark").unlink()

    assert books(database, newcomer.new, clock).compare(Look.ALL)

    states = newcomer.run.states()
    assert [states[number] for number in newcomer.letters] == [S.ACCEPTED, S.ACCEPTED, S.UNCERTAIN]
    assert newcomer.run.state() == "paused"
    assert awaited(database) == {host_id(newcomer.old)}
    assert books(database, newcomer.old, clock).compare()
    newcomer.run.control("resume")


def test_a_host_that_came_after_the_backup_is_waited_for_by_one_that_remembers_it(database, clock, newcomer):
    assert books(database, newcomer.old, clock).compare(Look.ALL)

    assert awaited(database) == {host_id(newcomer.new)}
    with pytest.raises(ConflictError, match=host_id(newcomer.new)[:8]):
        newcomer.run.control("resume")
    assert books(database, newcomer.new, clock).compare(Look.ALL)
    newcomer.run.control("resume")
    assert len(newcomer.run.gate(newcomer.run.claim()).recipients) == 5


def test_the_books_of_a_host_that_is_gone_are_read_where_they_are_put(database, clock, newcomer):
    assert books(database, newcomer.old, clock).compare(Look.ALL)
    # Its disk is saved: what it knew goes to another host, of which a worker is started anew.
    Notebook(newcomer.new).begin(Begun("2019-W23", 99, 1, 2), started_at=1)
    shutil.copytree(newcomer.new / "journals", newcomer.old / "journals", dirs_exist_ok=True)
    with (newcomer.old / "begun.log").open("ab") as log:
        log.write((newcomer.new / "begun.log").read_bytes())

    assert books(database, newcomer.old, clock).compare(Look.ALL)
    with database.begin() as session:
        standing.go_on_without(session, host_id(newcomer.new), actor="test", now=newcomer.run.now)
        assert [one.week for one in lost_issues.undecided(session)] == ["2019-W23"]
    newcomer.run.control("resume")

    states = newcomer.run.states()
    assert [states[number] for number in newcomer.letters] == [S.ACCEPTED, S.ACCEPTED, S.UNCERTAIN]
    assert len(newcomer.run.gate(newcomer.run.claim()).recipients) == 5


def test_a_mark_that_a_program_from_before_wrote_is_read(tmp_path):
    notebook = Notebook(tmp_path)
    (tmp_path / "mark").write_text('{"number": 7, "database": "1:2", "delivery": 9}')
    assert notebook.mark() == Mark(7, "1:2", 9, {})
    newer = Mark(8, "1:2", 9, {"other": 5}, 6, ((0, 5), (90, 6)))
    notebook.write(newer)
    assert notebook.mark() == newer


def test_who_left_before_a_mark_of_a_program_from_before_is_not_looked_at(world):
    world.leave()
    world.come_back()
    seen = Notebook(world.data_dir).mark()
    Notebook(world.data_dir).write(Mark(seen.number, "another", seen.delivery))

    assert not world.again().compare()

    assert not world.has_left()


def test_a_lost_mark_and_a_torn_line_cost_a_comparison_and_nothing_else(world):
    world.start()
    notebook = Notebook(world.data_dir)
    (world.data_dir / "mark").write_text("{torn")
    with (world.data_dir / "begun.log").open("ab") as file:
        file.write(b"2019-W23 9")
    assert notebook.mark() is None
    assert not world.again().compare()
    assert notebook.mark().number > 0
    (begun,) = notebook.begun()
    assert (begun.week, begun.mailing) == (WEEK, world.run.mailing)


def test_who_left_after_the_backup_is_sent_away_again(world):
    world.time.keep()
    world.leave()
    world.books.compare()
    world.time.go_back()
    assert not world.has_left()

    assert world.again().compare()

    assert world.has_left()


def test_who_left_while_a_copy_lagged_behind_is_sent_away_again_though_no_letter_was_lost(world):
    world.time.keep()
    world.leave()
    world.time.go_back()

    assert not world.answered_by_another().compare()

    assert world.has_left()
    assert world.mailing().state.value == "sending"
    with world.database.read() as session:
        (entry,) = audit.about(session, "departures")
    assert (entry.actor, entry.details) == ("test", {"unsubscribed": 1, "erased": 0, "suppressed": 0})
    # Once.
    assert not world.answered_by_another().compare()
    with world.database.read() as session:
        assert len(audit.about(session, "departures")) == 1


def test_who_left_in_a_transaction_that_was_under_way_at_two_sweeps_is_known_by_the_log(world):
    world.time.keep()
    world.leave()
    # The copy has both marks, and the departure, which was written down before them, not yet.
    world.time.go_back()
    for _ in range(2):
        world.clock.advance(minutes=1)
        world.books.compare()

    assert not world.answered_by_another().compare()

    assert world.has_left()


def test_a_worker_that_starts_holds_the_log_against_nobody_where_the_same_database_answers(world):
    world.leave()
    world.come_back()  # by another host

    assert not world.again().compare(Look.ALL)

    assert not world.has_left()


def test_who_came_back_by_the_same_host_stays_whatever_database_answers(world):
    world.leave()
    world.note(Step.CONFIRMED)
    world.come_back()

    assert not world.answered_by_another().compare()

    assert not world.has_left()


def test_what_the_log_was_told_long_ago_is_not_held_against_who_came_back_by_another_host(world):
    world.leave()
    world.come_back()
    for _ in range(2):
        world.clock.advance(minutes=10)
        world.books.compare()

    assert not world.answered_by_another().compare()

    assert not world.has_left()


def test_a_file_put_in_the_place_of_the_database_is_seen_at_the_next_claim(sqlite_database, tmp_path, clock):
    made = World(sqlite_database, tmp_path / "data", clock)
    path = sqlite_database.url.database
    sqlite_database.close()
    shutil.copy(path, tmp_path / "backup")
    sender, journal, claim = made.start()
    gated = made.run.gate(claim, sender=sender).recipients
    made.say(journal, gated[0], OK)
    with sqlite_database.read() as session:
        assert made.books.believed(session)
    sqlite_database.close()
    (tmp_path / "backup").replace(path)

    with sqlite_database.read() as session:
        assert not made.books.believed(session)
    assert made.books.compare()
    assert made.run.states()[gated[0].delivery] is S.ACCEPTED
    journal.close()


def test_operators_hear_of_each_time_that_a_mailing_is_set_back(database, tmp_path, clock):
    run, made = Run(database, readers=8), books(database, tmp_path)
    with database.begin() as session:
        publication.save(session, replace(samples.publication(), operators=OPERATORS[:1]), MADE_AT)
    time, told = Time(database), []
    run.host = host_id(tmp_path)
    made.compare(Look.ALL)
    for _ in range(2):
        sender = run.register(boot=boot_id())
        with Journal(tmp_path, sender_id=sender) as journal:
            claim = run.claim(sender=sender)
            due = run.due(claim)
            time.keep()
            (one,) = run.gate(claim, due[:1], sender=sender).recipients
            journal.dot(one.delivery, one.attempt)
            journal.reply(one.delivery, one.attempt, Reply(250, "2.0.0", "ok"), ReplyClass.ACCEPTED)
            run.record(accepted(one))
        time.go_back()
        assert made.compare(Look.OPEN)
        assert run.state() == "paused"
        with database.read() as session:
            told.append(session.scalar(sa.select(sa.func.count()).select_from(tables.notices)))
        run.control("resume")
    assert told == [1, 2]
