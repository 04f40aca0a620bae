"""`tydzen pace show` and `pace set`, as an operator uses them."""

import datetime as dt
import json

import pytest
import sqlalchemy as sa

from service.store.tables import subscribers as table
from tests.factories import add_readers

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
    # The other way of naming a known one's domain.
    assert tydzen("pace", "set", "--provider", "googlemail.com", "--unset")[0] == 0
    assert "provider:gmail" not in set(shown(tydzen))


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
