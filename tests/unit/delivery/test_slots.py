import datetime as dt
import itertools
import random
import threading

import pytest

from service.delivery import release
from service.delivery.slots import (
    CANCELLED_BEFORE,
    SENT_BEFORE,
    SUPERSEDED,
    run_due_slots,
    warn_ahead,
)
from service.domain.blockers import Blocker
from service.domain.content import TextStatus
from service.domain.errors import ConfigurationError
from service.domain.mailing import MailingState
from service.domain.schedule import Schedule, WeekMode, parse_when, slot_of
from service.domain.weeks import Week
from service.editorial import scheduling
from service.queue import PLAN_MAILING, SEND_NOTICE
from service.store import mailings, slots
from service.store.slots import SlotState
from service.store.tables import audit, notices
from service.store.tables import slots as slots_table
from tests.factories import OPERATORS, save_issue, save_publication, unapproved
from tests.fakes import FakeBell
from tests.unit.store.statements import counted

# Monday 3 June 2019, 09:00 in Minsk: the slot of issue 2019-W22.
SLOT = dt.datetime(2019, 6, 3, 6, 0, tzinfo=dt.UTC)
WEEK = dt.timedelta(weeks=1)
TICK = dt.timedelta(seconds=15)


class Service:
    """A database with a publication and a schedule, and processes that look at it."""

    def __init__(self, database):
        self.database = database
        self.bell = FakeBell()
        self.check = unapproved

    def set_schedule(
        self, when="Mon 09:00", zone="Europe/Minsk", week=WeekMode.ENDED, late=6, since=SLOT - 2 * WEEK / 7
    ):
        schedule = Schedule(*parse_when(when), zone, week, late, since)
        with self.database.begin() as session:
            slots.set_schedule(session, schedule, warned_at=since)
        return schedule

    def write(self, week="2019-W22", status=TextStatus.APPROVED, articles=("alliances",)):
        with self.database.begin() as session:
            save_issue(session, week, status, articles)

    def tick(self, now):
        with self.database.begin() as session:
            warn_ahead(session, self.bell, self.check, now=now)
            return run_due_slots(session, self.bell, self.check, now=now)

    def slot(self, at=SLOT):
        with self.database.read() as session:
            return slots.find(session, at)

    def mailings(self):
        with self.database.read() as session:
            return mailings.everyone(session)

    def notices(self):
        with self.database.read() as session:
            return session.execute(notices.select().order_by(notices.c.id)).all()


@pytest.fixture
def service(database):
    made = Service(database)
    with database.begin() as session:
        save_publication(session)
    return made


def test_without_a_schedule_nothing_happens(service):
    service.write()
    assert service.tick(SLOT) == []
    assert service.mailings() == []


def test_an_approved_issue_goes_out_at_its_slot_and_not_before(service):
    service.set_schedule()
    service.write()
    assert service.tick(SLOT - TICK) == []
    (made,) = service.tick(SLOT)
    (mailing,) = service.mailings()
    assert (made.state, made.mailing, str(made.slot.week)) == (SlotState.RELEASED, mailing.id, "2019-W22")
    assert (mailing.week, mailing.state, mailing.actor) == ("2019-W22", MailingState.PLANNING, "schedule")
    assert service.bell.heard(PLAN_MAILING) == [mailing.id]
    with service.database.read() as session:
        assert [(row.actor, row.action) for row in session.execute(audit.select())] == [("schedule", "issue.send")]


def test_later_ticks_change_nothing(service):
    service.set_schedule()
    service.write()
    service.tick(SLOT)
    before = service.slot()
    for number in range(1, 50):
        assert service.tick(SLOT + number * TICK) == []
    assert service.slot() == before
    assert len(service.mailings()) == 1


def test_the_issue_of_another_week_is_never_taken_instead(service):
    service.set_schedule()
    service.write("2019-W21")
    service.write("2019-W23")
    assert service.tick(SLOT) == []
    assert service.mailings() == []
    assert service.slot().state is SlotState.WAITING
    assert "2019-W22" in service.slot().reason


def test_the_running_week_goes_out_where_the_schedule_says_so(service):
    service.set_schedule("Sun 18:00", week=WeekMode.CURRENT)
    service.write("2019-W22")
    (made,) = service.tick(dt.datetime(2019, 6, 2, 15, 0, tzinfo=dt.UTC))
    assert (made.state, str(made.slot.week)) == (SlotState.RELEASED, "2019-W22")


def test_a_late_approval_goes_out_by_itself(service):
    service.set_schedule()
    service.write(status=TextStatus.READY)
    assert service.tick(SLOT) == []
    assert service.slot().state is SlotState.WAITING
    assert "alliances" in service.slot().reason
    service.write(status=TextStatus.APPROVED)
    (made,) = service.tick(SLOT + dt.timedelta(hours=5))
    assert made.state is SlotState.RELEASED
    assert service.slot().reason is None


def test_an_approval_that_comes_too_late_waits_for_an_operator(service):
    service.set_schedule(late=6)
    service.write(status=TextStatus.READY)
    service.tick(SLOT)
    assert service.tick(SLOT + dt.timedelta(hours=6)) == []
    service.write(status=TextStatus.APPROVED)
    (made,) = service.tick(SLOT + dt.timedelta(hours=6, seconds=15))
    assert made.state is SlotState.MISSED
    assert "alliances" in made.reason
    assert service.tick(SLOT + dt.timedelta(hours=7)) == []
    assert service.mailings() == []
    told = [row for row in service.notices() if row.kind == "slot-missed"]
    assert len(told) == len(OPERATORS)
    assert told[0].parameters == {"week": "2019-W22", "slot": "June 3, 2019, 09:00 (Europe/Minsk)"}
    assert set(service.bell.heard(SEND_NOTICE)) == {row.id for row in service.notices()}
    with service.database.begin() as session:
        release.send(session, "2019-W22", service.bell, unapproved, actor="cli:anna", now=SLOT + dt.timedelta(hours=8))
    assert len(service.mailings()) == 1


def test_a_machine_that_slept_three_hours_sends_late(service):
    service.set_schedule(late=6)
    service.write()
    service.tick(SLOT - TICK)
    (made,) = service.tick(SLOT + dt.timedelta(hours=3))
    assert made.state is SlotState.RELEASED


def test_a_machine_that_slept_longer_asks_even_if_the_issue_is_approved(service):
    service.set_schedule(late=2)
    service.write()
    (made,) = service.tick(SLOT + dt.timedelta(hours=3))
    assert made.state is SlotState.MISSED
    assert "2 hours" in made.reason
    assert len(service.notices()) == len(OPERATORS)
    assert service.mailings() == []


def test_no_lateness_still_allows_a_restart(service):
    service.set_schedule(late=0)
    service.write()
    (made,) = service.tick(SLOT + dt.timedelta(minutes=9))
    assert made.state is SlotState.RELEASED


def test_the_next_slot_supersedes_one_that_still_waits(service):
    service.set_schedule(late=144)
    service.write("2019-W22", TextStatus.READY)
    service.tick(SLOT)
    service.write("2019-W22")
    service.write("2019-W23")
    old, new = service.tick(SLOT + WEEK)
    assert (old.state, old.reason, str(old.slot.week)) == (SlotState.MISSED, SUPERSEDED, "2019-W22")
    assert (new.state, str(new.slot.week)) == (SlotState.RELEASED, "2019-W23")
    assert [mailing.week for mailing in service.mailings()] == ["2019-W23"]


def test_after_months_away_only_the_latest_issue_goes_out_and_few_notices_do(service):
    service.set_schedule()
    for number in range(22, 43):
        service.write(f"2019-W{number}")
    made = service.tick(SLOT + 20 * WEEK + dt.timedelta(hours=1))
    assert [one.state for one in made] == [SlotState.MISSED] * 20 + [SlotState.RELEASED]
    assert [mailing.week for mailing in service.mailings()] == ["2019-W42"]
    assert len([row for row in service.notices() if row.kind == "slot-missed"]) == 3 * len(OPERATORS)


def test_a_skipped_week_is_left_out_without_a_word(service):
    service.set_schedule()
    service.write()
    with service.database.begin() as session:
        slots.skip(session, Week(2019, 22))
    for hours in range(-30, 9):
        service.tick(SLOT + dt.timedelta(hours=hours))
    assert service.slot().state is SlotState.SKIPPED
    assert service.mailings() == []
    assert service.notices() == []
    service.write("2019-W23")
    (made,) = service.tick(SLOT + WEEK)
    assert made.state is SlotState.RELEASED


def test_an_issue_that_was_sent_by_hand_is_not_sent_again(service):
    service.set_schedule()
    service.write()
    with service.database.begin() as session:
        first = release.send(session, "2019-W22", service.bell, unapproved, actor="cli:anna", now=SLOT - WEEK / 7)
    (made,) = service.tick(SLOT)
    assert (made.state, made.reason, made.mailing) == (SlotState.RELEASED, SENT_BEFORE, first)
    assert len(service.mailings()) == 1


def test_an_issue_whose_mailing_was_cancelled_stays_so(service):
    service.set_schedule()
    service.write()
    with service.database.begin() as session:
        first = release.send(session, "2019-W22", service.bell, unapproved, actor="cli:anna", now=SLOT - WEEK / 7)
        mailings.move(session, first, MailingState.CANCELLED, now=SLOT)
    (made,) = service.tick(SLOT)
    assert (made.reason, made.mailing) == (CANCELLED_BEFORE, first)
    assert service.bell.heard(PLAN_MAILING) == [first]


def test_slots_from_before_the_schedule_was_set_are_nobodys(service):
    service.set_schedule(since=SLOT)
    service.write()
    assert service.tick(SLOT + TICK) == []
    assert service.slot() is None


def test_a_clock_that_is_set_back_fires_nothing_twice(service):
    service.set_schedule()
    service.write("2019-W22")
    service.write("2019-W23")
    service.tick(SLOT)
    for days in (1, 2, 8):
        assert service.tick(SLOT - dt.timedelta(days=days)) == []
    assert service.tick(SLOT + TICK) == []
    assert len(service.mailings()) == 1
    (made,) = service.tick(SLOT + WEEK)
    assert str(made.slot.week) == "2019-W23"


def test_a_bell_that_is_away_loses_nothing(service):
    service.set_schedule()
    service.write()
    service.bell.away = True
    (made,) = service.tick(SLOT)
    assert made.state is SlotState.RELEASED
    assert service.mailings()[0].state is MailingState.PLANNING


def test_a_quiet_tick_asks_the_database_little(service):
    service.set_schedule()
    service.write()
    service.tick(SLOT)
    with service.database.begin() as session, counted(service.database) as statements:
        run_due_slots(session, service.bell, unapproved, now=SLOT + TICK)
    assert len(statements) == 2


@pytest.mark.parametrize("times", [10])
def test_many_processes_at_once_send_once(service, times):
    service.set_schedule()
    service.write()
    start = threading.Barrier(times)
    made = []

    def look():
        start.wait()
        made.extend(service.tick(SLOT + TICK))

    threads = [threading.Thread(target=look) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (decision,) = made
    assert decision.state is SlotState.RELEASED
    assert len(service.mailings()) == 1
    assert service.bell.heard(PLAN_MAILING) == [decision.mailing]


def test_an_operator_and_the_schedule_at_once_send_once(service):
    service.set_schedule()
    service.write()
    start = threading.Barrier(6)
    refused = []

    def by_hand(number):
        start.wait()
        try:
            with service.database.begin() as session:
                release.send(session, "2019-W22", service.bell, unapproved, actor=f"cli:{number}", now=SLOT)
        except release.ConflictError as error:
            refused.append(str(error))

    def by_schedule():
        start.wait()
        service.tick(SLOT)

    threads = [threading.Thread(target=by_hand, args=(number,)) for number in range(3)]
    threads += [threading.Thread(target=by_schedule) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (mailing,) = service.mailings()
    assert len(refused) == (3 if mailing.actor == "schedule" else 2)
    assert all("mailing" in words for words in refused)
    assert service.tick(SLOT + TICK) == [] or service.slot().mailing == mailing.id
    assert service.slot().mailing == mailing.id


# Warnings


def test_operators_are_warned_a_day_and_two_hours_before(service):
    service.set_schedule(since=SLOT - 2 * WEEK / 7 - dt.timedelta(hours=1))
    service.write(status=TextStatus.READY, articles=("alliances", "credits"))
    told = {}
    for minutes in range(-26 * 60, 0, 10):
        before = len(service.notices())
        service.tick(SLOT + dt.timedelta(minutes=minutes))
        if len(service.notices()) > before:
            told[minutes] = len(service.notices()) - before
    assert told == {-24 * 60: len(OPERATORS), -2 * 60: len(OPERATORS)}
    first = service.notices()[0]
    assert (first.kind, first.language) == ("issue-blocked", "en")
    assert first.parameters == {
        "week": "2019-W22",
        "slot": "June 3, 2019, 09:00 (Europe/Minsk)",
        "findings": [["", "alliances", "no text is approved"], ["", "credits", "no text is approved"]],
    }


def test_an_issue_that_nobody_wrote_is_warned_of(service):
    service.set_schedule()
    service.tick(SLOT - dt.timedelta(hours=24))
    assert service.notices()[0].parameters["findings"] == [["", "2019-W22", "there is no issue of this week yet"]]


def test_nobody_is_warned_of_an_issue_that_is_approved_or_sent(service):
    service.set_schedule()
    service.write()
    service.tick(SLOT - dt.timedelta(hours=24))
    with service.database.begin() as session:
        release.send(session, "2019-W22", service.bell, unapproved, actor="cli", now=SLOT - dt.timedelta(hours=20))
    service.write(status=TextStatus.READY)
    service.tick(SLOT - dt.timedelta(hours=2))
    assert service.notices() == []


def test_after_both_moments_went_by_asleep_the_later_warning_goes_out_alone(service):
    service.set_schedule()
    service.tick(SLOT - dt.timedelta(hours=1))
    assert len(service.notices()) == len(OPERATORS)
    assert all(row.once.startswith("issue-blocked:") and ":2h:" in row.once for row in service.notices())


def test_a_schedule_set_three_hours_before_its_slot_warns_once(service):
    service.set_schedule(since=SLOT - dt.timedelta(hours=3))
    for minutes in range(-180, 0, 5):
        service.tick(SLOT + dt.timedelta(minutes=minutes))
    assert len(service.notices()) == len(OPERATORS)


def test_many_processes_warn_each_operator_once(service):
    service.set_schedule()
    start = threading.Barrier(8)

    def look():
        start.wait()
        service.tick(SLOT - dt.timedelta(hours=24))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(service.notices()) == len(OPERATORS)


def test_a_check_that_fails_is_asked_again(service):
    service.set_schedule()

    def failing(_session, _week):
        raise OSError

    service.check = failing
    with pytest.raises(OSError):
        service.tick(SLOT - dt.timedelta(hours=24))
    service.check = unapproved
    service.tick(SLOT - dt.timedelta(hours=24) + TICK)
    assert len(service.notices()) == len(OPERATORS)


def test_a_broken_template_blocks_and_breaks_no_sweep(service):
    service.set_schedule()
    service.write()

    def broken(_session, _week):
        raise ConfigurationError("templates/edition/issue.txt.j2:3: no such value")

    service.check = broken
    service.tick(SLOT - dt.timedelta(hours=2))
    assert service.notices()[0].parameters["findings"] == [
        ["", "2019-W22", "templates/edition/issue.txt.j2:3: no such value"]
    ]
    assert service.tick(SLOT) == []
    assert "issue.txt.j2" in service.slot().reason
    service.check = unapproved
    (made,) = service.tick(SLOT + TICK)
    assert made.state is SlotState.RELEASED


def test_a_warning_names_language_article_and_line(service):
    service.set_schedule()
    service.write()
    service.check = lambda *_: [Blocker("“TODO” stands there", "alliances", "ru", 3), Blocker("no articles")]
    service.tick(SLOT - dt.timedelta(hours=2))
    assert service.notices()[0].parameters["findings"] == [
        ["ru", "alliances", "line 3: “TODO” stands there"],
        ["", "2019-W22", "no articles"],
    ]


# Sixty weeks


def moments(schedule, first, rng):
    """When processes look, over sixty weeks: unevenly, often several at once, sometimes not for hours."""
    for number in range(61):
        slot = slot_of(schedule, first.shifted(number))
        offsets = [-26, -24, -2, -1, -0.01, 0, 0.004, 0.5, 7, 90]
        if rng.random() < 0.3:
            offsets = [offset for offset in offsets if not -1 <= offset <= 0.004]  # nobody there for an hour
        for offset in offsets:
            yield slot.at + dt.timedelta(hours=offset, seconds=rng.randrange(10) if offset else 0)


@pytest.mark.parametrize(
    ("zone", "when"),
    [
        ("Europe/Minsk", "Mon 09:00"),
        ("Europe/Warsaw", "Sun 02:30"),
        ("America/New_York", "Mon 00:00"),
        ("Australia/Lord_Howe", "Sun 02:15"),
    ],
)
@pytest.mark.slow
def test_over_sixty_weeks_every_issue_goes_out_once_at_its_time(service, zone, when):
    rng = random.Random(zone)
    first = Week(2019, 1)
    planned = Schedule(*parse_when(when), zone, WeekMode.ENDED, 6, dt.datetime(2019, 1, 1, tzinfo=dt.UTC))
    schedule = service.set_schedule(when, zone, since=slot_of(planned, first).at - dt.timedelta(hours=30))
    weeks = [first.shifted(number) for number in range(61)]
    kinds = {week: rng.choice(["approved", "approved", "approved", "late", "never", "skipped"]) for week in weeks}
    with service.database.begin() as session:
        for week in weeks:
            save_issue(session, week, TextStatus.APPROVED if kinds[week] == "approved" else TextStatus.READY)
            if kinds[week] == "skipped":
                slots.skip(session, week)
    approvals = {slot_of(schedule, week).at + dt.timedelta(minutes=10): week for week in weeks if kinds[week] == "late"}
    released = {}
    for now in sorted(itertools.chain(moments(schedule, first, rng), approvals)):
        if now in approvals:
            service.write(str(approvals[now]))
            continue
        for made in itertools.chain.from_iterable(service.tick(now) for _ in range(rng.choice([1, 1, 1, 2, 3]))):
            if made.state is SlotState.RELEASED:
                assert made.slot.week not in released
                released[made.slot.week] = now - made.slot.at
    expected = {week for week in weeks if kinds[week] in {"approved", "late"}}
    assert set(released) == expected
    assert all(dt.timedelta(0) <= delay <= dt.timedelta(hours=1) for delay in released.values())
    assert sorted(mailing.week for mailing in service.mailings()) == sorted(map(str, expected))
    with service.database.read() as session:
        rows = session.execute(slots_table.select()).all()
    assert len(rows) == 61
    by_state = {row.week: row.state for row in rows}
    assert all(by_state[str(week)] == "skipped" for week in weeks if kinds[week] == "skipped")
    assert all(by_state[str(week)] == "missed" for week in weeks if kinds[week] == "never")
    blocked = [week for week in weeks if kinds[week] in {"late", "never"}]
    warned = [row for row in service.notices() if row.kind == "issue-blocked"]
    assert len(warned) == 2 * len(blocked) * len(OPERATORS)


def test_a_week_that_was_skipped_after_its_slot_was_moved_can_be_sent_after_all(service):
    service.set_schedule()
    service.write(status=TextStatus.DRAFT)
    service.tick(SLOT + TICK)
    database = service.database
    with database.begin() as session:
        scheduling.set_schedule(
            session,
            "Wed 09:00",
            timezone="Europe/Minsk",
            week=WeekMode.ENDED,
            late_hours=6,
            actor="op",
            now=SLOT + 2 * TICK,
        )
    with database.begin() as session:
        assert scheduling.skip(session, Week(2019, 22), actor="op", now=SLOT + 3 * TICK)
    with database.begin() as session:
        assert scheduling.unskip(session, Week(2019, 22), actor="op", now=SLOT + 4 * TICK)

    service.write()
    service.tick(SLOT + dt.timedelta(days=2) + TICK)
    assert service.slot(SLOT + dt.timedelta(days=2)).state is SlotState.RELEASED
    assert [one.week for one in service.mailings()] == ["2019-W22"]
