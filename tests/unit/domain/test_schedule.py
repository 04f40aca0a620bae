import datetime as dt
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import InvalidInputError
from service.domain.schedule import (
    Schedule,
    WeekMode,
    checked_timezone,
    last_slot,
    next_slot,
    parse_when,
    slot_of,
    slots_between,
)
from service.domain.weeks import Week

LONG_AGO = dt.datetime(1980, 1, 1, tzinfo=dt.UTC)
START = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
SIXTY_WEEKS = dt.timedelta(weeks=60)
ZONES = ["Europe/Minsk", "Europe/Warsaw", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "UTC"]


def schedule(when="Mon 09:00", zone="Europe/Minsk", week=WeekMode.ENDED, since=LONG_AGO, late=6):
    weekday, minute = parse_when(when)
    return Schedule(weekday, minute, zone, week, late, since)


def utc(*parts):
    return dt.datetime(*parts, tzinfo=dt.UTC)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "when", ["Mon 00:00", "Mon 09:00", "Sun 02:30", "Sun 02:00", "Sun 01:30", "Sun 00:00", "Sat 23:59"]
)
@pytest.mark.parametrize("mode", WeekMode)
def test_sixty_weeks_have_sixty_slots_and_each_issue_one(zone, when, mode):
    planned = schedule(when, zone, mode)
    slots = list(slots_between(planned, START, START + SIXTY_WEEKS))
    assert len(slots) == 60
    assert all(later.week == earlier.week.shifted(1) for earlier, later in pairwise(slots))
    for earlier, later in pairwise(slots):
        assert abs(later.at - earlier.at - dt.timedelta(weeks=1)) <= dt.timedelta(hours=1)
    weekday, minute = parse_when(when)
    for slot in slots:
        local = slot.at.astimezone(ZoneInfo(zone))
        assert local.weekday() == weekday
        expected = dt.timedelta(minutes=minute)
        actual = dt.timedelta(hours=local.hour, minutes=local.minute)
        assert expected <= actual <= expected + dt.timedelta(hours=1)


@pytest.mark.parametrize("zone", ["Europe/Warsaw", "America/New_York", "Australia/Lord_Howe"])
def test_a_slot_keeps_its_local_time_across_clock_changes(zone):
    slots = list(slots_between(schedule("Mon 09:00", zone), START, START + SIXTY_WEEKS))
    assert {slot.at.astimezone(ZoneInfo(zone)).strftime("%a %H:%M") for slot in slots} == {"Mon 09:00"}
    assert len({slot.at.time() for slot in slots}) == 2  # summer and winter


def test_minsk_has_no_clock_change():
    slots = slots_between(schedule(), START, START + SIXTY_WEEKS)
    assert {slot.at.strftime("%a %H:%M") for slot in slots} == {"Mon 06:00"}


@pytest.mark.parametrize(
    ("zone", "when", "week", "at"),
    [
        # Clocks go from 02:00 to 03:00: half past two is an hour later by the wall, at 03:30.
        ("Europe/Warsaw", "Sun 02:30", "2019-W13", utc(2019, 3, 31, 1, 30)),
        ("America/New_York", "Sun 02:30", "2019-W10", utc(2019, 3, 10, 7, 30)),
        # Lord Howe moves by half an hour, from 02:00 to 02:30.
        ("Australia/Lord_Howe", "Sun 02:15", "2019-W40", utc(2019, 10, 5, 15, 45)),
        # In São Paulo it was midnight that did not exist.
        ("America/Sao_Paulo", "Sun 00:00", "2018-W44", utc(2018, 11, 4, 3, 0)),
    ],
)
def test_a_time_inside_the_gap_moves_forward(zone, when, week, at):
    assert slot_of(schedule(when, zone, WeekMode.CURRENT), Week.parse(week)).at == at


@pytest.mark.parametrize(
    ("zone", "when", "week", "at"),
    [
        ("Europe/Warsaw", "Sun 02:30", "2019-W43", utc(2019, 10, 27, 0, 30)),
        ("America/New_York", "Sun 01:30", "2019-W44", utc(2019, 11, 3, 5, 30)),
        ("Australia/Lord_Howe", "Sun 01:45", "2019-W14", utc(2019, 4, 6, 14, 45)),
    ],
)
def test_of_a_time_that_comes_twice_the_first_counts(zone, when, week, at):
    assert slot_of(schedule(when, zone, WeekMode.CURRENT), Week.parse(week)).at == at


def test_a_day_that_a_country_leaves_out_still_has_its_slot():
    # Samoa went from Thursday 29 December 2011 to Saturday the 31st.
    slots = list(slots_between(schedule("Fri 09:00", "Pacific/Apia"), utc(2011, 12, 1), utc(2012, 1, 31)))
    assert [str(slot.week) for slot in slots] == [
        "2011-W47", "2011-W48", "2011-W49", "2011-W50", "2011-W51", "2011-W52", "2012-W01", "2012-W02", "2012-W03",
    ]  # fmt: skip


def test_monday_sends_the_week_that_has_ended_and_sunday_does_not_send_its_own():
    assert str(next_slot(schedule("Mon 00:00"), utc(2019, 6, 2, 12)).week) == "2019-W22"
    assert str(next_slot(schedule("Sun 23:59"), utc(2019, 6, 2, 12)).week) == "2019-W21"


def test_the_running_week_can_be_sent_instead():
    assert str(next_slot(schedule("Sun 18:00", week=WeekMode.CURRENT), utc(2019, 6, 2, 12)).week) == "2019-W22"


def test_the_week_is_that_of_the_local_date():
    # Monday 09:00 in Auckland is still Sunday in UTC.
    slot = next_slot(schedule("Mon 09:00", "Pacific/Auckland"), utc(2019, 6, 2, 12))
    assert (slot.at, str(slot.week)) == (utc(2019, 6, 2, 21), "2019-W22")


def test_slots_before_the_schedule_was_set_do_not_count():
    planned = schedule(since=utc(2019, 6, 3, 6, 0))
    assert last_slot(planned, utc(2019, 6, 3, 7)) is None
    assert next_slot(planned, utc(2019, 6, 3, 5)).at == utc(2019, 6, 10, 6)
    assert last_slot(planned, utc(2019, 6, 10, 6)) == next_slot(planned, utc(2019, 6, 3, 7))


@given(
    st.integers(0, 47 * 365 * 86400).map(lambda seconds: utc(1990, 1, 1) + dt.timedelta(seconds=seconds)),
    st.sampled_from(ZONES),
    st.integers(0, 6),
    st.integers(0, 1439),
    st.sampled_from(WeekMode),
)
def test_any_instant_lies_between_its_last_and_its_next_slot(now, zone, weekday, minute, mode):
    planned = Schedule(weekday, minute, zone, mode, 6, LONG_AGO)
    last, following = last_slot(planned, now), next_slot(planned, now)
    assert last.at <= now < following.at
    assert following.week == last.week.shifted(1)
    assert slot_of(planned, following.week) == following


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mon 09:00", (0, 540)),
        ("monday 9:00", (0, 540)),
        (" SUN 23:59 ", (6, 1439)),
        ("Thurs 00:00", (3, 0)),
        ("Wednesday, 12:30", (2, 750)),
    ],
)
def test_days_are_read_short_or_long(text, expected):
    assert parse_when(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("09:00", "Mon 09:00"),
        ("Mon", "Mon 09:00"),
        ("Mon 9", "Mon 09:00"),
        ("Mon 09:00 pm", "Mon 09:00"),
        ("Mom 09:00", "not a weekday; write Mon, Tue"),
        ("Mon 24:00", "from 00:00 to 23:59"),
        ("Mon 12:60", "from 00:00 to 23:59"),
        ("", "Mon 09:00"),
    ],
)
def test_a_wrong_time_says_how_to_write_it(text, words):
    with pytest.raises(InvalidInputError, match=words):
        parse_when(text)


def test_a_zone_is_taken_by_its_name():
    assert checked_timezone("Europe/Minsk") == "Europe/Minsk"
    assert checked_timezone("UTC") == "UTC"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Europe/Minks", "did you mean Europe/Minsk"),
        ("europe/minsk", "did you mean Europe/Minsk"),
        ("+03:00", "such as Europe/Minsk"),
        ("../../etc/passwd", "such as Europe/Minsk"),
        ("", "such as Europe/Minsk"),
        ("Europe", "Europe"),
        ("localtime", "Europe/Minsk|did you mean"),
    ],
)
def test_an_unknown_zone_is_refused_with_a_suggestion(name, words):
    with pytest.raises(InvalidInputError, match=words):
        checked_timezone(name)


def test_lateness_ends_before_the_next_slot():
    with pytest.raises(InvalidInputError, match="between 0 and 144"):
        schedule(late=145)


def test_a_schedule_is_written_as_it_is_typed():
    assert schedule("tuesday 7:05").written == "Tue 07:05"
