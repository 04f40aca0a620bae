"""What an operator does: pause, resume, cancel, retry, rate."""

import pytest

from service.domain.delivery import DeliveryState
from service.domain.errors import ConflictError, InvalidInputError, NotFoundError
from service.queue import SEND_BATCH
from tests.installation import miscounted
from tests.unit.delivery.parts import Run, accepted, result


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


@pytest.mark.parametrize("rate", [-1, 10**7, float("nan")])
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
