"""The end of a mailing, and the numbers on the way."""

import threading

from service.delivery import progress
from service.domain.delivery import DeliveryState
from service.store import interventions, mailings
from service.store.instants import stored
from tests.installation import miscounted
from tests.unit.delivery.parts import Run, accepted, result, wait_for_a_waiter


def tidy(run):
    with run.database.begin() as session:
        progress.tidy(session, now=run.now)


def test_a_mailing_is_sent_when_all_is_recorded_though_its_worker_died_before_it_gave_the_batch_back(database):
    run = Run(database, readers=3)
    claim = run.claim()
    run.record(*map(accepted, run.gate(claim).recipients))
    assert run.batch(claim.batch).open

    tidy(run)

    assert run.state() == "sent"
    assert not run.batch(claim.batch).open


def test_a_mailing_with_a_letter_under_way_is_not_sent(database):
    run = Run(database, readers=3)
    gated = run.gate(run.claim()).recipients
    run.record(*map(accepted, gated[:2]))

    tidy(run)

    assert run.state() == "sending"


def test_what_comes_back_to_a_cancelled_mailing_is_cancelled_too(database):
    run = Run(database, readers=3)
    claim = run.claim()
    first, second, _ = run.gate(claim).recipients
    run.control("cancel")
    run.record(result(first, DeliveryState.PENDING), result(second, DeliveryState.DEFERRED, due_ms=1))
    assert run.counts() == {"pending": 1, "attempting": 1, "deferred": 1}

    tidy(run)

    assert run.counts() == {"skipped": 2, "attempting": 1}
    assert run.delivery_of(0).reason in {"cancelled", None}
    assert run.state() == "cancelled"
    assert not miscounted(database, run.mailing)


def test_a_sent_mailing_goes_on_when_a_late_journal_gives_a_letter_back(database):
    run = Run(database, readers=2)
    claim = run.claim()
    first, second = run.gate(claim).recipients
    run.record(accepted(first), result(second, DeliveryState.UNCERTAIN))
    tidy(run)
    assert run.state() == "sent"

    run.record(result(second, DeliveryState.PENDING))
    run.give_back(claim)
    tidy(run)

    assert run.state() == "sending"
    again = run.claim()
    assert [one.delivery for one in run.gate(again).recipients] == [second.delivery]


def test_a_retry_beside_the_end_of_a_mailing_wins(postgresql_database):
    run = Run(postgresql_database, readers=2)
    claim = run.claim()
    first, second = run.gate(claim).recipients
    run.record(accepted(first), result(second, DeliveryState.REFUSED, reason="policy"))
    run.give_back(claim)
    finished = []

    def end():
        with run.database.begin() as session:
            finished.append(progress.finish(session, run.mailing, now=run.now))

    with run.database.begin() as session:
        mailings.lock(session, run.mailing)
        interventions.retry(session, run.mailing, now_ms=stored(run.now))
        thread = threading.Thread(target=end)
        thread.start()
        wait_for_a_waiter(run.database)
    thread.join()

    assert finished == [False]
    assert run.state() == "sending"
    assert run.counts() == {"accepted": 1, "pending": 1}
