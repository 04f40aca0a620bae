"""`tydzen subscriber stats` from end to end: what operators see of who came and who left."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from service.domain.growth import Change
from service.domain.weeks import Week
from service.store import growth
from tests.canary import assert_no_trace, canary
from tests.factories import save_publication

# A week that ends in their midst would be another one.
pytestmark = pytest.mark.usefixtures("before_midnight")
# What is said about wrong input is the same on both.
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
NOTHING = {"confirmed": 0, "added": 0, "lifted": 0, "changed": 0, "left": 0, "bounced": 0}


@pytest.fixture
def tydzen(tydzen, database):
    with database.begin() as session:
        save_publication(session)
    return tydzen


def stats(run, *arguments):
    code, out, err = run("subscriber", "stats", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def noted(database, weeks_ago, change, readers, chain="be"):
    """Sums of a week before the present one; the week."""
    week = Week.of(dt.datetime.now(dt.UTC).date()).shifted(-weeks_ago)
    with database.begin() as session:
        growth.note(session, week, chain, change, readers)
    return str(week)


def test_before_anybody_came_it_says_how_to_bring_readers(tydzen):
    code, out, err = tydzen("subscriber", "stats")
    assert (code, out) == (0, "")
    assert "nobody came or left from" in err
    assert "tydzen subscriber import FILE" in err
    found = stats(tydzen)
    assert (found["weeks"], found["languages"], found["all"]) == ({}, {}, {"active": 0, **NOTHING})


def test_what_the_other_commands_do_is_counted(tydzen, tmp_path):
    (tmp_path / "readers.csv").write_text('email,languages\nann@reader.test,"be,ru"\nbob@reader.test,be\n')
    address = canary("stats")
    for command in (
        ("import", "readers.csv"),
        ("import", "readers.csv"),
        ("import", "readers.csv", "--dry-run"),
        ("add", address, "--languages", "be"),
        ("add", address, "--languages", "be"),
        ("add", "eve@reader.test", "--languages", "be", "--dry-run"),
        ("set", "bob@reader.test", "--languages", "be,ru"),
        ("erase", address, "--dry-run"),
        ("erase", address, "--yes"),
    ):
        assert tydzen("subscriber", *command)[0] == 0, command
    (tmp_path / "left.csv").write_text("email\nann@reader.test\nnever@reader.test\n")
    assert tydzen("subscriber", "import", "left.csv", "--languages", "be", "--status", "unsubscribed")[0] == 0
    found = stats(tydzen)
    assert found["languages"] == {
        "be": {"active": 0, **NOTHING, "added": 2, "changed": -1, "left": 1},
        "be,ru": {"active": 1, **NOTHING, "added": 1, "changed": 1, "left": 1},
    }
    assert found["all"] == {"active": 1, **NOTHING, "added": 3, "left": 2}
    weeks = found["weeks"].values()
    assert sum(one["left"] for week in weeks for one in week.values()) == 2
    assert found["from"] < min(found["weeks"]) <= found["to"]
    code, out, err = tydzen("subscriber", "stats")
    assert (code, err) == (0, "")
    assert_no_trace([address, "ann@reader.test"], text=out)


def test_the_table_has_the_weeks_in_their_order_and_the_numbers_to_the_right(tydzen, database):
    older = noted(database, 2, Change.CONFIRMED, 1234)
    newer = noted(database, 0, Change.LEFT, 7)
    code, out, err = tydzen("subscriber", "stats")
    assert (code, err) == (0, "")
    head, first, second, _, title, names, _, everybody = [line.rstrip() for line in out.splitlines()]
    assert head.split() == ["week", "languages", *NOTHING]
    assert first.split() == [older, "be", "1234", "0", "0", "0", "0", "0"]
    assert second.split() == [newer, "be", "0", "0", "0", "0", "7", "0"]
    assert first.index("1234") + 4 == head.index("confirmed") + len("confirmed")
    assert title.endswith("and active now")
    assert names.split() == ["languages", "active", *NOTHING]
    assert everybody.split() == ["all", "0", "1234", "0", "0", "0", "7", "0"]


def test_only_the_weeks_that_were_asked_for_are_shown(tydzen, database):
    weeks = {ago: noted(database, ago, Change.ADDED, 1) for ago in (0, 1, 11, 12)}
    assert set(stats(tydzen)["weeks"]) == {weeks[0], weeks[1], weeks[11]}
    assert set(stats(tydzen, "--weeks", 1)["weeks"]) == {weeks[0]}
    assert set(stats(tydzen, "--weeks", 520)["weeks"]) == set(weeks.values())
    assert stats(tydzen, "--weeks", 2)["all"]["added"] == 2


@ON_SQLITE
@pytest.mark.parametrize(
    ("weeks", "said"),
    [
        ("0", "greater than or equal to 1"),
        ("-1", "greater than or equal to 1"),
        ("521", "less than or equal to 520"),
        ("abc", "a valid integer"),
        ("1.5", "a valid integer"),
        ("", "a valid integer"),
    ],
)
def test_what_is_no_number_of_weeks_ends_with_2_and_says_what_would_be(tydzen, weeks, said):
    code, out, err = tydzen("subscriber", "stats", f"--weeks={weeks}")
    assert (code, out) == (2, "")
    assert f"'--weeks': Input should be {said}" in err
