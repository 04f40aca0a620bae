"""What a cancel left out stays so, whoever of the mailing is sent again, until a retry is for everybody."""

import threading

import pytest
import sqlalchemy as sa

from service.delivery import recording
from service.delivery.control import Retried
from service.delivery.resolving import Verdict
from service.domain.content import TextStatus
from service.domain.delivery import DeliveryState, RetryReason
from service.domain.errors import CheckFailedError, ConflictError
from service.domain.mailing import MailingState
from service.domain.maillog import Fate, Finding
from service.domain.replies import Phase, ReplyClass
from service.domain.weeks import Week
from service.mail.letter import Outcome
from service.store import batches, interventions, issues, outcomes, renditions, tables
from service.store.instants import stored
from service.store.interventions import Again
from tests.installation import miscounted
from tests.unit.delivery.parts import WEEK, Run, accepted, result, wait_for_a_waiter
from tests.unit.delivery.test_correcting import bring_back, correct, foreseen, without_russian
from tests.unit.delivery.test_resolving import World, cancel

POLICY = Again(frozenset({RetryReason.POLICY}))
CANCELLED = Again(frozenset({RetryReason.CANCELLED}))
LATER = Finding(Fate.REFUSED, code=451, reply_class=ReplyClass.TRANSIENT)
STANDS = ("sending", "sent")


def taken_up(database, stands="sending"):
    """A cancelled mailing of nine: three were not begun, three are uncertain, and of these the first was named since."""
    world = World(database, readers=9, unsent=3)
    cancel(world)
    assert world.resolve(Verdict.RESEND, world.listed()[:1]) == 1
    if stands == "sent":
        deliver(world)
    assert world.run.state() == stands
    return world


def deliver(world):
    """What waits is mailed; the deliveries."""
    claim, gated = world.gate_again()
    world.run.record(*map(accepted, gated))
    world.run.give_back(claim)
    world.tidy()
    return [one.delivery for one in gated]


def hear(world, recipient, said, *, attempt=None):
    """A journal that comes late tells what became of that letter."""
    late = Outcome(recipient.delivery, attempt or recipient.attempt, said, 0, None, "", Phase.DOT, "mx", past_dot=False)
    with world.run.database.begin() as session:
        batches.settle(session, sorted(recording.record(session, [late], now=world.run.now)))


def put(world, number, state, reason=None):
    """The letter to that reader is in this state."""
    delivery = world.gated[number].delivery
    with world.run.database.begin() as session:
        table = tables.deliveries
        session.execute(table.update().where(table.c.id == delivery).values(state=state, reason=reason))
        interventions.recount(session, world.claim.batch)


def under_way(database, *, cancelled=True):
    """A mailing of nine: one letter under way, one refused by policy, two uncertain, three not begun."""
    world = World(database, readers=9, doubtful=2, unsent=3)
    put(world, 2, 1)
    put(world, 3, 4, "policy")
    if cancelled:
        cancel(world)
    return world


def row(world, number):
    """Of the letter to that reader."""
    with world.run.database.read() as session:
        there = tables.deliveries.c.id == world.gated[number].delivery
        return session.execute(sa.select(tables.deliveries).where(there)).one()


def newest_revision(world):
    with world.run.database.read() as session:
        return [one.revision for one in renditions.newest(session, world.run.mailing).values()]


# What nobody named


@pytest.mark.parametrize("stands", STANDS)
def test_the_policy_sends_nothing_of_a_cancelled_mailing_though_a_letter_was_named(database, stands):
    world = taken_up(database, stands)
    before = world.run.counts()
    assert world.resend_by_policy() == 0
    assert (world.run.state(), world.run.counts()) == (stands, before)


@pytest.mark.parametrize("stands", STANDS)
def test_the_relays_log_gives_back_nothing_that_nobody_named(database, stands):
    world = taken_up(database, stands)
    waiting = {"sending": [world.gated[0].delivery], "sent": []}[stands]

    assert world.by_log({1: LATER}).deferred == 1

    world.tidy()
    assert world.state(1).label == "skipped"
    assert (world.run.state(), row(world, 1).due_at) == (stands, None)
    assert not miscounted(database, world.run.mailing)
    if waiting:
        assert deliver(world) == waiting
    assert world.run.counts() == {"accepted": 4, "uncertain": 1, "skipped": 4}


@pytest.mark.parametrize("said", [ReplyClass.NOT_SENT, ReplyClass.TRANSIENT])
@pytest.mark.parametrize("stands", STANDS)
def test_a_journal_that_comes_late_has_nothing_sent_that_nobody_named(database, stands, said):
    world = taken_up(database, stands)

    hear(world, world.gated[1], said)

    # At once: a worker may come before the next sweep.
    assert (world.state(1).label, row(world, 1).reason) == ("skipped", "cancelled")
    if stands == "sending":
        assert deliver(world) == [world.gated[0].delivery]
    world.tidy()
    assert (world.run.state(), world.run.counts()) == ("sent", {"accepted": 4, "uncertain": 1, "skipped": 4})
    assert not miscounted(database, world.run.mailing)
    # Whoever wants the rest says so.
    assert world.run.control("retry") == 4


def test_a_journal_still_says_that_a_letter_arrived_which_nobody_named(database):
    world = taken_up(database)
    hear(world, world.gated[1], ReplyClass.ACCEPTED)
    assert world.state(1).label == "accepted"


def test_a_host_that_slept_takes_nothing_back_that_nobody_named(database):
    world = taken_up(database)
    ids = [one.delivery for one in world.gated[1:3]]
    with database.begin() as session:
        batch, now_ms = world.claim.batch, stored(world.run.now)
        assert outcomes.take_back(session, batch, ids, sender=world.run.sender, now_ms=now_ms)
        batches.settle(session, [batch])
    assert world.run.counts() == {"pending": 1, "accepted": 3, "skipped": 5}
    assert not miscounted(database, world.run.mailing)


def test_a_mailing_that_an_older_program_cancelled_stays_so_too(database):
    world = World(database, readers=9, unsent=3)
    cancel(world)
    with database.begin() as session:
        session.execute(tables.mailings.update().values(cancelled_at=None))
    assert world.resolve(Verdict.RESEND, world.listed()[:1]) == 1
    assert world.resend_by_policy() == 0
    hear(world, world.gated[1], ReplyClass.NOT_SENT)
    assert world.run.counts() == {"pending": 1, "accepted": 3, "uncertain": 1, "skipped": 4}


def test_readers_without_an_edition_get_none_when_what_was_named_is_resumed(database):
    run = Run(database, readers=8, chains=("en", "ru"), planned=False)
    whole = without_russian(run)
    run.planner().plan(run.mailing)
    run.control("cancel")
    assert run.control("retry", which=CANCELLED) == 4
    run.control("pause")
    bring_back(run, whole)
    run.control("resume")
    assert run.counts() == {"pending": 4, "skipped": 4}
    # A retry of everybody is for them, too.
    assert run.control("retry") == 4


# What was named


@pytest.mark.parametrize("said", [ReplyClass.NOT_SENT, ReplyClass.TRANSIENT])
@pytest.mark.parametrize("doubtful", [False, True])
def test_a_letter_that_was_named_goes_on_when_it_comes_back(database, said, doubtful):
    world = taken_up(database)
    claim, gated = world.gate_again()
    if doubtful:
        world.lose(gated)
    world.run.give_back(claim)
    world.tidy()
    assert world.run.state() == ("sent" if doubtful else "sending")

    hear(world, gated[0], said)

    world.tidy()
    label = "pending" if said is ReplyClass.NOT_SENT else "deferred"
    assert (world.run.state(), world.state(0).label) == ("sending", label)
    assert world.run.counts() == {label: 1, "accepted": 3, "uncertain": 2, "skipped": 3}


def test_another_letter_may_be_named_while_the_first_is_out_and_both_get_the_issue_as_it_is(database):
    world = taken_up(database)
    correct(world.run)
    assert world.resolve(Verdict.RESEND, world.listed()[:1]) == 1
    assert newest_revision(world) == [2]
    assert world.run.counts() == {"pending": 2, "accepted": 3, "uncertain": 1, "skipped": 3}


def test_a_second_cancel_is_of_what_was_named_too(database):
    world = taken_up(database)
    claim, gated = world.gate_again()
    world.lose(gated)
    world.run.give_back(claim)
    world.run.control("cancel")
    assert world.resolve(Verdict.RESEND, world.listed()[1:2]) == 1
    hear(world, gated[0], ReplyClass.NOT_SENT)
    assert world.state(0).label == "skipped"


# Everybody


@pytest.mark.parametrize("stands", STANDS)
def test_once_a_retry_is_for_everybody_nothing_is_cancelled_any_more(database, stands):
    world = taken_up(database, stands)
    assert world.run.control("retry") == 3
    hear(world, world.gated[1], ReplyClass.NOT_SENT)
    assert world.state(1).label == "pending"
    assert world.resend_by_policy() == 1
    assert world.state(2).label == "pending"


def test_a_retry_that_finds_nobody_leaves_what_was_cancelled_so(database):
    world = World(database)
    cancel(world)
    assert world.run.control("retry") == 0
    assert world.resolve(Verdict.RESEND, world.listed()[:1]) == 1
    assert world.run.control("retry") == 0
    assert world.resend_by_policy() == 0


# Whom a cancel left out gets the issue as it is, though the mailing is being sent to others


@pytest.mark.parametrize("which", [interventions.EVERY, CANCELLED])
def test_who_joins_those_who_are_sent_again_gets_the_issue_as_it_is_now(database, which):
    world = taken_up(database)
    correct(world.run, status=TextStatus.READY)
    before = world.run.counts()
    with pytest.raises(CheckFailedError, match="not approved"):
        foreseen(world.run, which=which)
    with pytest.raises(CheckFailedError, match="not approved"):
        world.run.control("retry", which=which)
    assert (world.run.counts(), newest_revision(world)) == (before, [1])

    correct(world.run)
    assert foreseen(world.run, which=which) == Retried(MailingState.SENDING, 3, ("en",))
    assert newest_revision(world) == [1]
    assert world.run.control("retry", which=which) == 3
    assert newest_revision(world) == [2]


def test_a_retry_of_what_no_cancel_left_out_asks_nothing_of_the_issue(database):
    world = taken_up(database)
    put(world, 5, 4, "policy")
    correct(world.run, status=TextStatus.READY)
    assert foreseen(world.run, which=POLICY) == Retried(MailingState.SENDING, 1)
    assert world.run.control("retry", which=POLICY) == 1
    assert newest_revision(world) == [1]


def test_a_paused_one_gets_the_issue_as_it_is_when_it_is_resumed(database):
    world = taken_up(database)
    world.run.control("pause")
    correct(world.run, status=TextStatus.READY)
    assert foreseen(world.run) == Retried(MailingState.PAUSED, 3)
    assert world.run.control("retry") == 3
    with pytest.raises(CheckFailedError, match="not approved"):
        world.run.control("resume")
    correct(world.run)
    assert world.run.control("resume") == ("en",)


@pytest.mark.parametrize("verb", ["retry", "resume"])
def test_the_issue_is_held_before_the_mailing_that_goes_on_with_it(postgresql_database, verb):
    world = taken_up(postgresql_database)
    if verb == "resume":
        world.run.control("pause")
    done = []
    thread = threading.Thread(target=lambda: done.append(world.run.control(verb)))
    with postgresql_database.begin() as session:
        issues.hold(session, Week.parse(WEEK))
        thread.start()
        wait_for_a_waiter(postgresql_database)
        # It waits for the issue, and holds nothing that whoever has the issue may ask for.
        session.execute(sa.text("SELECT id FROM mailings FOR UPDATE NOWAIT"))
    thread.join()
    assert done == [3 if verb == "retry" else ()]


# A retry of some


@pytest.mark.parametrize("which", [POLICY, CANCELLED, Again(provider="other")])
def test_a_cancelled_mailing_is_not_retried_for_some_while_letters_are_under_way(database, which):
    world = under_way(database)
    before = world.run.counts()
    assert before == {"attempting": 1, "accepted": 2, "refused": 1, "uncertain": 2, "skipped": 3}
    for attempt in (foreseen, lambda run, which: run.control("retry", which=which)):
        with pytest.raises(ConflictError, match=r"are under way \(1\), as they were when it was cancelled"):
            attempt(world.run, which=which)
    assert (world.run.state(), world.run.counts()) == ("cancelled", before)
    # For everybody it may be, as before: what comes back is for them.
    assert world.run.control("retry") == 4


@pytest.mark.parametrize(
    ("which", "again"),
    [
        (POLICY, 1),
        (CANCELLED, 4),
        (Again(frozenset({RetryReason.DEFERRED})), 0),
        (Again(provider="other"), 5),
    ],
)
def test_what_came_back_since_the_cancel_is_mailed_only_if_it_is_meant(database, which, again):
    world = under_way(database)
    hear(world, world.gated[2], ReplyClass.TRANSIENT)
    assert world.run.counts()["deferred"] == 1
    state = MailingState.SENDING if again else MailingState.CANCELLED
    assert foreseen(world.run, which=which) == Retried(state, again)

    assert world.run.control("retry", which=which) == again

    left = {"pending": again, "accepted": 2, "refused": 1, "uncertain": 2, "skipped": 4}
    left["refused"] -= which.provider is not None or which == POLICY
    left["skipped"] -= again - (1 - left["refused"])
    assert world.run.counts() == {name: count for name, count in left.items() if count}
    assert world.run.state() == state.value
    assert not miscounted(database, world.run.mailing)


def test_what_comes_back_after_a_retry_of_some_is_cancelled_too(database):
    world = under_way(database)
    put(world, 2, 2)
    assert world.run.control("retry", which=POLICY) == 1
    assert world.resend_by_policy() == 0
    hear(world, world.gated[0], ReplyClass.NOT_SENT)
    assert deliver(world) == [world.gated[3].delivery]
    assert (world.run.state(), world.run.counts()) == ("sent", {"accepted": 4, "uncertain": 1, "skipped": 4})


def test_an_edition_in_which_nobody_waits_after_the_cancel_is_not_asked_for(database):
    """As it is foreseen, so it goes: who came back since is cancelled before."""
    run = Run(database, readers=4, chains=("en", "ru"), batch_limit=2)
    claims = [run.claim(batch) for batch in run.batch_ids()]
    gated = {claim.chain: run.gate(claim).recipients for claim in claims}
    run.control("cancel")
    run.record(*(result(one, DeliveryState.REFUSED, reason="policy") for one in gated["en"]))
    run.record(*(result(one, DeliveryState.DEFERRED, due_ms=10**13) for one in gated["ru"]))
    without_russian(run)
    expected = foreseen(run, which=POLICY)
    assert (expected.state, expected.again) == (MailingState.SENDING, 2)
    assert run.control("retry", which=POLICY) == 2
    assert run.counts() == {"pending": 2, "skipped": 2}
