"""The schedule's commands from end to end, with a clock that the test holds."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from service.delivery.slots import run_due_slots
from service.domain.content import TextStatus
from service.domain.weeks import Week
from service.store import mailings, slots
from service.store.slots import SlotState
from service.store.tables import audit
from tests.factories import save_issue, save_publication, unapproved
from tests.fakes import FakeBell
from tests.flow.conftest import hold_time

# What is said about wrong input is the same on both.
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
# Tuesday 28 May 2019, ten in the morning in Minsk; the next Monday slot sends 2019-W22.
TUESDAY = dt.datetime(2019, 5, 28, 7, 0, tzinfo=dt.UTC)
SLOT = dt.datetime(2019, 6, 3, 6, 0, tzinfo=dt.UTC)
MONDAYS = ("schedule", "set", "Mon 09:00", "--timezone", "Europe/Minsk")


@pytest.fixture
def tydzen(tydzen, database, clock, monkeypatch):
    clock.set(TUESDAY)
    hold_time(monkeypatch, clock)
    with database.begin() as session:
        save_publication(session)
    return tydzen


def answer(run, *arguments):
    code, out, err = run(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def actions(database):
    with database.read() as session:
        return [row.action for row in session.execute(audit.select().order_by(audit.c.id))]


def write(database, week, status=TextStatus.APPROVED):
    with database.begin() as session:
        save_issue(session, week, status)


def tick(database, now):
    with database.begin() as session:
        return run_due_slots(session, FakeBell(), unapproved, now=now)


def test_a_slot_is_set_and_shown(tydzen, database):
    code, out, err = tydzen(*MONDAYS)
    assert (code, out) == (0, "")
    assert "Mon 09:00, Europe/Minsk: the issue of the week that has ended, up to 6 h late" in err
    assert "next: Mon 2019-06-03 09:00, 2019-06-03 06:00 UTC, issue 2019-W22" in err
    write(database, "2019-W22", TextStatus.READY)
    write(database, "2019-W23")
    code, out, err = tydzen("schedule", "show")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[1][:7] == ["Mon", "2019-06-03", "09:00", "2019-06-03", "06:00", "2019-W22", "blocked"]
    assert "tydzen issue check 2019-W22" in out
    assert (lines[2][5:], lines[3][5:]) == (["2019-W23", "ready"], ["2019-W24", "missing"])


def test_show_as_json_has_all_of_it(tydzen, database):
    tydzen(*MONDAYS, "--late", "12")
    write(database, "2019-W22", TextStatus.READY)
    shown = answer(tydzen, "schedule", "show", "--slots", "2")
    assert shown["schedule"] == {
        "when": "Mon 09:00",
        "timezone": "Europe/Minsk",
        "week": "ended",
        "late_hours": 12,
        "since": "2019-05-28T07:00:00+00:00",
    }
    first, second = shown["next"]
    assert (first["slot"], first["local"]) == ("2019-06-03T06:00:00+00:00", "2019-06-03T09:00:00+03:00")
    assert (first["week"], first["state"], first["mailing"]) == ("2019-W22", "blocked", None)
    assert any("alliances" in line for line in first["blocking"])
    assert (second["week"], second["state"], second["blocking"]) == ("2019-W23", "missing", [])
    assert shown["past"] == []


def test_without_a_schedule_show_says_how_to_set_one(tydzen):
    code, out, err = tydzen("schedule", "show")
    assert (code, out) == (0, "")
    assert 'tydzen schedule set "Mon 09:00"' in err
    assert answer(tydzen, "schedule", "show") == {"schedule": None, "next": [], "past": []}


def test_setting_the_same_again_changes_nothing(tydzen, database, clock):
    assert answer(tydzen, *MONDAYS)["changed"]
    clock.advance(days=1)
    again = answer(tydzen, *MONDAYS)
    assert not again["changed"]
    assert again["schedule"]["since"] == "2019-05-28T07:00:00+00:00"
    assert actions(database) == ["schedule.set"]


def test_the_publications_zone_is_taken_where_none_is_said(tydzen):
    made = answer(tydzen, "schedule", "set", "sunday 18:00", "--week", "current")
    assert (made["schedule"]["timezone"], made["schedule"]["week"]) == ("Europe/Minsk", "current")
    assert made["next"]["week"] == "2019-W22"


def test_a_dry_run_changes_nothing(tydzen, database):
    assert answer(tydzen, *MONDAYS, "--dry-run")["changed"]
    assert answer(tydzen, "schedule", "show")["schedule"] is None
    tydzen(*MONDAYS)
    assert answer(tydzen, "schedule", "skip", "2019-W22", "--dry-run")["changed"]
    assert answer(tydzen, "schedule", "clear", "--dry-run")["changed"]
    assert answer(tydzen, "schedule", "show")["next"][0]["state"] == "missing"
    assert actions(database) == ["schedule.set"]


def test_more_lateness_saves_a_slot_that_passed(tydzen, database, clock):
    tydzen(*MONDAYS, "--late", "2")
    write(database, "2019-W22")
    clock.set(SLOT + dt.timedelta(hours=4))
    assert answer(tydzen, *MONDAYS, "--late", "5")["changed"]
    (made,) = tick(database, clock.now())
    assert made.state is SlotState.RELEASED


def test_a_changed_schedule_gives_up_what_waited_at_the_old_slot(tydzen, database, clock):
    tydzen(*MONDAYS)
    write(database, "2019-W22", TextStatus.READY)
    clock.set(SLOT + dt.timedelta(hours=1))
    tick(database, clock.now())
    code, _, err = tydzen("schedule", "set", "Tue 09:00")
    assert code == 0
    assert "issue 2019-W22 was waiting at the old slot" in err
    write(database, "2019-W22")
    assert tick(database, clock.now()) == []
    (made,) = tick(database, SLOT + dt.timedelta(days=1))
    assert (made.state, str(made.slot.week)) == (SlotState.RELEASED, "2019-W22")


def test_a_week_is_skipped_and_taken_back(tydzen, database):
    tydzen(*MONDAYS)
    assert answer(tydzen, "schedule", "skip", "2019-W22")["changed"]
    assert not answer(tydzen, "schedule", "skip", "2019-W22")["changed"]
    assert answer(tydzen, "schedule", "show")["next"][0]["state"] == "skipped"
    assert answer(tydzen, "schedule", "unskip", "2019-W22")["changed"]
    assert not answer(tydzen, "schedule", "unskip", "2019-W22")["changed"]
    assert actions(database) == ["schedule.set", "schedule.skip", "schedule.unskip"]


def test_a_skip_while_the_slot_waits_ends_the_waiting(tydzen, database, clock):
    tydzen(*MONDAYS)
    clock.set(SLOT + dt.timedelta(minutes=5))
    tick(database, clock.now())
    assert answer(tydzen, "schedule", "skip", "2019-W22")["changed"]
    write(database, "2019-W22")
    assert tick(database, clock.now()) == []
    (past,) = answer(tydzen, "schedule", "show")["past"]
    assert (past["state"], past["week"]) == ("skipped", "2019-W22")


def test_a_missed_week_can_be_left_out_as_its_notice_says(tydzen, database, clock):
    tydzen(*MONDAYS)
    clock.set(SLOT + dt.timedelta(days=1))
    tick(database, clock.now())
    assert answer(tydzen, "schedule", "skip", "2019-W22")["changed"]
    with database.read() as session:
        assert [row.state for row in slots.of_week(session, Week(2019, 22))] == [SlotState.SKIPPED]


def test_what_became_of_a_slot_is_shown(tydzen, database, clock):
    tydzen(*MONDAYS)
    write(database, "2019-W22")
    clock.set(SLOT)
    (made,) = tick(database, SLOT)
    (past,) = answer(tydzen, "schedule", "show")["past"]
    assert (past["state"], past["mailing"]) == ("released", made.mailing)
    _, out, _ = tydzen("schedule", "show")
    assert f"mailing {made.mailing}" in out


def test_a_week_that_is_being_sent_cannot_be_skipped(tydzen, database):
    tydzen(*MONDAYS)
    write(database, "2019-W22")
    tick(database, SLOT)
    code, _, err = tydzen("schedule", "skip", "2019-W22")
    assert code == 5
    assert "tydzen mailing status" in err


def test_a_week_whose_slot_was_left_out_is_not_taken_back(tydzen, database, clock):
    tydzen(*MONDAYS)
    tydzen("schedule", "skip", "2019-W22")
    clock.set(SLOT)
    tick(database, SLOT)
    code, _, err = tydzen("schedule", "unskip", "2019-W22")
    assert code == 5
    assert "tydzen issue send 2019-W22" in err


def test_a_cleared_schedule_sends_nothing(tydzen, database):
    tydzen(*MONDAYS)
    write(database, "2019-W22")
    assert answer(tydzen, "schedule", "clear")["cleared"]["when"] == "Mon 09:00"
    assert not answer(tydzen, "schedule", "clear")["changed"]
    assert tick(database, SLOT) == []
    assert actions(database) == ["schedule.set", "schedule.clear"]


@ON_SQLITE
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("set", "Mon"), 2, 'write it like "Mon 09:00"'),
        (("set", "Mom 09:00"), 2, "not a weekday; write Mon"),
        (("set", "Mon 25:00"), 2, "from 00:00 to 23:59"),
        (("set", "Mon 09:00", "--timezone", "Europe/Minks"), 2, "did you mean Europe/Minsk?"),
        (("set", "Mon 09:00", "--timezone", "nowhere at all"), 2, "such as Europe/Minsk"),
        (("set", "Mon 09:00", "--late", "145"), 2, "144"),
        (("set", "Mon 09:00", "--week", "next"), 2, "current"),
        (("skip", "2019-23"), 2, "2019-W22"),
        (("skip", "2019-W23"), 4, "tydzen schedule set"),
        (("unskip", "2019-W23"), 4, "tydzen schedule set"),
    ],
)
def test_wrong_input_says_what_to_write(tydzen, arguments, code, words):
    left, out, err = tydzen("schedule", *arguments)
    assert (left, out) == (code, "")
    assert words in " ".join(err.split())


@ON_SQLITE
def test_a_week_from_before_the_schedule_cannot_be_skipped(tydzen):
    tydzen(*MONDAYS)
    code, _, err = tydzen("schedule", "skip", "2019-W20")
    assert code == 2
    assert "past" in err
    assert "2019-W22" in err


@pytest.mark.parametrize(
    ("before", "at", "after"),
    [
        # On Saturday: Sunday's slot becomes Monday's, which was five days ago for the same week.
        (("Sun 09:00",), SLOT + dt.timedelta(days=5), ("Mon 09:00",)),
        (("Mon 09:00",), SLOT - dt.timedelta(minutes=15), ("Mon 08:30",)),
        (("Sun 18:00",), SLOT + dt.timedelta(days=5), ("Sun 18:00", "--week", "current")),
        # Its slot has come, and nobody has looked yet.
        (("Mon 09:00",), SLOT + dt.timedelta(seconds=5), ("Mon 08:30",)),
    ],
)
def test_a_moved_slot_names_the_week_that_it_passes_over(tydzen, database, clock, before, at, after):
    write(database, "2019-W22")
    tydzen("schedule", "set", *before)
    clock.set(at)
    asked = answer(tydzen, "schedule", "set", *after, "--dry-run")
    code, _, err = tydzen("schedule", "set", *after)
    assert (code, asked["abandoned"]) == (0, ["2019-W22"])
    assert "issue 2019-W22 was waiting at the old slot and will not go out by itself there" in err
    tick(database, at + dt.timedelta(days=9))
    with database.read() as session:
        assert mailings.of_issue(session, "2019-W22") is None


@pytest.mark.parametrize("why", ["its new slot is to come", "it is left out", "it was sent by hand"])
def test_a_moved_slot_names_no_week_that_is_not_passed_over(tydzen, database, clock, why):
    write(database, "2019-W22")
    tydzen("schedule", "set", "Sun 09:00")
    clock.set(SLOT + dt.timedelta(days=5))
    if why == "it is left out":
        tydzen("schedule", "skip", "2019-W22")
    if why == "it was sent by hand":
        tydzen("issue", "send", "2019-W22", "--yes")
    moved = "Sun 12:00" if why == "its new slot is to come" else "Mon 09:00"
    assert answer(tydzen, "schedule", "set", moved)["abandoned"] == []
