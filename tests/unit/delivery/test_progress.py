"""The end of a mailing, and the numbers on the way."""

import datetime as dt
import threading
from dataclasses import replace

from service.delivery import progress
from service.domain.delivery import DeliveryState
from service.store import batches, interventions, mailings, tables
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


def skewed(run, batch, **counts):
    """Counts that no letters stand behind."""
    with run.database.begin() as session:
        session.execute(tables.batches.update().where(tables.batches.c.id == batch).values(counts))


def test_counts_that_hide_a_reader_end_no_mailing(database):
    run = Run(database, readers=3)
    claim = run.claim()
    gated = run.gate(claim, run.due(claim)[:2]).recipients
    run.record(*map(accepted, gated))
    run.give_back(claim)
    skewed(run, claim.batch, pending=0, accepted=3, open=False)

    with database.begin() as session:
        assert not progress.finish(session, run.mailing, now=run.now)

    assert run.counts() == {"accepted": 2, "pending": 1}
    assert (run.state(), run.batch(claim.batch).open) == ("sending", True)
    assert len(run.gate(run.claim()).recipients) == 1


def test_sweeps_count_the_letters_of_what_is_being_sent_now_and_then(database):
    run = Run(database, readers=3)
    batch = run.batch_ids()[0]
    for _ in range(2):
        skewed(run, batch, pending=7)
        assert miscounted(database, run.mailing) == [batch]
        tidy(run)
        assert not miscounted(database, run.mailing)
        with database.begin() as session:
            # Ten minutes later.
            session.execute(tables.locks.delete())
    tidy(run)
    skewed(run, batch, pending=7)
    tidy(run)
    assert miscounted(database, run.mailing) == [batch]


def test_a_cancelled_mailing_with_wrong_counts_comes_to_its_end(database):
    run = Run(database, readers=3)
    claim = run.claim()
    gated = run.gate(claim, run.due(claim)[:2]).recipients
    run.control("cancel")
    run.record(*map(accepted, gated))
    skewed(run, claim.batch, attempting=1)

    tidy(run)

    assert run.counts() == {"accepted": 2, "skipped": 1}
    assert (run.state(), run.batch(claim.batch).open) == ("cancelled", False)


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


DUE = dt.datetime(2099, 1, 1, tzinfo=dt.UTC)


def eta(run, before, rate):
    """The seconds that are said to be left, so long `before` what waits is due."""
    with run.database.read() as session:
        found = progress.status(session, run.mailing)
    return progress.eta_seconds(replace(found, now=DUE - before), rate)


def test_the_time_left_is_that_of_the_letters_at_the_rate(database):
    run = Run(database, readers=4)
    gated = run.gate(run.claim()).recipients
    run.record(*map(accepted, gated[:2]))
    assert eta(run, dt.timedelta(), 0.5) == 4.0


def test_deferred_letters_are_not_said_to_be_sent_before_they_are_due(database):
    run = Run(database, readers=2)
    claim = run.claim()
    first, second = run.gate(claim).recipients
    run.record(accepted(first), result(second, DeliveryState.DEFERRED, due_ms=stored(DUE)))
    run.give_back(claim)
    assert eta(run, dt.timedelta(minutes=5), 10.0) == 300.0
    # At a time already past, it is due now.
    assert eta(run, dt.timedelta(minutes=-5), 10.0) == 0.0


def test_letters_held_back_until_the_next_day_take_their_time_then(database):
    run = Run(database, readers=4)
    with run.database.begin() as session:
        # What a worker does that finds the cap of the day used up.
        batches.give_back(session, batch_in_hand(session, run), not_before=stored(DUE))
    assert eta(run, dt.timedelta(hours=1), 0.5) == 3608.0
    assert eta(run, dt.timedelta(hours=1), 0.0) is None


def batch_in_hand(session, run):
    number = run.batch_ids()[0]
    return batches.claim(session, number, sender=run.sender, lease_seconds=60, now_ms=stored(run.now))


def test_nobody_knows_the_time_left_while_a_deferral_in_a_batch_that_is_sent_may_outlast_it(database):
    run = Run(database, readers=2)
    first, second = run.gate(run.claim()).recipients
    run.record(result(first, DeliveryState.PENDING), result(second, DeliveryState.DEFERRED, due_ms=stored(DUE)))
    assert eta(run, dt.timedelta(), 10.0) is None
    # What else is to be sent takes longer than a first wait.
    assert eta(run, dt.timedelta(), 0.001) == 1000.0
