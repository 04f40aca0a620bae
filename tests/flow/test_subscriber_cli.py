"""The commands about readers from end to end: what they print, where, and how they end."""

from __future__ import annotations

import csv
import io
import json
import sys

import pytest

from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import audit as audit_log
from service.store import subscribers, suppressions
from service.store.departures import Departure, DepartureLog, Step
from service.store.tables import audit
from tests.canary import assert_no_trace, canary
from tests.factories import save_publication

# What is said about wrong input is the same on both.
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
FILE = 'email,languages\nann@reader.test,"be,ru"\nbob@reader.test,by\nbroken,be\n'


@pytest.fixture
def tydzen(tydzen, database):
    with database.begin() as session:
        save_publication(session)
    return tydzen


@pytest.fixture
def readers(tmp_path):
    path = tmp_path / "readers.csv"
    path.write_text(FILE)
    return path


def typing(monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def answer(run, *arguments, code=0):
    found, out, err = run(*arguments, "--json")
    assert found == code, err
    return json.loads(out)


def reader(database, address):
    with database.read() as session:
        return subscribers.find(session, address)


def actions(database):
    with database.read() as session:
        assert audit_log.first_broken(session) is None
        return [row.action.removeprefix("subscriber.") for row in session.execute(audit.select().order_by(audit.c.id))]


def test_a_file_is_imported_and_says_what_became_of_each_line(tydzen, database, readers, tmp_path):
    code, out, err = tydzen("subscriber", "import", readers, "--errors", "errors.csv")
    assert (code, out) == (6, "")
    assert err.splitlines() == [
        "line 4: not a mail address: it has no @",
        "3 lines: 2 new, 0 known, 0 suppressed, 0 unsubscribed, 0 unconfirmed, 1 invalid",
    ]
    assert (tmp_path / "errors.csv").read_text().splitlines() == ["line,reason", "4,not a mail address: it has no @"]
    readers.write_text(FILE.replace("broken,be\n", ""))
    report = answer(tydzen, "subscriber", "import", readers)
    assert {name: report[name] for name in ("lines", "new", "known", "invalid", "dry_run")} == {
        "lines": 2, "new": 0, "known": 2, "invalid": 0, "dry_run": False,
    }  # fmt: skip
    assert actions(database) == ["import", "imported"] * 2


def test_a_dry_run_of_an_import_stores_nobody(tydzen, database, readers):
    code, _, err = tydzen("subscriber", "import", readers, "--dry-run")
    assert code == 6
    assert "2 new" in err
    assert "a dry run, nothing was stored" in err
    assert reader(database, "ann@reader.test") is None
    assert actions(database) == []


@ON_SQLITE
def test_twenty_invalid_lines_are_shown_and_all_are_written(tydzen, readers, tmp_path):
    readers.write_text("email,languages\n" + "broken,be\n" * 30)
    code, _, err = tydzen("subscriber", "import", readers)
    assert code == 6
    assert err.count("line ") == 20
    assert "and 10 more invalid lines; to see all: --errors FILE" in err
    tydzen("subscriber", "import", readers, "--errors", "errors.csv")
    assert len((tmp_path / "errors.csv").read_text().splitlines()) == 31


@ON_SQLITE
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("canary@reader.test,be\n", "first line must name"),
        ("email\ncanary@reader.test\n", "--languages be,ru"),
    ],
)
def test_a_file_that_is_unusable_as_a_whole_ends_with_2(tydzen, readers, content, said):
    readers.write_text(content)
    code, out, err = tydzen("subscriber", "import", readers)
    assert (code, out) == (2, "")
    assert said in err
    assert "canary" not in err


@ON_SQLITE
def test_a_file_that_is_not_there_or_cannot_be_written_ends_with_2(tydzen, readers):
    assert tydzen("subscriber", "import", "canary@reader.test")[0] == 2
    code, _, err = tydzen("subscriber", "import", readers, "--errors", "no/such/canary@reader.test")
    assert code == 2
    assert "canary" not in err


@ON_SQLITE
def test_an_export_of_listmonk_is_imported_with_a_word_of_caution(tydzen, readers):
    readers.write_text('email,name,attributes,status\nann@reader.test,Ann,"{""lang"":""by""}",enabled\n')
    code, _, err = tydzen("subscriber", "import", readers, "--consent", "the old list")
    assert code == 0
    assert "does not say who left a list" in err


MAILCHIMP = "Email Address,OPTIN_TIME,CONFIRM_TIME,LEID,EUID"


@ON_SQLITE
def test_who_left_mailchimp_or_mailman_is_not_brought_back_by_the_list_of_who_stayed(tydzen, readers, database):
    readers.write_text(f"{MAILCHIMP},UNSUB_TIME\nann@reader.test,2018-05-28 10:00:00,,1,2,2019-05-27 10:00:00\n")
    report = answer(tydzen, "subscriber", "import", readers, "--languages", "be")
    assert (report["origin"], report["unsubscribed"]) == ("mailchimp", 1)
    readers.write_text("Bob <bob@reader.test>\n")
    report = answer(tydzen, "subscriber", "import", readers, "--languages", "be", "--status", "unsubscribed")
    assert (report["origin"], report["unsubscribed"]) == ("addresses", 1)

    readers.write_text("ann@reader.test\nbob@reader.test\nkacia@reader.test\n")
    report = answer(tydzen, "subscriber", "import", readers, "--languages", "be")
    assert (report["new"], report["unsubscribed"]) == (1, 2)
    assert reader(database, "ann@reader.test").status == reader(database, "bob@reader.test").status == "unsubscribed"


@ON_SQLITE
def test_a_field_of_an_audience_of_mailchimp_is_told_with_what_of_it_was_believed(tydzen, readers, database):
    head, _, own = MAILCHIMP.partition(",")
    line = "2018-05-28 10:00:00,,1,2"
    lines = [f"{name}@reader.test,{word},{line}" for name, word in
             (("ann", "unsubscribed"), ("bob", "Complained"), ("cid", "active"), ("dan", "Gold"))]  # fmt: skip
    readers.write_text("\n".join([f"{head},Status,{own}", *lines, ""]))
    for more in (("--dry-run",), ()):
        code, out, err = tydzen("subscriber", "import", readers, "--languages", "be", "--json", *more)
        report = json.loads(out)
        assert (code, report["new"], report["unsubscribed"], report["believed"]) == (0, 2, 2, 2)
        assert err.count("a field of the audience") == 1
        assert "were believed, in 2 lines" in " ".join(err.split())
    assert reader(database, "ann@reader.test").status == "unsubscribed"
    assert reader(database, "bob@reader.test").status == "complained"
    assert reader(database, "cid@reader.test").status == "active"
    readers.write_text(f"{MAILCHIMP}\nann@reader.test,{line}\n")
    code, out, err = tydzen("subscriber", "import", readers, "--languages", "be", "--json")
    assert (json.loads(out)["believed"], "field" in err) == (None, False)


def test_the_life_of_a_reader(tydzen, database, tmp_path):
    added = answer(tydzen, "subscriber", "add", "Ann@reader.test", "--languages", "be,ru", "--consent", "a letter")
    assert added == {"id": added["id"], "languages": "be,ru", "added": True, "dry_run": False}
    again = tydzen("subscriber", "add", "ann@reader.test", "--languages", "be,ru")
    assert again == (0, "", f"{added['id']} is a reader already\n")
    shown = answer(tydzen, "subscriber", "show", "ann@reader.test")
    assert shown == {
        "id": added["id"], "languages": "be,ru", "status": "active", "suppressed": None,
        "joined_week": shown["joined_week"], "consent": "a letter", "soft_refusals": 0,
        "text_only": False, "paused_until": None,
    }  # fmt: skip
    assert answer(tydzen, "subscriber", "set", "ann@reader.test", "--languages", "en", "--dry-run")["changed"]
    assert reader(database, "ann@reader.test").chain.first == "be"
    assert (
        tydzen("subscriber", "set", added["id"], "--languages", "EN")[2]
        == f"{added['id']} is changed from be,ru to en\n"
    )
    assert tydzen("subscriber", "set", added["id"], "--languages", "en")[2] == f"{added['id']} has en already\n"
    assert tydzen("subscriber", "reveal", added["id"]) == (0, "Ann@reader.test\n", "")
    assert tydzen("subscriber", "suppress", "ann@reader.test")[2] == "the address is suppressed\n"
    assert tydzen("subscriber", "suppress", "ann@reader.test")[2] == "the address was suppressed already\n"
    assert answer(tydzen, "subscriber", "show", "ann@reader.test")["suppressed"] == "operator"
    assert tydzen("subscriber", "unsuppress", "ann@reader.test")[2] == "the address (operator) is allowed again\n"
    assert answer(tydzen, "subscriber", "erase", "ann@reader.test", "--dry-run")["dry_run"]
    assert reader(database, "ann@reader.test")
    assert answer(tydzen, "subscriber", "erase", "ann@reader.test", "--yes")["id"] == added["id"]
    assert tydzen("subscriber", "show", "ann@reader.test") == (4, "", "no such subscriber\n")
    assert actions(database) == ["add", "set", "reveal", "suppress", "unsuppress", "erase"]
    steps = [one.step.value for one in DepartureLog(tmp_path / "var" / "departures.log").read()]
    assert steps == ["operator", "lifted", "erased"]


def test_an_erased_reader_comes_back_neither_by_add_nor_by_import_nor_from_a_backup(
    tydzen, database, readers, tmp_path
):
    tydzen("subscriber", "import", readers)
    tydzen("subscriber", "erase", "ann@reader.test", "--yes")
    assert "suppressed" in tydzen("subscriber", "add", "ann@reader.test", "--languages", "be")[2]
    assert "1 known, 1 suppressed" in tydzen("subscriber", "import", readers)[2]
    with database.begin() as session:
        suppressions.lift(session, session.sealer.address_hash("ann@reader.test"))
    tydzen("subscriber", "import", readers)
    assert reader(database, "ann@reader.test")
    assert answer(tydzen, "subscriber", "reapply", "--dry-run")["erased"] == 1
    assert reader(database, "ann@reader.test")
    assert tydzen("subscriber", "reapply")[2] == "0 unsubscribed, 1 erased, 1 suppressed again\n"
    assert reader(database, "ann@reader.test") is None


def test_logs_of_other_hosts_are_applied_together_with_ours(tydzen, database, readers, tmp_path):
    tydzen("subscriber", "import", readers)
    ours, site = DepartureLog(tmp_path / "var" / "departures.log"), DepartureLog(tmp_path / "site" / "departures.log")
    ann, bob = (database.sealer.address_hash(f"{name}@reader.test") for name in ("ann", "bob"))
    ours.record([Departure(Week(2019, 23), Step.BOUNCED, ann)])
    site.record([Departure(Week(2019, 30), Step.CONFIRMED, ann), Departure(Week(2019, 30), Step.UNSUBSCRIBED, bob)])
    logs = ["--log", site.path, "--log", site.path]
    wanted = {"unsubscribed": 1, "erased": 0, "suppressed": 0}
    assert answer(tydzen, "subscriber", "reapply", *logs, "--dry-run") == {**wanted, "dry_run": True}
    assert tydzen("subscriber", "reapply", *logs)[2] == "1 unsubscribed, 0 erased, 0 suppressed again\n"
    assert reader(database, "bob@reader.test").status is SubscriberStatus.UNSUBSCRIBED
    assert answer(tydzen, "subscriber", "reapply", *logs) == {**wanted, "unsubscribed": 0, "dry_run": False}


@ON_SQLITE
def test_what_is_no_log_of_departures_is_told_before_anything_is_changed(tydzen, database, readers, tmp_path):
    tydzen("subscriber", "import", readers)
    ann = database.sealer.address_hash("ann@reader.test")
    DepartureLog(tmp_path / "var" / "departures.log").record([Departure(Week(2019, 23), Step.UNSUBSCRIBED, ann)])
    for path, said in (
        (tmp_path / "missing.log", "no such file"),
        (tmp_path, "regular"),
        (readers, "no departures.log"),
    ):
        code, _, err = tydzen("subscriber", "reapply", "--log", path)
        assert (code, said in err, str(path) in err) == (2, True, True)
    (tmp_path / "empty.log").touch()
    assert reader(database, "ann@reader.test").status is SubscriberStatus.ACTIVE
    assert answer(tydzen, "subscriber", "reapply", "--log", tmp_path / "empty.log")["unsubscribed"] == 1


def test_an_export_needs_a_yes_and_is_audited(tydzen, database, readers):
    tydzen("subscriber", "import", readers)
    code, out, err = tydzen("subscriber", "export")
    assert (code, out) == (2, "")
    assert "--yes" in err
    assert "export" not in actions(database)
    code, out, _ = tydzen("subscriber", "export", "--yes")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert list(rows[0]) == ["id", "email", "languages", "status", "joined_week", "consent"]
    assert {row["email"]: row["languages"] for row in rows} == {"ann@reader.test": "be,ru", "bob@reader.test": "be"}
    out = tydzen("subscriber", "export", "--yes", "--json", "--status", "active")[1]
    assert sorted(json.loads(line)["email"] for line in out.splitlines()) == ["ann@reader.test", "bob@reader.test"]
    assert tydzen("subscriber", "export", "--yes", "--json", "--status", "pending")[1] == ""
    assert actions(database).count("export") == 3


@ON_SQLITE
def test_an_address_is_read_from_stdin_where_no_list_of_processes_shows_it(tydzen, database, monkeypatch):
    for words in (("add", "-", "--languages", "be"), ("show", "-"), ("erase", "-", "--yes")):
        typing(monkeypatch, "ann@reader.test\n")
        assert tydzen("subscriber", *words)[0] == 0
    assert reader(database, "ann@reader.test") is None


@ON_SQLITE
@pytest.mark.parametrize(
    ("text", "said"), [("", "nothing came on stdin"), ("a@b.test\nx@y.test\n", "2 lines came on stdin")]
)
def test_stdin_with_another_number_of_addresses_than_one_adds_nobody(tydzen, database, monkeypatch, text, said):
    typing(monkeypatch, text)
    code, _, err = tydzen("subscriber", "add", "-", "--languages", "be")
    assert code == 2
    assert said in err
    assert reader(database, "a@b.test") is None


@ON_SQLITE
def test_a_revealed_address_comes_as_json_too(tydzen):
    added = answer(tydzen, "subscriber", "add", "ann@reader.test", "--languages", "be")
    assert answer(tydzen, "subscriber", "reveal", added["id"]) == {"id": added["id"], "address": "ann@reader.test"}


@ON_SQLITE
def test_a_reader_is_erased_only_with_a_yes(tydzen, database):
    tydzen("subscriber", "add", "ann@reader.test", "--languages", "be")
    code, _, err = tydzen("subscriber", "erase", "ann@reader.test")
    assert code == 2
    assert "--yes" in err
    assert reader(database, "ann@reader.test")


@ON_SQLITE
@pytest.mark.parametrize("reason", [reason.value for reason in SuppressionReason])
def test_a_reason_of_a_suppression_can_be_said(tydzen, reason):
    assert answer(tydzen, "subscriber", "suppress", "ann@reader.test", "--reason", reason)["changed"]
    assert answer(tydzen, "subscriber", "unsuppress", "ann@reader.test")["reason"] == reason
    assert tydzen("subscriber", "unsuppress", "ann@reader.test")[0] == 4


@ON_SQLITE
def test_whatever_goes_wrong_the_address_is_not_repeated(tydzen):
    typed = canary("typed")
    wrong = [
        (4, "show", typed), (4, "set", typed, "--languages", "be"), (4, "erase", typed, "--yes"), (4, "unsuppress", typed),
        (2, "add", typed, "--languages", "xx"), (2, "add", typed, "--languages", typed), (2, "add", typed),
        (2, "add", typed, typed, "--languages", "be"), (2, "suppress", typed, "--reason", typed), (2, "show", f"{typed}@"),
        (2, "export", "--status", typed), (2, "import", typed), (2, typed), (4, "reveal", typed), (2, "show", typed, f"--{typed}"),
    ]  # fmt: skip
    for code, *words in wrong:
        found, out, err = tydzen("subscriber", *words)
        assert found == code, (words, err)
        assert_no_trace([typed], text=out + err)
    assert tydzen("subscriber", "add", typed, "--languages", "be")[0] == 0
    for words in (("add", typed, "--languages", "en"), ("set", typed, "--languages", typed)):
        found, out, err = tydzen("subscriber", *words)
        assert found in {2, 5}
        assert_no_trace([typed], text=out + err)


@ON_SQLITE
def test_words_of_consent_are_shown_as_they_are(tydzen):
    tydzen("subscriber", "add", "ann@reader.test", "--languages", "be", "--consent", "[bold]form[/x] <b>")
    assert "[bold]form[/x] <b>" in tydzen("subscriber", "show", "ann@reader.test")[1]
