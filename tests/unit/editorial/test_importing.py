import datetime as dt

import pytest
import sqlalchemy as sa

from service.domain.content import TextStatus
from service.domain.errors import ConflictError, NotFoundError
from service.editorial.importing import import_issue
from service.editorial.issue_writing import export_issue
from service.editorial.problems import BadFilesError
from service.editorial.publishing import import_publication
from service.store import audit, issues
from service.store import publication as publication_store
from service.store.tables import audit as audit_table
from service.store.tables import mailings
from tests.unit.editorial.samples import (
    ALLIANCES_EN,
    ALLIANCES_RU,
    ISSUE_TOML,
    PUBLICATION_TOML,
    WEEK,
    publication,
    write_issue,
    write_publication,
)

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)


@pytest.fixture
def folder(tmp_path):
    return write_issue(tmp_path)


@pytest.fixture
def edited(database):
    with database.begin() as session:
        publication_store.save(session, publication(), NOW)
    return database


def run(database, folder, **options):
    with database.begin() as session:
        return import_issue(session, folder, actor="test", now=NOW, **options)


def text(database, slug, language):
    with database.read() as session:
        articles = issues.load(session, WEEK).articles
    return next(article.texts[language] for article in articles if article.slug == slug)


def stale(database):
    with database.read() as session:
        return issues.load(session, WEEK).articles[0].stale("ru")


def audited(database):
    with database.read() as session:
        assert audit.first_broken(session) is None
        return [row.action for row in session.execute(sa.select(audit_table).order_by(audit_table.c.id))]


def test_importing_twice_changes_nothing_the_second_time(edited, folder):
    first, second = run(edited, folder), run(edited, folder)
    assert first.new
    assert set(first.added) == {"issue.toml", "alliances.en.md", "alliances.ru.md", "credits.be.md", "bridge.png"}
    assert second.unchanged
    assert audited(edited) == ["issue.import"]


def test_a_report_names_what_was_added_changed_and_removed(edited, folder):
    run(edited, folder)
    (folder / "issue.toml").write_text(ISSUE_TOML.replace('trend = "same"', 'trend = "worse"'), "utf-8")
    (folder / "alliances.be.md").write_text(ALLIANCES_RU, "utf-8")
    (folder / "alliances.ru.md").unlink()
    report = run(edited, folder)
    assert report.added == ("alliances.be.md",)
    assert report.changed == ("issue.toml",)
    assert report.removed == ("alliances.ru.md",)


def test_one_wrong_file_changes_nothing(edited, folder):
    run(edited, folder)
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace("28 May", "29 May"), "utf-8")
    (folder / "issue.toml").write_text(ISSUE_TOML.replace('"same"', '"bad"'), "utf-8")
    with pytest.raises(BadFilesError):
        run(edited, folder)
    assert "28 May" in text(edited, "alliances", "en").body


def test_a_dry_run_reports_and_writes_nothing(edited, folder):
    assert run(edited, folder, dry_run=True).new
    assert run(edited, folder).new
    assert audited(edited) == ["issue.import"]


def test_an_issue_without_a_publication_names_the_command(database, folder):
    with pytest.raises(NotFoundError, match="tydzen publication import"):
        run(database, folder)


@pytest.mark.parametrize(
    ("state", "refused"),
    [
        ("draft", None),
        ("scheduled", None),
        ("planning", "is just being planned; wait a moment until it is, then pause it"),
        ("sending", "is being sent; pause it first"),
        ("paused", None),
        ("sent", None),
        ("cancelled", None),
    ],
)
def test_an_issue_that_is_being_sent_is_left_alone(edited, folder, state, refused):
    run(edited, folder)
    with edited.begin() as session:
        values = {"kind": "production", "state": state, "audience": "all", "actor": "test"}
        values |= {"created_at": 0, "excluded": {}, "issue_id": issues.issue_id(session, WEEK)}
        session.execute(mailings.insert().values(values))
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace("28 May", "29 May"), "utf-8")
    if refused:
        with pytest.raises(ConflictError, match=refused):
            run(edited, folder)
    else:
        assert run(edited, folder).changed == ("alliances.en.md",)


def test_a_ready_text_that_was_approved_stays_approved_until_it_changes(edited, folder):
    run(edited, folder)
    with edited.begin() as session:
        issues.approve(session, WEEK, "ru", NOW)
    assert run(edited, folder).unchanged
    assert text(edited, "alliances", "ru").status is TextStatus.APPROVED
    (folder / "alliances.ru.md").write_text(ALLIANCES_RU.replace("28 мая", "29 мая"), "utf-8")
    run(edited, folder)
    assert text(edited, "alliances", "ru").status is TextStatus.READY


def test_a_draft_takes_an_approval_back(edited, folder):
    run(edited, folder)
    with edited.begin() as session:
        issues.approve(session, WEEK, "ru", NOW)
    (folder / "alliances.ru.md").write_text(ALLIANCES_RU.replace("status: ready", "status: draft"), "utf-8")
    run(edited, folder)
    assert text(edited, "alliances", "ru").status is TextStatus.DRAFT


def test_a_translation_is_taken_as_made_from_the_source_beside_it(edited, folder):
    run(edited, folder)
    assert text(edited, "alliances", "ru").translated_from == text(edited, "alliances", "en").content_hash
    assert text(edited, "alliances", "en").translated_from is None
    assert not stale(edited)


def test_a_translation_turns_stale_when_only_its_source_changes(edited, folder):
    run(edited, folder)
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace("28 May", "29 May"), "utf-8")
    assert run(edited, folder).stale == ("alliances.ru.md",)
    assert stale(edited)
    assert run(edited, folder).unchanged


def test_a_stale_translation_that_is_revised_is_fresh_again(edited, folder):
    run(edited, folder)
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace("28 May", "29 May"), "utf-8")
    run(edited, folder)
    (folder / "alliances.ru.md").write_text(ALLIANCES_RU.replace("28 мая", "29 мая"), "utf-8")
    assert run(edited, folder).stale == ()
    assert not stale(edited)


def test_an_exported_translation_keeps_its_source_until_that_line_goes(edited, folder):
    run(edited, folder)
    with edited.read() as session:
        export_issue(issues.load(session, WEEK), folder, replace=True)
    assert run(edited, folder).unchanged
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace("28 May", "29 May"), "utf-8")
    translation = (folder / "alliances.ru.md").read_text("utf-8").replace("28 мая", "29 мая")
    (folder / "alliances.ru.md").write_text(translation, "utf-8")
    assert run(edited, folder).stale == ("alliances.ru.md",)
    lines = [line for line in translation.split("\n") if not line.startswith("translated_from")]
    (folder / "alliances.ru.md").write_text("\n".join(lines).replace("29 мая", "29-го мая"), "utf-8")
    assert run(edited, folder).stale == ()


def test_a_translation_that_needs_no_change_is_fresh_again_by_naming_its_source(edited, folder):
    run(edited, folder)
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace("28 May", "29 May"), "utf-8")
    run(edited, folder)
    now = text(edited, "alliances", "en").content_hash
    named = ALLIANCES_RU.replace("status: ready", f"status: ready\ntranslated_from: {now[:12]}")
    (folder / "alliances.ru.md").write_text(named, "utf-8")
    assert run(edited, folder).stale == ()
    assert text(edited, "alliances", "ru").translated_from == now
    (folder / "alliances.en.md").write_text(ALLIANCES_EN.replace("28 May", "30 May"), "utf-8")
    assert run(edited, folder).stale == ("alliances.ru.md",)
    assert text(edited, "alliances", "ru").translated_from == now
    assert run(edited, folder).unchanged


def test_an_export_into_a_new_database_is_the_same_issue(edited, folder, tmp_path):
    run(edited, folder)
    with edited.begin() as session:
        before = issues.load(session, WEEK)
        exported = export_issue(before, tmp_path / "out").folder
        session.execute(sa.text("DELETE FROM issues"))
    run(edited, exported)
    with edited.read() as session:
        assert issues.load(session, WEEK) == before


def publish(database, path, **options):
    with database.begin() as session:
        return import_publication(session, path, actor="test", now=NOW, **options)


def test_a_publication_imported_twice_changes_nothing_the_second_time(database, tmp_path):
    path = write_publication(tmp_path)
    assert publish(database, path, dry_run=True).new
    assert publish(database, path).new
    assert publish(database, path).changed == ()
    assert audited(database) == ["publication.import"]


def test_a_changed_publication_says_which_fields(database, tmp_path):
    path = write_publication(tmp_path)
    publish(database, path)
    path.write_text(PUBLICATION_TOML.replace("Europe/Minsk", "Europe/Vilnius"), "utf-8")
    assert publish(database, path).changed == ("timezone",)


def test_a_changed_list_id_is_warned_about(database, tmp_path):
    path = write_publication(tmp_path)
    publish(database, path)
    path.write_text(PUBLICATION_TOML.replace('list_id = "weekly', 'list_id = "monthly'), "utf-8")
    report = publish(database, path)
    assert report.changed == ("list_id",)
    assert "should never change" in report.warnings[0]


def test_a_section_or_language_in_use_cannot_be_left_out(database, tmp_path, folder):
    path = write_publication(tmp_path)
    publish(database, path)
    run(database, folder)
    start = PUBLICATION_TOML.index('[[sections]]\nkey = "west"')
    path.write_text(PUBLICATION_TOML[:start] + PUBLICATION_TOML[PUBLICATION_TOML.index("[trend.worse]") :], "utf-8")
    with pytest.raises(ConflictError, match=r"section west, .* active_until"):
        publish(database, path)
    path.write_text(_without_russian(), "utf-8")
    with pytest.raises(ConflictError, match="language ru"):
        publish(database, path)


def _without_russian():
    import re

    lines = [line for line in PUBLICATION_TOML.split("\n") if not line.startswith("ru = ")]
    return re.sub(r', ru = "[^"]*"', "", "\n".join(lines)).replace(', "ru"]', "]")
