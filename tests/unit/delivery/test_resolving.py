"""Uncertain deliveries are resolved once: by an operator, by the relay's log, by a journal, or by the policy."""

import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from service.delivery import progress, recording, resolving
from service.delivery.correcting import Proofreader
from service.delivery.recovery import Recovery
from service.delivery.resolving import Verdict
from service.delivery.sweep import Sweep
from service.domain.content import TextStatus
from service.domain.errors import CheckFailedError, ConflictError, InvalidInputError, NotFoundError
from service.domain.maillog import Fate, Finding
from service.domain.replies import Phase, ReplyClass
from service.domain.subscriber import SubscriberStatus, public_id
from service.domain.tokens import DeliverySigner
from service.mail.letter import Outcome
from service.queue import SEND_BATCH
from service.store import audit, hosts, interventions, lost_issues, mailings, renditions, subscribers, uncertain
from service.store.engine_tables import bounces
from service.store.instants import stored
from tests.conftest import KEYRING
from tests.factories import JOINED
from tests.installation import miscounted
from tests.unit.delivery.parts import PRESS, Run, accepted, books
from tests.unit.delivery.test_correcting import correct

IDS = DeliverySigner(KEYRING)


class World:
    """A mailing whose letters are accepted but for the first few, which are uncertain."""

    def __init__(self, database, doubtful=3, readers=6, unsent=0):
        self.run = Run(database, readers=readers)
        self.claim = self.run.claim()
        waiting = self.run.due(self.claim)
        self.gated = self.run.gate(self.claim, waiting[: readers - unsent]).recipients
        self.lose(self.gated[:doubtful])
        self.run.record(*map(accepted, self.gated[doubtful:]))
        self.run.give_back(self.claim)
        self.tidy()

    def now(self):
        return self.run.now

    def lose(self, recipients):
        outcomes = [
            Outcome(one.delivery, one.attempt, ReplyClass.UNCERTAIN, 0, None, "the connection broke", Phase.DOT, "mx:25",
                    past_dot=True)
            for one in recipients
        ]  # fmt: skip
        with self.run.database.begin() as session:
            recording.record(session, outcomes, now=self.run.now)

    def tidy(self):
        with self.run.database.begin() as session:
            progress.tidy(session, now=self.run.now)

    def listed(self):
        with self.run.database.read() as session:
            return uncertain.listed(session, self.run.mailing)

    def resolve(self, verdict, which=None):
        chosen = self.listed() if which is None else which
        with self.run.database.begin() as session:
            return resolving.resolve(
                session, self.run.mailing, verdict, chosen, self.run.bell, proofs=Proofreader(PRESS, lambda *_: []),
                actor="test", now=self.run.now,
            )  # fmt: skip

    def by_log(self, findings):
        by_delivery = {self.gated[number].delivery: finding for number, finding in findings.items()}
        with self.run.database.begin() as session:
            return resolving.resolve_by_log(
                session, self.run.mailing, by_delivery, self.run.bell, actor="test", now=self.run.now
            )

    def resend_by_policy(self):
        with self.run.database.begin() as session:
            return resolving.resend_once(session, self.run.bell, now=self.run.now)

    def gate_again(self):
        claim = self.run.claim()
        gated = self.run.gate(claim).recipients
        return claim, gated

    def state(self, number):
        return self.run.states()[self.gated[number].delivery]


@pytest.fixture
def world(database):
    return World(database)


def test_each_is_listed_with_its_evidence(world):
    first, *_ = found = world.listed()
    assert [one.delivery for one in found] == [one.delivery for one in world.gated[:3]]
    assert first.subscriber == world.gated[0].subscriber
    assert (first.attempt, first.times, first.batch, first.chain) == (1, 1, world.claim.batch, "en")
    assert (first.relay, first.host, first.phase) == ("mx:25", "this-host", "dot")
    assert (first.read, first.at) == ("the connection broke", world.run.now)


def test_whose_reader_was_forgotten_stays_uncertain_as_nothing_reaches_them(world):
    gone, *others = world.listed()
    with world.run.database.begin() as session:
        subscribers.erase(session, gone.subscriber, week=JOINED)
    assert world.resend_by_policy() == len(others)
    assert [one.delivery for one in world.listed()] == [gone.delivery]
    claim, gated = world.gate_again()
    world.run.record(*map(accepted, gated))
    world.run.give_back(claim)
    world.tidy()
    assert world.resolve(Verdict.RESEND) == 0
    assert world.run.state() == "sent"
    assert world.resolve(Verdict.ACCEPTED) == 1


def test_a_resend_makes_a_mailing_that_was_sent_go_on_and_rings_for_it(world):
    assert world.run.state() == "sent"
    world.run.bell.rung.clear()

    assert world.resolve(Verdict.RESEND) == 3

    assert world.run.state() == "sending"
    assert world.run.counts() == {"pending": 3, "accepted": 3}
    assert not miscounted(world.run.database, world.run.mailing)
    assert world.run.bell.heard(SEND_BATCH) == [world.claim.batch]
    claim, gated = world.gate_again()
    assert [(one.delivery, one.attempt) for one in gated] == [(one.delivery, 2) for one in world.gated[:3]]
    world.run.record(*map(accepted, gated))
    world.run.give_back(claim)
    world.tidy()
    assert (world.run.state(), world.run.counts()) == ("sent", {"accepted": 6})


@pytest.mark.parametrize(("verdict", "label"), [(Verdict.ACCEPTED, "accepted"), (Verdict.REFUSED, "refused")])
def test_an_operators_word_settles_them_and_the_mailing_stays_sent(world, verdict, label):
    assert world.resolve(verdict, world.listed()[:1]) == 1

    assert world.state(0).label == label
    assert world.run.counts()["uncertain"] == 2
    assert world.run.state() == "sent"
    assert not miscounted(world.run.database, world.run.mailing)
    with world.run.database.read() as session:
        entry = next(one for one in audit.newest(session, 9) if one.action == "mailing.resolve")
    assert (entry.actor, entry.details["verdict"]) == ("test", verdict.value)
    assert entry.details["deliveries"] == [world.gated[0].delivery]


def test_what_an_operator_counts_as_refused_is_never_tried_again_and_suppresses_nobody(world):
    world.resolve(Verdict.REFUSED)
    assert world.run.control("retry") == 0
    with world.run.database.read() as session:
        assert subscribers.get(session, world.gated[0].subscriber).status is SubscriberStatus.ACTIVE


def test_a_second_word_changes_nothing(world):
    stale = world.listed()
    assert world.resolve(Verdict.ACCEPTED) == 3
    assert world.resolve(Verdict.RESEND, stale) == 0
    assert (world.run.state(), world.run.counts()) == ("sent", {"accepted": 6})


def test_a_word_about_an_earlier_attempt_changes_nothing(world):
    stale = world.listed()
    world.resolve(Verdict.RESEND)
    claim, gated = world.gate_again()
    world.lose(gated)
    world.run.give_back(claim)

    assert world.resolve(Verdict.RESEND, stale) == 0
    assert [one.times for one in world.listed()] == [2, 2, 2]


def cancel(world):
    with world.run.database.begin() as session:
        session.execute(sa.text("UPDATE mailings SET state = 'sending'"))
    world.run.control("cancel")


def test_a_cancelled_mailing_is_put_right_and_stays_cancelled(world):
    cancel(world)
    stale = world.listed()
    assert world.resolve(Verdict.ACCEPTED) == 3
    assert world.resolve(Verdict.RESEND, stale) == 0
    assert (world.run.state(), world.run.counts()) == ("cancelled", {"accepted": 6})


def test_of_a_cancelled_mailing_the_letters_that_are_named_are_sent_again_as_the_issue_is_now(database):
    world = World(database, readers=9, unsent=3)
    run = world.run
    cancel(world)
    late = world.gated[-1]
    with database.begin() as session:
        # One that was under way at the cancel came back since.
        session.execute(sa.text("UPDATE deliveries SET state = 3 WHERE id = :id"), {"id": late.delivery})
        interventions.recount(session, world.claim.batch)
    correct(run)
    run.bell.rung.clear()

    assert world.resolve(Verdict.RESEND, world.listed()[:1]) == 1

    assert run.state() == "sending"
    assert run.counts() == {"pending": 1, "accepted": 2, "uncertain": 2, "skipped": 4}
    assert not miscounted(database, run.mailing)
    assert run.bell.heard(SEND_BATCH) == [world.claim.batch]
    with database.read() as session:
        assert [one.revision for one in renditions.newest(session, run.mailing).values()] == [2]
    claim, gated = world.gate_again()
    assert [one.delivery for one in gated] == [world.gated[0].delivery]
    run.record(*map(accepted, gated))
    run.give_back(claim)
    world.tidy()
    assert (run.state(), run.counts()) == ("sent", {"accepted": 3, "uncertain": 2, "skipped": 4})
    # Whoever wants the rest says so.
    assert run.control("retry") == 4


def test_a_letter_of_a_cancelled_mailing_is_not_sent_again_with_what_nobody_approved(world):
    cancel(world)
    correct(world.run, status=TextStatus.READY)
    with pytest.raises(CheckFailedError, match="not approved"):
        world.resolve(Verdict.RESEND)
    assert (world.run.state(), world.run.counts()) == ("cancelled", {"accepted": 3, "uncertain": 3})


def sent_but_for_the_cancelled(database):
    """A mailing that was cancelled, of which one uncertain letter was sent again after all."""
    world = World(database, readers=9, unsent=3)
    cancel(world)
    assert world.resolve(Verdict.RESEND, world.listed()[:1]) == 1
    claim, gated = world.gate_again()
    world.run.record(*map(accepted, gated))
    world.run.give_back(claim)
    world.tidy()
    assert (world.run.state(), world.run.counts()) == ("sent", {"accepted": 4, "uncertain": 2, "skipped": 3})
    return world


def newest_revisions(world):
    with world.run.database.read() as session:
        return [one.revision for one in renditions.newest(session, world.run.mailing).values()]


def test_whom_a_cancel_left_out_gets_the_issue_as_it_is_though_others_were_sent_theirs_meanwhile(database):
    world = sent_but_for_the_cancelled(database)
    correct(world.run)
    assert world.run.control("retry") == 3
    assert newest_revisions(world) == [2]


def test_whom_a_cancel_left_out_gets_nothing_that_nobody_approved(database):
    world = sent_but_for_the_cancelled(database)
    correct(world.run, status=TextStatus.READY)
    with pytest.raises(CheckFailedError, match="not approved"):
        world.run.control("retry")
    with pytest.raises(CheckFailedError, match="not approved"):
        world.resolve(Verdict.RESEND)
    assert (world.run.state(), world.run.counts()) == ("sent", {"accepted": 4, "uncertain": 2, "skipped": 3})
    assert newest_revisions(world) == [1]


def test_while_letters_of_a_cancelled_mailing_are_under_way_none_of_it_is_sent_again(database):
    world = World(database, readers=9, unsent=3)
    cancel(world)
    with database.begin() as session:
        session.execute(sa.text("UPDATE deliveries SET state = 1 WHERE id = :id"), {"id": world.gated[-1].delivery})
        interventions.recount(session, world.claim.batch)
    before = world.run.counts()
    assert before["attempting"] == 1
    with pytest.raises(ConflictError, match=r"are under way \(1\), as they were when it was cancelled"):
        world.resolve(Verdict.RESEND)
    assert (world.run.state(), world.run.counts()) == ("cancelled", before)


def test_a_log_takes_no_cancelled_mailing_up(world):
    cancel(world)
    refused = Finding(Fate.REFUSED, code=451, reply_class=ReplyClass.TRANSIENT)
    assert world.by_log({0: refused}).deferred == 1
    assert world.run.state() == "cancelled"


def test_a_paused_mailing_stays_paused_with_its_reason(database):
    world = World(database)
    with database.begin() as session:
        session.execute(sa.text("UPDATE mailings SET state = 'paused', reason = 'because'"))
    assert world.resolve(Verdict.RESEND) == 3
    with database.read() as session:
        assert session.execute(sa.text("SELECT state, reason FROM mailings")).one() == ("paused", "because")


def test_an_operator_and_a_late_journal_that_decide_at_once_decide_once(postgresql_database):
    world = World(postgresql_database)
    stale = world.listed()
    begun, done = threading.Event(), []

    def journal():
        with world.run.database.begin() as session:
            spoken = [
                Outcome(
                    one.delivery, one.attempt, ReplyClass.ACCEPTED, 250, None, "", Phase.DOT, "mx:25", past_dot=True
                )
                for one in world.gated[:3]
            ]
            recording.record(session, spoken, now=world.run.now)
            begun.set()
            done.append(True)
            threading.Event().wait(0.3)

    thread = threading.Thread(target=journal)
    thread.start()
    begun.wait()
    assert world.resolve(Verdict.RESEND, stale) == 0
    thread.join()

    assert done
    assert world.run.counts() == {"accepted": 6}
    assert not miscounted(world.run.database, world.run.mailing)


# By name


def test_deliveries_are_named_by_message_id_or_reader(world):
    found = world.listed()
    message_id = f"<{IDS.message_id(found[1].delivery)}@weekly.example.org>"
    names = [message_id, message_id.upper(), public_id(found[0].subscriber)]
    assert resolving.chosen(found, names, IDS) == [found[1], found[0]]
    with pytest.raises(NotFoundError, match="no uncertain delivery"):
        resolving.chosen(found[:1], [message_id], IDS)
    with pytest.raises(InvalidInputError, match="Message-ID") as caught:
        resolving.chosen(found, ["canary@example.test"], IDS)
    assert "canary" not in str(caught.value)


# By the relay's log

TAKEN = Finding(Fate.TAKEN, "sent", 250, "2.0.0", ReplyClass.ACCEPTED)


def test_what_was_in_the_relays_queue_was_accepted(world):
    done = world.by_log({0: TAKEN, 1: Finding(Fate.BEGUN), 2: Finding(Fate.UNKNOWN)})

    assert (done.accepted, done.begun, done.unknown, done.bounced) == (1, 1, 1, 0)
    assert world.run.counts() == {"accepted": 4, "uncertain": 2}
    assert not miscounted(world.run.database, world.run.mailing)
    assert world.run.state() == "sent"


def test_a_bounce_after_the_queue_is_an_acceptance_and_a_bounce(world):
    gone = Finding(Fate.TAKEN, "bounced", 550, "5.1.1", ReplyClass.HARD)
    full = Finding(Fate.TAKEN, "bounced", 552, "5.2.2", ReplyClass.SOFT)
    ours = Finding(Fate.TAKEN, "bounced", 554, "5.7.1", ReplyClass.POLICY)

    done = world.by_log({0: gone, 1: full, 2: ours})

    assert (done.accepted, done.bounced) == (3, 3)
    assert world.run.counts() == {"accepted": 6}
    with world.run.database.read() as session:
        statuses = [subscribers.get(session, one.subscriber).status for one in world.gated[:3]]
        scored = session.execute(sa.select(bounces)).all()
    assert statuses == [SubscriberStatus.BOUNCED, SubscriberStatus.ACTIVE, SubscriberStatus.ACTIVE]
    assert [(row.subscriber_id, row.code, row.returned) for row in scored] == [(world.gated[1].subscriber, 552, True)]


def test_what_the_relay_refused_is_refused_or_put_off_as_it_said(world):
    done = world.by_log(
        {
            0: Finding(Fate.REFUSED, None, 550, "5.7.1", ReplyClass.POLICY),
            1: Finding(Fate.REFUSED, None, 451, "4.7.1", ReplyClass.TRANSIENT),
        }
    )
    assert (done.refused, done.deferred) == (1, 1)
    assert world.run.counts() == {"accepted": 3, "refused": 1, "deferred": 1, "uncertain": 1}
    assert world.run.state() == "sending"
    assert world.run.batch(world.claim.batch).open
    assert world.run.control("retry") == 2


def test_a_refusal_in_the_log_of_a_later_attempt_may_be_that_of_an_earlier_one(world):
    world.resolve(Verdict.RESEND)
    claim, gated = world.gate_again()
    world.lose(gated)
    world.run.give_back(claim)

    done = world.by_log({0: Finding(Fate.REFUSED, None, 550, "5.7.1", ReplyClass.POLICY)})

    assert (done.refused, done.begun) == (0, 1)
    assert world.run.counts()["uncertain"] == 3


# By the policy


def test_the_policy_sends_again_once_and_holds_what_is_uncertain_again(world):
    assert world.resend_by_policy() == 3
    claim, gated = world.gate_again()
    world.lose(gated[:1])
    world.run.record(*map(accepted, gated[1:]))
    world.run.give_back(claim)
    world.tidy()

    assert world.resend_by_policy() == 0
    assert (world.run.state(), world.run.counts()) == ("sent", {"accepted": 5, "uncertain": 1})
    with world.run.database.read() as session:
        entries = [one for one in audit.newest(session, 9) if one.action == "mailing.resolve"]
    assert [(one.actor, one.details["letters"]) for one in entries] == [("policy", 3)]


def test_the_policy_leaves_alone_what_is_older_than_two_days_or_cancelled(world):
    world.run.now += dt.timedelta(hours=49)
    assert world.resend_by_policy() == 0
    world.run.now -= dt.timedelta(hours=48)
    with world.run.database.begin() as session:
        session.execute(sa.text("UPDATE mailings SET state = 'cancelled'"))
    assert world.resend_by_policy() == 0
    assert world.run.counts()["uncertain"] == 3


@pytest.mark.parametrize("resend", [False, True])
def test_the_sweep_does_as_the_installations_policy_says(world, tmp_path, resend):
    recovery = Recovery(world.run.database, tmp_path, world, 3600.0)
    sweep = Sweep(
        world.run.database,
        world.run.bell,
        lambda *_: [],
        world,
        recovery,
        books(world.run.database, tmp_path),
        resend_uncertain=resend,
    )

    assert sweep.run()

    assert world.run.counts() == ({"accepted": 3, "pending": 3} if resend else {"accepted": 3, "uncertain": 3})
    assert world.run.state() == ("sending" if resend else "sent")


def test_what_a_lost_host_left_is_sent_again_only_after_its_hour(database, tmp_path, clock):
    run = Run(database, readers=2)
    run.gate(run.claim())
    sweep = Sweep(
        database,
        run.bell,
        lambda *_: [],
        clock,
        Recovery(database, tmp_path, clock, 3600.0),
        books(database, tmp_path),
        True,
    )

    assert sweep.run()
    assert run.counts() == {"attempting": 2}

    with database.begin() as session:
        session.execute(sa.text("UPDATE senders SET seen_at = 1"))
        session.execute(sa.text("DELETE FROM locks"))
    assert sweep.run()
    assert run.counts() == {"pending": 2}
    with database.read() as session:
        rows = session.execute(sa.text("SELECT outcome, relay FROM attempts")).all()
    assert [tuple(row) for row in rows] == [("uncertain", "relay")] * 2


def test_nothing_is_sent_again_while_a_hosts_journals_are_waited_for(database):
    world = World(database)
    with database.begin() as session:
        hosts.await_all(session, "a" * 32, {})

    assert world.resend_by_policy() == 0
    with pytest.raises(ConflictError, match="have not been compared"):
        world.resolve(Verdict.RESEND)
    assert world.run.counts() == {"accepted": 3, "uncertain": 3}
    assert world.resolve(Verdict.ACCEPTED) == 3


def test_a_lost_issue_keeps_no_sweep_from_its_work(database):
    world = World(database)
    with database.begin() as session:
        week = mailings.get(session, world.run.mailing).week
        assert lost_issues.add(session, week, host="a" * 32, begun_at=stored(world.run.now))

    assert world.resend_by_policy() == 0
    assert world.run.counts() == {"accepted": 3, "uncertain": 3}
