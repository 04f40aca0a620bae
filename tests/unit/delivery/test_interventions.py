"""What an operator does: pause, resume, cancel, retry, rate."""

import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from service.delivery import control, recording, release, resolving
from service.delivery.correcting import Proofreader
from service.delivery.plan import Planner
from service.domain.delivery import DeliveryState, RetryReason
from service.domain.errors import CheckFailedError, ConflictError, InvalidInputError, NotFoundError
from service.domain.replies import Phase, ReplyClass
from service.mail.letter import Outcome
from service.queue import PLAN_MAILING, SEND_BATCH
from service.store import batches, gate, hindsight, interventions, mailings, providers, tables, uncertain
from service.store.instants import stored
from service.store.interventions import Again
from tests.installation import miscounted
from tests.unit.delivery.parts import PRESS, Run, accepted, result, wait_for_a_waiter


def every_state(database):
    """A mailing with one delivery in each state but pending and attempting, and two of those."""
    run = Run(database, readers=9)
    claim = run.claim()
    ids = run.due(claim)
    run.change_reader(0, status="unsubscribed")
    gated = run.gate(claim, ids).recipients
    kinds = [
        (DeliveryState.ACCEPTED, None),
        (DeliveryState.REFUSED, "hard"),
        (DeliveryState.REFUSED, "policy"),
        (DeliveryState.DEFERRED, "transient"),
        (DeliveryState.UNCERTAIN, "uncertain"),
        (DeliveryState.EXPIRED, "transient"),
        (DeliveryState.PENDING, None),
    ]
    run.record(
        *(
            result(one, state, reason=reason, due_ms=10**13 if state is DeliveryState.DEFERRED else None)
            for one, (state, reason) in zip(gated, kinds, strict=False)
        )
    )
    run.give_back(claim)
    return run


ALL = {
    "pending": 1, "attempting": 1, "accepted": 1, "deferred": 1, "refused": 2, "uncertain": 1, "skipped": 1,
    "expired": 1,
}  # fmt: skip


def test_a_retry_takes_what_may_be_tried_again_and_nothing_else(database):
    run = every_state(database)
    assert run.counts() == ALL

    # Deferred, expired and refused by policy; never hard refusals, uncertain ones, or readers who left.
    assert run.control("retry") == 3

    assert run.counts() == {
        "pending": 4, "attempting": 1, "accepted": 1, "refused": 1, "uncertain": 1, "skipped": 1,
    }  # fmt: skip
    assert not miscounted(database, run.mailing)
    assert run.batch(run.batch_ids()[0]).due_at == 0
    assert run.bell.heard(SEND_BATCH)


def test_a_cancel_skips_what_waits_and_a_retry_takes_that_back(database):
    run = every_state(database)

    assert run.control("cancel") == 2

    assert run.state() == "cancelled"
    assert run.counts() == {
        "attempting": 1, "accepted": 1, "refused": 2, "uncertain": 1, "skipped": 3, "expired": 1,
    }  # fmt: skip
    assert not miscounted(database, run.mailing)
    assert run.claim() is None

    assert run.control("retry") == 4  # two that were cancelled, the expired one, and the refusal by policy
    assert run.state() == "sending"
    assert run.counts() == {
        "pending": 4, "attempting": 1, "accepted": 1, "refused": 1, "uncertain": 1, "skipped": 1,
    }  # fmt: skip


def test_the_outcome_of_a_letter_under_way_is_recorded_after_a_cancel(database):
    run = Run(database, readers=3)
    claim = run.claim()
    gated = run.gate(claim).recipients
    run.control("cancel")

    run.record(*map(accepted, gated))
    run.give_back(claim)

    assert run.counts() == {"accepted": 3}
    assert run.state() == "cancelled"


def test_a_pause_shuts_the_gate_and_resume_rings_again(database):
    run = Run(database, readers=3)
    run.control("pause")
    assert run.claim() is None
    with pytest.raises(ConflictError, match="it cannot pause"):
        run.control("pause")
    run.bell.rung.clear()

    run.control("resume")

    assert run.bell.heard(SEND_BATCH) == run.batch_ids()
    assert run.claim() is not None
    with pytest.raises(ConflictError, match="it cannot resume"):
        run.control("resume")


def test_a_retry_of_what_is_sent_opens_it_again_only_where_there_is_something(database):
    run = Run(database, readers=2)
    claim = run.claim()
    gated = run.gate(claim).recipients
    run.record(accepted(gated[0]), result(gated[1], DeliveryState.REFUSED, reason="hard"))
    run.give_back(claim)
    finish(run)
    assert run.state() == "sent"

    assert run.control("retry") == 0
    assert run.state() == "sent"


def finish(run):
    from service.delivery import progress

    with run.database.begin() as session:
        progress.tidy(session, now=run.now)


def test_a_paused_mailing_can_be_retried_and_stays_paused(database):
    run = every_state(database)
    run.control("pause")
    assert run.control("retry") == 3
    assert run.state() == "paused"
    assert run.claim() is None


@pytest.mark.parametrize("rate", [-1, 10**7, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(database, rate):
    run = Run(database, readers=0)
    with pytest.raises(InvalidInputError):
        run.control("set_rate", rate=rate)


@pytest.mark.parametrize("verb", ["pause", "resume", "cancel", "retry"])
def test_a_mailing_that_is_not_there_is_said_so(database, verb):
    run = Run(database, readers=0)
    run.mailing = 999
    with pytest.raises(NotFoundError, match="999"):
        run.control(verb)


@pytest.mark.parametrize(
    ("reasons", "left"),
    [
        ({RetryReason.POLICY}, {"pending": 2, "deferred": 1, "refused": 1, "expired": 1}),
        ({RetryReason.EXPIRED}, {"pending": 2, "deferred": 1, "refused": 2}),
        ({RetryReason.DEFERRED, RetryReason.EXPIRED}, {"pending": 3, "refused": 2}),
        ({RetryReason.CANCELLED}, {"pending": 1, "deferred": 1, "refused": 2, "expired": 1}),
    ],
)
def test_a_retry_may_be_for_some_reasons_only(database, reasons, left):
    run = every_state(database)
    run.control("retry", which=Again(frozenset(reasons)))
    assert run.counts() == {"attempting": 1, "accepted": 1, "uncertain": 1, "skipped": 1, **left}
    assert not miscounted(database, run.mailing)


def test_a_retry_may_be_for_one_provider_only(database):
    run = Run(database, readers=4)
    for number, provider in enumerate(["gmail", "yandex", "a hash of a domain", None]):
        run.change_reader(number, provider=provider)
    run.record(*(result(one, DeliveryState.EXPIRED, reason="transient") for one in run.gate(run.claim()).recipients))

    with database.read() as session:
        assert providers.states(session, run.mailing) == {
            "gmail": {DeliveryState.EXPIRED: 1}, "yandex": {DeliveryState.EXPIRED: 1},
            "other": {DeliveryState.EXPIRED: 2},
        }  # fmt: skip
    assert run.control("retry", which=Again(provider="gmail")) == 1
    assert run.delivery_of(0).state == DeliveryState.PENDING
    assert run.control("retry", which=Again(frozenset({RetryReason.POLICY}), "yandex")) == 0
    assert run.control("retry", which=Again(provider="other")) == 2
    assert run.counts() == {"pending": 3, "expired": 1}


def test_a_retry_of_a_paused_mailing_keeps_the_reason_of_its_pause(database):
    run = every_state(database)
    run.control("pause", reason="the relay refuses all")
    run.control("retry")
    with database.read() as session:
        assert mailings.get(session, run.mailing).reason == "the relay refuses all"


@pytest.mark.parametrize("planned", [0, 2], ids=["nothing is planned", "half is planned"])
def test_a_retry_that_has_yet_to_plan_asks_first_whether_the_issue_can_be_sent(database, planned):
    run = Run(database, readers=4, planned=False)
    stop_planning(run, after=planned)
    before = run.counts()

    with pytest.raises(CheckFailedError, match="2019-W22 cannot be sent yet:\n  no text is approved"):
        run.control("retry", check=lambda *_: ["no text is approved"])
    with database.read() as session, pytest.raises(CheckFailedError, match="no text is approved"):
        control.after_retry(session, run.mailing, lambda *_: ["no text is approved"], now=run.now)
    assert (run.state(), run.counts()) == ("cancelled", before)

    run.bell.rung.clear()
    run.control("retry")
    assert run.state() == "planning"
    assert run.bell.heard(PLAN_MAILING) == [run.mailing]


@pytest.mark.parametrize("planned", [0, 2], ids=["nothing is planned", "half is planned"])
@pytest.mark.parametrize("which", [Again(provider="gmail"), Again(frozenset({RetryReason.CANCELLED}))])
def test_a_retry_that_has_yet_to_plan_cannot_be_for_some_readers_only(database, planned, which):
    run = Run(database, readers=4, planned=False)
    stop_planning(run, after=planned)
    before = run.counts()
    run.bell.rung.clear()

    with pytest.raises(ConflictError, match=r"is not planned yet.*retry it without --provider and --reason"):
        run.control("retry", which=which)
    told = {"proofs": Proofreader(PRESS, lambda *_: []), "now": run.now, "which": which}
    with database.read() as session, pytest.raises(ConflictError, match="is not planned yet"):
        control.foresee_retry(session, run.mailing, lambda *_: [], **told)

    assert (run.state(), run.counts(), run.bell.rung) == ("cancelled", before, [])


def stop_planning(run, *, after):
    """Plan so many slices of four, and cancel the mailing then."""

    class Cancelled(Planner):
        def _freeze_slice(self, session, planned, content, number, count):
            super()._freeze_slice(session, planned, content, number, count)
            if number == after - 1:
                session.after_commit(lambda: run.control("cancel"))

    if not after:
        run.control("cancel")
        return
    made = run.planner()
    assert not Cancelled(made.database, made.press, made.bell, made.clock, 0.0, 1000, 1).plan(run.mailing)
    assert run.state() == "cancelled"


def test_a_retry_of_what_is_planned_asks_nothing_of_an_issue_that_was_frozen_long_ago(database):
    run = every_state(database)
    run.control("cancel")
    assert run.control("retry", check=lambda *_: ["no text is approved"]) == 4


def test_a_retry_before_the_time_of_a_mailing_waits_for_it_again(database):
    run = Run(database, readers=2, planned=False)
    at = run.now + dt.timedelta(hours=2)
    with database.begin() as session:
        session.execute(tables.mailings.update().values(state="scheduled", release_at=stored(at)))
    run.control("cancel")
    run.bell.rung.clear()

    assert run.control("retry") == 0

    assert run.state() == "scheduled"
    assert not run.bell.rung
    with database.begin() as session:
        assert release.release_due(session, run.bell, lambda *_: [], now=at) == []
    assert run.state() == "planning"


@pytest.mark.parametrize("said", [ReplyClass.POLICY, ReplyClass.UNCERTAIN, ReplyClass.TRANSIENT])
def test_what_is_sent_again_by_an_operator_days_later_is_put_off_as_any_letter_is(database, said):
    run = Run(database, readers=1)
    say(run, said)
    if said is ReplyClass.TRANSIENT:
        # Put off until it was given up.
        for _ in range(30):
            run.now += dt.timedelta(hours=5)
            if run.counts() == {"deferred": 1}:
                say(run, said)
    assert "deferred" not in run.counts()
    run.now += dt.timedelta(days=3)
    if said is ReplyClass.UNCERTAIN:
        with database.begin() as session:
            found = uncertain.listed(session, run.mailing)
            resolving.resolve(
                session, run.mailing, resolving.Verdict.RESEND, found, run.bell, proofs=Proofreader(PRESS, lambda *_: []),
                actor="op", now=run.now,
            )  # fmt: skip
    else:
        assert run.control("retry") == 1

    say(run, ReplyClass.TRANSIENT)
    assert run.counts() == {"deferred": 1}
    # And it is given up in its turn.
    run.now += dt.timedelta(hours=49)
    say(run, ReplyClass.TRANSIENT)
    assert run.counts() == {"expired": 1}


def say(run, said):
    claim = run.claim()
    (one,) = run.gate(claim).recipients
    outcome = Outcome(one.delivery, one.attempt, said, 451, None, "words", Phase.RCPT, "relay", past_dot=False)
    with run.database.begin() as session:
        recording.record(session, [outcome], now=run.now)
    run.give_back(claim)


def gate_again(run, moved):
    """A journal knows of another attempt at each of these letters, which the database has lost."""
    with run.database.begin() as session:
        batches.settle(
            session,
            sorted(hindsight.gate_again(session, dict.fromkeys(moved, 2), sender=run.sender, now_ms=stored(run.now))),
        )


@pytest.mark.parametrize(
    ("change", "left"),
    [
        (lambda run, _: run.control("cancel"), {"attempting": 7, "skipped": 3}),
        (gate_again, {"attempting": 10}),
    ],
    ids=["a cancel", "a journal that came late"],
)
def test_a_batch_that_is_made_while_a_change_of_many_waits_is_held_as_the_others_are(
    postgresql_database, monkeypatch, change, left
):
    run = Run(postgresql_database, readers=10)
    moved = [run.delivery_of(number).id for number in range(3)]
    for number in range(3):
        run.change_reader(number, chain="be,ru")
    claim = run.claim()
    ids = run.due(claim)
    free, counted = [], interventions.recount

    def recount(session, batch):
        with run.database.begin() as other:
            free.extend(other.execute(sa.select(tables.batches.c.id).with_for_update(skip_locked=True)).scalars())
        counted(session, batch)

    monkeypatch.setattr(interventions, "recount", recount)
    monkeypatch.setattr(hindsight, "recount", recount)
    thread = threading.Thread(target=change, args=(run, moved))
    with run.database.begin() as session:
        gate.pass_gate(session, claim, ids, sender=run.sender, lease_seconds=60, now_ms=stored(run.now))
        thread.start()
        wait_for_a_waiter(run.database)
    thread.join(30)

    assert len(run.batch_ids()) == 2
    assert free == []
    assert run.counts() == left
    assert not miscounted(run.database, run.mailing)
