"""The editors' commands from end to end: what they print, where, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.store.tables import mailings
from tests.unit.editorial.samples import (
    ALLIANCES_EN,
    CREDITS_BE,
    ISSUE_TOML,
    PUBLICATION_TOML,
    write_issue,
    write_publication,
)

# What is said about wrong input is the same on both.
ON_SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)


@pytest.fixture
def files(tmp_path):
    write_publication(tmp_path)
    return write_issue(tmp_path)


@pytest.fixture
def imported(tydzen, files):
    assert tydzen("publication", "import", ".")[0] == 0
    assert tydzen("issue", "import", files)[0] == 0
    return files


def finish(folder):
    """Make the sample issue one that nothing stands against."""
    (folder / "credits.be.md").write_text(CREDITS_BE.replace("lead:", "status: ready\nlead:"), "utf-8")


def test_an_issue_from_its_files_to_a_preview(tydzen, files, tmp_path):
    finish(files)
    assert tydzen("publication", "import", tmp_path, "--dry-run") == (0, "", "publication weekly would be imported\n")
    assert tydzen("publication", "import", tmp_path) == (0, "", "publication weekly is imported\n")
    assert tydzen("publication", "import", tmp_path / "publication.toml") == (
        0,
        "",
        "publication weekly: nothing changed\n",
    )
    code, out, err = tydzen("issue", "import", files, "--dry-run")
    assert (code, out) == (0, "")
    assert "would be added: issue.toml" in err
    assert "added: issue.toml, alliances.en.md" in tydzen("issue", "import", files)[2]
    assert tydzen("issue", "import", files) == (0, "", "issue 2019-W22: nothing changed\n")
    assert tydzen("issue", "check", "2019-W22")[0] == 3
    assert "would be approved: alliances.ru, credits.be" in tydzen("issue", "approve", "2019-W22", "--dry-run")[2]
    assert "approved: credits.be" in tydzen("issue", "approve", "2019-W22", "--language", "be")[2]
    assert "approved: alliances.ru" in tydzen("issue", "approve", "2019-W22")[2]
    assert "no text waits" in tydzen("issue", "approve", "2019-W22")[2]
    code, out, err = tydzen("issue", "check", "2019-W22")
    assert code == 0
    assert "every article has an approved text" in out
    assert err == "issue 2019-W22: nothing stands against sending it\n"
    code, out, err = tydzen("issue", "preview", "2019-W22", "--chain", "be,ru", "--out", "mail.html")
    assert (code, out) == (0, "")
    html = (tmp_path / "mail.html").read_text("utf-8")
    assert '<html lang="be"' in html
    assert "Крэдыты без умоў" in html
    assert "Крэдыты без умоў" in (tmp_path / "mail.txt").read_text("utf-8")
    assert tydzen("issue", "list")[1].split()[:3] == ["week", "status", "articles"]


def test_a_preview_on_stdout_carries_its_images(tydzen, imported):
    code, out, err = tydzen("issue", "preview", "2019-W22", "--chain", "en")
    assert code == 0
    assert "data:image/png;base64," in out
    assert "cid:" not in out
    assert "subject: Alliances of the week" in err


def test_drafts_are_previewed_when_asked_for(tydzen, imported):
    code, _, err = tydzen("issue", "preview", "2019-W22", "--chain", "be")
    assert (code, err) == (
        3,
        "issue 2019-W22 has no edition for be: nothing is approved; add --drafts to see what is written\n",
    )
    assert "Крэдыты" in tydzen("issue", "preview", "2019-W22", "--chain", "be", "--drafts")[1]


def test_an_exported_issue_is_imported_without_a_change(tydzen, imported, tmp_path):
    code, out, err = tydzen("issue", "export", "2019-W22", tmp_path / "out")
    assert (code, out) == (0, "")
    assert "written: issue.toml" in err
    assert tydzen("issue", "import", tmp_path / "out" / "2019-W22") == (0, "", "issue 2019-W22: nothing changed\n")
    assert "nothing changed" in tydzen("issue", "export", "2019-W22", tmp_path / "out")[2]


JSON = [
    ("publication", "import", "."),
    ("publication", "import", ".", "--dry-run"),
    ("publication", "show"),
    ("issue", "import", "2019-W22"),
    ("issue", "export", "2019-W22", "out", "--dry-run"),
    ("issue", "list"),
    ("issue", "show", "2019-W22"),
    ("issue", "check", "2019-W22"),
    ("issue", "preview", "2019-W22", "--chain", "en"),
    ("issue", "preview", "2019-W22", "--chain", "en", "--out", "p.html"),
    ("issue", "approve", "2019-W22", "--dry-run"),
]


@ON_SQLITE
@pytest.mark.parametrize("command", JSON, ids=" ".join)
def test_each_command_prints_one_json_value(tydzen, imported, command):
    _, out, _ = tydzen(*command, "--json")
    json.loads(out)
    assert out.count("\n") == 1


def test_the_json_of_a_check_names_language_and_article(tydzen, imported):
    found = json.loads(tydzen("issue", "check", "2019-W22", "--chain", "be,ru", "--chain", "en", "--json")[1])
    assert (found["blocked"], found["editions"]) == (True, ["be,ru", "en"])
    assert found["checks"]["approved"] == {"be,ru": "blocked", "en": "blocked"}
    assert found["findings"][0] == {
        "rule": "approved",
        "blocks": True,
        "article": "credits",
        "language": None,
        "line": None,
        "message": "no text is approved; approve one, or take the article out of issue.toml",
        "editions": ["be,ru", "en"],
    }


def test_the_json_of_the_list_counts_texts(tydzen, imported):
    summary = json.loads(tydzen("issue", "list", "--json")[1])
    assert summary["week"] == "2019-W22"
    assert (summary["status"], summary["articles"], summary["sendable"]) == ("draft", 2, 1)
    assert summary["texts"] == {"be": {"draft": 1}, "en": {"approved": 1}, "ru": {"ready": 1}}


WRONG = [
    (("issue", "show", "2019-W23"), 4, "there is no issue 2019-W23; tydzen issue list shows those there are"),
    (("issue", "check", "2019-W23"), 4, "there is no issue 2019-W23"),
    (("issue", "approve", "2019-W23"), 4, "there is no issue 2019-W23"),
    (("issue", "export", "2019-W23", "out"), 4, "there is no issue 2019-W23"),
    (("issue", "preview", "2019-W23", "--chain", "en"), 4, "there is no issue 2019-W23"),
    (("issue", "show", "last"), 2, 'week "last" is not an ISO week such as 2019-W22'),
    (("issue", "show", "2019-W60"), 2, "does not exist"),
    (("issue", "show", ""), 2, "is not an ISO week"),
    (("issue", "import", "nowhere"), 4, "nowhere: there is no such folder"),
    (("issue", "import", "publication.toml"), 4, "there is no such folder"),
    (("issue", "import", "."), 2, "issue.toml: is missing"),
    (("issue", "export", "2019-W22", "publication.toml"), 2, "cannot be written"),
    (("issue", "export", "2019-W22", "2019-W22"), 5, "say --replace"),
    (("issue", "preview", "2019-W22", "--chain", "by"), 2, "Belarusian is be"),
    (("issue", "preview", "2019-W22", "--chain", ""), 2, "at least one language"),
    (("issue", "preview", "2019-W22", "--chain", "en,en"), 2, "twice"),
    (("issue", "preview", "2019-W22"), 2, "--chain"),
    (("issue", "preview", "2019-W22", "--chain", "en", "--out", "publication.toml/x"), 2, "cannot be written"),
    (("issue", "preview", "2019-W22", "--chain", "en", "--out", "2019-W22"), 2, "cannot be written"),
    (("issue", "check", "2019-W22", "--chain", "de"), 2, 'language "de" is not one of'),
    (("issue", "approve", "2019-W22", "--language", "by"), 2, "Belarusian is be"),
    (("publication", "import", "nowhere"), 2, "nowhere: is missing"),
    (("publication", "import", "2019-W22/issue.toml"), 2, '"week" is not known here'),
    (("publication", "import", "2019-W22/bridge.png"), 2, "is not UTF-8"),
]


@ON_SQLITE
@pytest.mark.parametrize(("command", "code", "message"), WRONG, ids=[" ".join(command) for command, _, _ in WRONG])
def test_wrong_input_is_answered_with_its_code_and_a_message_on_stderr(tydzen, imported, command, code, message):
    ended, out, err = tydzen(*command)
    assert (ended, out) == (code, "")
    assert message in err


@pytest.mark.parametrize("command", [("issue", "list"), ("publication", "show"), ("issue", "check", "2019-W22")])
def test_an_empty_installation_says_what_to_import(tydzen, command):
    _, out, err = tydzen(*command)
    assert out == ""
    assert "import" in err


def test_every_error_of_every_file_is_printed_on_a_line_of_its_own(tydzen, imported):
    (imported / "issue.toml").write_text(ISSUE_TOML.replace('"same"', '"bad"'), "utf-8")
    (imported / "alliances.en.md").write_text(ALLIANCES_EN.replace("### What", "# What"), "utf-8")
    code, out, err = tydzen("issue", "import", "2019-W22")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        '2019-W22/alliances.en.md:9: heading "# …" stands at or above the article\'s own; begin with ### for the first level',
        '2019-W22/issue.toml:8: trend "bad" is not on the scale (worse, same, better)',
    ]


def test_the_folder_may_be_the_current_one(tydzen, imported, monkeypatch):
    monkeypatch.chdir(imported)
    assert tydzen("issue", "import", ".") == (0, "", "issue 2019-W22: nothing changed\n")


def test_an_issue_that_is_being_sent_is_a_conflict(tydzen, imported, database):
    with database.begin() as session:
        values = {"kind": "production", "state": "sending", "audience": "all", "actor": "test", "issue_id": 1}
        session.execute(mailings.insert().values(created_at=0, excluded={}, **values))
    (imported / "alliances.en.md").write_text(ALLIANCES_EN.replace("28 May", "29 May"), "utf-8")
    for command in (("issue", "import", "2019-W22"), ("issue", "approve", "2019-W22")):
        code, out, err = tydzen(*command)
        assert (code, out) == (5, "")
        assert "is being sent; pause it first" in err
    assert json.loads(tydzen("issue", "show", "2019-W22", "--json")[1])["mailing"] == "sending"


def test_no_command_prints_an_operators_address(tydzen, files, tmp_path):
    (tmp_path / "publication.toml").write_text(PUBLICATION_TOML.replace("operator@", "canary@"), "utf-8")
    for command in (("publication", "import", "."), ("publication", "show"), ("publication", "show", "--json")):
        code, out, err = tydzen(*command)
        assert code == 0
        assert "canary" not in out + err


@ON_SQLITE
def test_the_examples_are_ready_to_send(tydzen):
    examples = Path(__file__).resolve().parents[2] / "examples"
    assert tydzen("publication", "import", examples)[0] == 0
    folders = sorted((examples / "issues").iterdir())
    assert folders
    for folder in folders:
        assert tydzen("issue", "import", folder)[0] == 0
        _, out, err = tydzen("issue", "check", folder.name, "--json")
        assert [one for one in json.loads(out)["findings"] if one["blocks"]] == []
        assert err == f"issue {folder.name}: nothing stands against sending it\n"
