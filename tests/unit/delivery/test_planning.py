"""Planning: who is in the audience, in which edition, once, whatever interrupts it."""

import dataclasses

import pytest
import sqlalchemy as sa

from service.delivery import progress
from service.delivery.plan import Planner
from service.domain.errors import NotFoundError
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.queue import PLAN_MAILING, SEND_BATCH
from service.store import hosts, issues, locks, mailings, renditions, subscribers, suppressions, tables
from service.store.mailing_numbers import Waits
from tests.factories import CHAINS, JOINED, MADE_AT, add_readers
from tests.installation import miscounted
from tests.unit.delivery.parts import Run
from tests.unit.render import samples
from tests.unit.store.statements import counted


def planned(run):
    with run.database.read() as session:
        found = session.execute(
            sa.select(tables.deliveries.c.subscriber_id, tables.batches.c.chain).join(
                tables.batches, tables.batches.c.id == tables.deliveries.c.batch_id
            )
        ).all()
    return dict(map(tuple, found))


def chosen(run):
    with run.database.read() as session:
        return {
            row.id: row.chain
            for row in session.execute(sa.select(tables.subscribers).where(tables.subscribers.c.status == "active"))
        }


def status(run):
    with run.database.read() as session:
        return progress.status(session, run.mailing)


def test_every_active_reader_is_planned_once_in_a_batch_of_the_chosen_languages(database):
    run = Run(database, readers=50, chains=CHAINS, batch_limit=4)

    assert planned(run) == chosen(run)
    assert run.counts() == {"pending": 50}
    assert not miscounted(database, run.mailing)
    assert max(run.batch(number).pending for number in run.batch_ids()) == 4
    assert run.state() == "sending"
    with database.read() as session:
        assert set(renditions.ids(session, run.mailing)) == set(CHAINS)


def test_a_reader_who_joins_after_planning_is_not_in_the_audience(database):
    run = Run(database, readers=5)
    add_readers(database, 3, prefix="late")
    assert not run.planner().plan(run.mailing)
    assert status(run).counts.planned == status(run).candidates == 5


def test_who_is_left_out_is_counted_by_reason(database):
    run = Run(database, readers=6, planned=False)
    add_readers(database, 3, prefix="gone", status=SubscriberStatus.UNSUBSCRIBED)
    add_readers(database, 2, prefix="new", status=SubscriberStatus.PENDING)
    with database.begin() as session:
        for address in run.addresses[:2]:
            found = subscribers.find(session, address)
            suppressions.add(session, found.address_hash, SuppressionReason.OPERATOR, JOINED)
    assert run.planner().plan(run.mailing)

    found = status(run)
    assert dict(found.mailing.excluded) == {"unsubscribed": 3, "pending": 2, "suppressed": 2}
    assert (found.candidates, found.counts.planned, found.excluded) == (11, 4, 7)


def test_readers_of_a_chain_without_an_edition_are_skipped_and_say_so(database):
    run = Run(database, readers=6, chains=("en", "ru"), planned=False)
    with database.begin() as session:
        articles = tuple(
            samples.Article(
                one.slug, one.section, one.source, one.trend, one.authors,
                {language: text for language, text in one.texts.items() if language != "ru"},
            )
            for one in samples.articles()
            if set(one.texts) != {"ru"}
        )  # fmt: skip
        issues.save(session, samples.issue(articles=articles), MADE_AT)
    assert run.planner().plan(run.mailing)

    assert run.counts() == {"pending": 3, "skipped": 3}
    with database.read() as session:
        reasons = session.execute(sa.select(tables.deliveries.c.reason).distinct()).scalars().all()
    assert set(reasons) == {None, "no edition"}
    assert not miscounted(database, run.mailing)


def test_planning_twice_makes_nothing_twice(database):
    run = Run(database, readers=10)
    assert not run.planner().plan(run.mailing)
    with database.begin() as session:
        mailings.move(session, run.mailing, mailings.MailingState.PLANNING, now=run.now)

    assert run.planner().plan(run.mailing)

    assert run.counts() == {"pending": 10}


class DiesError(Exception):
    pass


def dying_after(run, slices, **changes):
    """A planner whose process dies in the slice after so many."""

    class Dying(Planner):
        def _freeze_slice(self, session, planned, content, number, count):
            super()._freeze_slice(session, planned, content, number, count)
            if number == slices:
                raise DiesError

    made = run.planner(**changes)
    return Dying(made.database, made.press, made.bell, made.clock, made.rate, made.batch_limit, made.slice_readers)


def test_planning_goes_on_where_a_dead_planner_stopped(database):
    run = Run(database, readers=40, chains=CHAINS, planned=False, batch_limit=3)
    with pytest.raises(DiesError):
        dying_after(run, 3, slice_readers=5).plan(run.mailing)
    with database.read() as session:
        stopped = mailings.get(session, run.mailing)
    assert (stopped.slices, stopped.planned_slices) == (8, 3)
    before = planned(run)
    # Who joins meanwhile may be in it or not; who was planned stays so.
    assert run.planner(slice_readers=1).plan(run.mailing)

    assert before.items() <= planned(run).items()
    assert planned(run) == chosen(run)
    assert run.counts() == {"pending": 40}
    assert not miscounted(database, run.mailing)


def test_a_mailing_that_waits_before_it_is_planned_says_for_what_until_it_waits_no_more(database):
    run = Run(database, readers=20, planned=False)

    def reason():
        with database.read() as session:
            return mailings.get(session, run.mailing).reason

    with database.begin() as session:
        hosts.await_all(session, "a" * 32, {})
    assert not run.planner().plan(run.mailing)
    assert run.state() == "planning"
    assert "aaaaaaaa (last seen" in reason()
    with database.begin() as session:
        hosts.go_on_without(session, "a" * 32)
    with pytest.raises(DiesError):
        dying_after(run, 1, slice_readers=5).plan(run.mailing)
    # It is being planned now, and a status need not say that it waits.
    assert (run.state(), reason()) == ("planning", None)
    assert run.planner().plan(run.mailing)
    assert (run.state(), reason()) == ("sending", None)


def test_a_mailing_that_is_cancelled_while_it_waits_to_be_planned_keeps_the_reason_for_it(database):
    run = Run(database, readers=1, planned=False)
    with database.begin() as session:
        hosts.await_all(session, "a" * 32, {})

    class Cancelled(Planner):
        def _plan(self, mailing, lock):
            try:
                return super()._plan(mailing, lock)
            finally:
                run.control("cancel")

    made = run.planner()
    assert not Cancelled(made.database, made.press, made.bell, made.clock, 0.0, 1000).plan(run.mailing)
    with database.read() as session:
        found = mailings.get(session, run.mailing)
    assert found.state.value == "cancelled"
    assert found.reason.startswith("cancelled by")


def test_only_one_plans_at_a_time(database):
    run = Run(database, readers=3, planned=False)
    with database.begin() as session:
        assert locks.take(session, f"plan-{run.mailing}", 60)
    assert not run.planner().plan(run.mailing)
    assert run.counts() == {}

    with database.begin() as session:
        locks.release(session, f"plan-{run.mailing}")
    assert run.planner().plan(run.mailing)


def test_a_cancel_while_it_is_planned_wins_and_a_retry_plans_the_rest(database):
    run = Run(database, readers=20, planned=False)

    class Cancelled(Planner):
        def _freeze_slice(self, session, planned, content, number, count):
            super()._freeze_slice(session, planned, content, number, count)
            if number == 1:
                session.after_commit(lambda: run.control("cancel"))

    made = run.planner(slice_readers=5)
    planner = Cancelled(made.database, made.press, made.bell, made.clock, 0.0, 1000, 5)
    assert not planner.plan(run.mailing)
    assert run.state() == "cancelled"
    assert set(run.counts()) <= {"skipped"}

    run.control("retry")
    assert run.state() == "planning"
    assert run.planner().plan(run.mailing)
    assert run.counts() == {"pending": 20}
    assert planned(run) == chosen(run)


def test_an_edition_that_cannot_be_printed_stops_the_mailing_before_anybody_is_planned(database):
    run = Run(database, readers=3, planned=False)
    with database.begin() as session:
        issues.save(session, samples.issue(subjects={"en": "A subject with a \x07 bell"}), MADE_AT)

    assert not run.planner().plan(run.mailing)

    assert run.state() == "cancelled"
    assert run.counts() == {}
    assert "the en edition of 2019-W22 cannot be mailed" in status(run).mailing.reason


@pytest.mark.parametrize(
    "words",
    [
        {"body": "*a **b " * 1000 + "x" + "***" * 1000},
        {"body": "word " * 200_000},
        {"title": "A title with a \0 in it"},
    ],
    ids=["nested", "huge", "nul"],
)
def test_an_article_that_breaks_the_press_stops_the_mailing_and_is_named(sqlite_database, words):
    run = Run(sqlite_database, readers=3, planned=False)
    issue = samples.issue()
    first, *others = issue.articles
    spoiled = dataclasses.replace(first, texts={**first.texts, "en": dataclasses.replace(first.texts["en"], **words)})
    with sqlite_database.begin() as session:
        issues.save(session, dataclasses.replace(issue, articles=(spoiled, *others)), MADE_AT)

    assert not run.planner().plan(run.mailing)

    assert run.state() == "cancelled"
    assert run.counts() == {}
    assert f'article "{first.slug}" in en: ' in status(run).mailing.reason


def test_a_mailing_to_chosen_readers_reaches_no_other(database):
    run = Run(database, readers=10, planned=False)
    with database.begin() as session:
        session.execute(tables.mailings.update().values(audience="file"))
        picked = [subscribers.find(session, address).id for address in run.addresses[2:5]]
        mailings.add_audience(session, run.mailing, picked)
    assert run.planner().plan(run.mailing)

    assert set(planned(run)) == set(picked)
    assert status(run).candidates == 3


def test_the_first_batches_are_rung_for(database):
    run = Run(database, readers=10, batch_limit=3)
    assert run.bell.heard(PLAN_MAILING) == [run.mailing]
    assert sorted(run.bell.heard(SEND_BATCH)) == run.batch_ids()


def test_a_slow_mailing_is_cut_into_batches_of_a_minute(database):
    run = Run(database, readers=10, planned=False)
    with database.begin() as session:
        mailings.set_rate(session, run.mailing, 0.05)
    assert run.planner().plan(run.mailing)
    assert [run.batch(number).pending for number in run.batch_ids()] == [3, 3, 3, 1]


def test_planning_asks_the_same_number_of_statements_for_ten_readers_and_for_five_hundred(database):
    few = Run(database, readers=10, planned=False)
    with counted(database) as ten:
        few.planner().plan(few.mailing)
    many = Run(database, readers=0, planned=False, week="2019-W23")
    add_readers(database, 500, chains=("en",), prefix="more")
    with counted(database) as five_hundred:
        many.planner().plan(many.mailing)
    assert many.counts()["pending"] >= 500
    assert len(five_hundred) == len(ten)


def test_a_status_asks_the_same_number_of_statements_whatever_the_number_of_batches(database):
    run = Run(database, readers=40, chains=CHAINS, batch_limit=1)
    with counted(database) as asked:
        found = status(run)
    assert found.counts.planned == 40
    assert len([one for one in asked if one.startswith("SELECT")]) <= 1


def test_a_status_costs_one_round_trip(postgresql_database, tmp_path):
    run = Run(postgresql_database, readers=4, chains=("en", "ru"))
    run.database.give_back()

    def ask():
        with run.database.look() as session:
            return progress.status(session, run.mailing)

    with run.database.look() as session:
        libpq = session.connection.connection.driver_connection.pgconn
    with (tmp_path / "trace").open("wb") as file:
        libpq.trace(file.fileno())
        assert ask().counts.pending == 4
        libpq.untrace()
    assert (tmp_path / "trace").read_text().count("ReadyForQuery") == 1


def test_a_mailing_that_nobody_is_planned_for_has_a_status(database):
    run = Run(database, readers=1, planned=False)
    with database.look() as session:
        found = progress.status(session, run.mailing)
    assert (found.mailing.state.value, found.counts.planned, found.candidates, dict(found.editions)) == (
        "planning", 0, 0, {},
    )  # fmt: skip
    assert found.waits == Waits()
    with database.look() as session, pytest.raises(NotFoundError, match="mailing list"):
        progress.status(session, run.mailing + 1)


def test_a_look_leaves_the_connection_as_it_was_for_transactions(database):
    with database.look() as session:
        session.scalar(sa.select(sa.func.count()).select_from(tables.mailings))
    with pytest.raises(DiesError):
        _write_and_die(database)
    with database.read() as session:
        assert session.scalar(sa.select(tables.meta.c.value).where(tables.meta.c.key == "k")) is None


def _write_and_die(database):
    with database.begin() as session:
        session.execute(tables.meta.insert().values(key="k", value="v"))
        raise DiesError
