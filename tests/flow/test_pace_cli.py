"""`tydzen pace show` and `pace set`, as an operator uses them."""

import datetime as dt
import json

import pytest
import sqlalchemy as sa

from service.domain.limits import Limit
from service.store import limits
from service.store.instants import stored
from service.store.tables import batches
from service.store.tables import subscribers as table
from tests.factories import add_readers
from tests.unit.delivery.parts import Run

RELAYS = (
    "smtp://relay.example.org:587?tls=starttls&rate=20&per_day=1000,smtp://other.example.org:25?tls=none&connections=3"
)


@pytest.fixture(autouse=True)
def relays(monkeypatch):
    monkeypatch.setenv("TYDZEN_SMTP_URL", RELAYS)
    monkeypatch.setenv("TYDZEN_RATE", "50")


def shown(tydzen):
    code, out, _ = tydzen("pace", "show", "--json")
    assert code == 0
    return {line["scope"]: line for line in map(json.loads, out.splitlines())}


def test_what_the_settings_say_is_shown_with_where_it_comes_from(tydzen):
    found = shown(tydzen)
    assert list(found) == ["installation", "relay:other.example.org:25", "relay:relay.example.org:587"]
    assert found["installation"]["rate"] == 50
    assert found["relay:relay.example.org:587"] == {
        "scope": "relay:relay.example.org:587",
        "rate": 20,
        "connections": 5,
        "per_day": 1000,
        "weight": None,
        "warm_up_from": None,
        "origins": {"rate": "settings", "connections": "settings", "per_day": "settings"},
        "sent_today": 0,
        "cap_today": 1000,
        "warm_up_day": None,
        "breaker": None,
        "known": True,
    }


def test_what_is_set_wins_until_it_is_unset_and_is_audited(tydzen):
    assert tydzen("pace", "set", "--relay", "relay.example.org", "--rate", "0.5", "--per-day", "0")[0] == 0
    scope = shown(tydzen)["relay:relay.example.org:587"]
    assert (scope["rate"], scope["per_day"], scope["cap_today"]) == (0.5, 0, None)
    assert scope["origins"]["rate"] == "database"
    assert scope["origins"]["connections"] == "settings"

    # What is not named stays.
    assert tydzen("pace", "set", "--relay", "relay.example.org:587", "--connections", "2")[0] == 0
    scope = shown(tydzen)["relay:relay.example.org:587"]
    assert (scope["rate"], scope["connections"]) == (0.5, 2)

    assert tydzen("pace", "set", "--relay", "relay.example.org", "--unset")[0] == 0
    assert shown(tydzen)["relay:relay.example.org:587"]["rate"] == 20
    _, out, _ = tydzen("audit", "show", "--json")
    entries = [line for line in map(json.loads, out.splitlines()) if line["action"] == "pace.set"]
    assert [entry["subject"] for entry in entries] == ["relay:relay.example.org:587"] * 3


def test_letters_are_counted_where_there_is_a_cap_and_nothing_is_said_of_the_others(tydzen):
    assert shown(tydzen)["relay:relay.example.org:587"]["sent_today"] == 0
    assert shown(tydzen)["relay:other.example.org:25"]["sent_today"] is None


def test_a_relay_is_shown_by_its_name_whatever_that_means_to_others(tydzen, monkeypatch):
    monkeypatch.setenv("TYDZEN_SMTP_URL", "smtp://mailbox:25?tls=none")
    assert "relay:mailbox:25" in tydzen("pace", "show")[1]
    assert "relay:mailbox:25" in tydzen("pace", "set", "--relay", "mailbox:25", "--rate", "1")[2]


def test_a_limit_of_a_relay_that_left_the_settings_is_marked_and_can_be_unset(tydzen, monkeypatch, database):
    words = ("pace", "set", "--relay", "other.example.org:25")
    assert tydzen(*words, "--per-day", "1")[0] == 0
    left = "relay:other.example.org:25"
    with database.begin() as session:
        limits.left(session, {left: 1}, dt.datetime.now(dt.UTC).date())
        limits.count(session, [left], dt.datetime.now(dt.UTC).date(), 1)
    assert shown(tydzen)[left]["known"] is True
    monkeypatch.setenv("TYDZEN_SMTP_URL", "smtp://relay.example.org:587?tls=starttls")
    assert shown(tydzen)[left]["known"] is False
    assert f"{left} (not in TYDZEN_SMTP_URL)" in tydzen("pace", "show")[1]
    # No letter waits for a relay that is not there.
    run = Run(database, readers=1)
    with database.begin() as session:
        session.execute(batches.update().values(not_before=stored(dt.datetime.now(dt.UTC)) + 3_600_000))
    assert "used up" not in str(tydzen("mailing", "status", run.mailing))

    # Of what is not in the settings nothing is set, and its host alone does not name it.
    assert tydzen(*words, "--per-day", "2")[0] == 4
    assert tydzen("pace", "set", "--relay", "other.example.org", "--unset")[0] == 4
    assert tydzen(*words, "--unset")[0] == 0
    assert left not in shown(tydzen)
    assert tydzen(*words, "--unset")[0] == 4


def test_a_provider_that_was_set_by_a_name_that_no_reader_can_have_can_be_unset(tydzen, database):
    with database.begin() as session:
        limits.save(session, "provider:d-foo", Limit(rate=5), now_ms=0)
    assert tydzen("pace", "set", "--provider", "d-foo", "--unset")[0] == 0
    assert "provider:d-foo" not in shown(tydzen)


def test_a_dry_run_sets_nothing(tydzen):
    before = shown(tydzen)
    code, _, err = tydzen("pace", "set", "--rate", "3", "--dry-run")
    assert code == 0
    assert "installation would have: rate 3" in err
    assert shown(tydzen) == before


def test_a_domain_that_is_no_known_provider_is_kept_as_a_hash(tydzen):
    assert tydzen("pace", "set", "--provider", "Gmail", "--rate", "10")[0] == 0
    assert tydzen("pace", "set", "--provider", "Example.ORG", "--connections", "1")[0] == 0
    found = set(shown(tydzen))
    assert "provider:gmail" in found
    (hashed,) = (scope for scope in found if scope.startswith("provider:d-"))
    assert "example" not in hashed
    # One dot at its end is DNS's way of writing the same; its hash is a name, too.
    assert tydzen("pace", "set", "--provider", "example.org.", "--connections", "2")[0] == 0
    assert tydzen("pace", "set", "--provider", hashed.removeprefix("provider:"), "--rate", "3")[0] == 0
    found = {scope: one for scope, one in shown(tydzen).items() if scope.startswith("provider:d-")}
    assert [(scope, one["connections"], one["rate"]) for scope, one in found.items()] == [(hashed, 2, 3)]
    # The other way of naming a known one's domain.
    assert tydzen("pace", "set", "--provider", "googlemail.com", "--unset")[0] == 0
    assert "provider:gmail" not in set(shown(tydzen))


@pytest.mark.usefixtures("before_midnight")
def test_a_warm_up_is_shown_by_its_day(tydzen):
    yesterday = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).date().isoformat()
    assert tydzen("pace", "set", "--relay", "other.example.org", "--warm-up-from", yesterday)[0] == 0
    scope = shown(tydzen)["relay:other.example.org:25"]
    assert (scope["warm_up_day"], scope["cap_today"], scope["warm_up_from"]) == (2, 100, yesterday)
    assert "day 2" in tydzen("pace", "show")[1]
    assert tydzen("pace", "set", "--relay", "other.example.org", "--warm-up-from", "off")[0] == 0
    assert shown(tydzen)["relay:other.example.org:25"]["cap_today"] is None


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "at least one limit"),
        (["--rate", "20", "--unset"], 2, "--unset forgets all that was set"),
        (["--rate", "-1"], 2, "--rate -1 is not from 0 to 1,000,000"),
        (["--rate", "nan"], 2, "--rate nan"),
        (["--rate", "inf"], 2, "--rate inf is not from 0 to 1,000,000"),
        (["--rate", "5e-324"], 2, "the slowest is 0.000001"),
        (["--per-day", "-5"], 2, "--per-day -5"),
        (["--connections", "5"], 2, "--relay or --provider"),
        (["--weight", "5"], 2, "--relay"),
        (["--relay", "other.example.org", "--connections", "0"], 2, "from 1 to 100"),
        (["--relay", "other.example.org", "--provider", "gmail", "--rate", "1"], 2, "either --relay or --provider"),
        (["--relay", "nowhere.example.org", "--rate", "1"], 4, "known are other.example.org:25"),
        (["--provider", "gmial", "--rate", "1"], 2, "no provider"),
        (["--provider", "d-foo", "--rate", "1"], 2, "16 hexadecimal digits"),
        (["--provider", "d-0123456789abcdeg", "--rate", "1"], 2, "no provider"),
        (["--provider", "mail.", "--rate", "1"], 2, "no provider"),
        (["--provider", "example.org..", "--rate", "1"], 2, "no provider"),
        (["--provider", "exa mple.org", "--rate", "1"], 2, "no provider"),
        (["--provider", "reader@example.org", "--rate", "1"], 2, "no provider"),
        (["--provider", "", "--rate", "1"], 2, "no provider"),
        (["--warm-up-from", "soon"], 2, "no date"),
    ],
)
def test_what_cannot_be_is_refused_and_says_what_can(tydzen, words, code, told):
    got, _, err = tydzen("pace", "set", *words)
    assert got == code
    assert told in " ".join(err.split())


def test_upgrading_fills_the_providers_of_readers_from_before(tydzen, database):
    add_readers(database, 3, domain="gmail.com")
    with database.begin() as session:
        session.execute(table.update().values(provider=None))
    assert tydzen("db", "upgrade")[0] == 0
    with database.read() as session:
        assert set(session.execute(sa.select(table.c.provider)).scalars()) == {"gmail"}


def test_the_rate_and_the_time_left_of_a_mailing_go_by_what_is_set(tydzen, database):
    assert tydzen("mailing", "list")[0] == 0  # so that the log of the planning stands in no output
    run = Run(database, readers=100)

    def told(*more):
        code, out, err = tydzen("mailing", "status", run.mailing, "--json", *more)
        assert code == 0, err
        (line,) = map(json.loads, out.splitlines())
        return line["rate"], line["eta_seconds"]

    assert told() == (50, 2)
    assert tydzen("pace", "set", "--rate", "4")[0] == 0
    assert told() == (4, 25)
    assert tydzen("pace", "set", "--rate", "0")[0] == 0
    assert told()[0] == 0
    assert tydzen("pace", "set", "--unset")[0] == 0
    assert told() == (50, 2)
    assert tydzen("pace", "set", "--rate", "4")[0] == 0
    run.control("pause")
    assert told("--watch") == (4, None)


def test_large_numbers_are_told_with_all_their_digits(tydzen, database):
    words = ("pace", "set", "--relay", "relay.example.org:587", "--per-day", "1234567", "--rate", "123456.75")
    assert "rate 123456.75, per-day 1,234,567" in tydzen(*words)[2]
    table = tydzen("pace", "show")[1]
    assert "123456.75 (set)" in table
    assert "1,234,567 (set)" in table
    assert "0 of 1,234,567" in table
    assert "--per-day 12,345,678,901 is not" in " ".join(tydzen("pace", "set", "--per-day", "12345678901")[2].split())

    run = Run(database, readers=1)
    assert "rate 1,000,000" in tydzen("mailing", "rate", run.mailing, "1000000")[2]
    assert "rate 999999.5" in tydzen("mailing", "rate", run.mailing, "999999.5")[2]
    with database.begin() as session:
        session.execute(batches.update().values(pending=1_234_567))
    assert "skipped 1,234,567" in tydzen("mailing", "cancel", run.mailing, "--dry-run")[2]


def test_a_weight_of_one_relay_alone_makes_the_others_count_as_one_which_is_said(tydzen):
    words = ("pace", "set", "--relay", "relay.example.org:587")
    said = "relay other.example.org:25 has no weight: it counts as 1"
    assert "none set" not in tydzen("pace", "show")[1]
    assert "has no weight" not in tydzen(*words, "--rate", "3")[2]
    assert said.replace("counts", "would count") in tydzen(*words, "--weight", "3", "--dry-run")[2]
    assert said in tydzen(*words, "--weight", "3")[2]
    table = tydzen("pace", "show")[1]
    assert table.count("1 (none set)") == 1
    assert "3 (set)" in table
    answer = json.loads(tydzen(*words, "--weight", "4", "--json")[1])
    assert answer["counting_as_one"] == ["other.example.org:25"]
    # Each has one, or none.
    assert "has no weight" not in tydzen("pace", "set", "--relay", "other.example.org:25", "--weight", "1")[2]
    assert said.replace("other.example.org:25", "relay.example.org:587") in tydzen(*words, "--unset")[2]
    assert "has no weight" not in tydzen("pace", "set", "--relay", "other.example.org:25", "--unset")[2]
