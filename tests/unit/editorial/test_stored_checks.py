import datetime as dt
import uuid
from dataclasses import replace

import pytest

from service.domain.chains import Chain
from service.domain.errors import ConflictError, InvalidInputError, NotFoundError
from service.domain.weeks import Week
from service.editorial.approving import approve_issue
from service.editorial.checks import blockers, check_issue
from service.editorial.previewing import preview_issue
from service.store import issues, readers
from service.store import publication as publication_store
from service.store.tables import mailings, subscribers
from tests.unit.delivery.parts import composed
from tests.unit.editorial.samples import WEEK, issue, publication

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)


@pytest.fixture
def stored(database):
    with database.begin() as session:
        publication_store.save(session, publication(), NOW)
        issues.save(session, issue(), NOW)
    return database


def add_readers(session, chain, count, status="active"):
    for _ in range(count):
        row = {
            "id": uuid.uuid4().bytes,
            "address_hash": uuid.uuid4().bytes * 2,
            "sealed": b"",
            "joined_week": "2019-W01",
        }
        session.execute(subscribers.insert().values(chain=chain, status=status, **row))


def test_readers_are_counted_by_chain_the_most_read_first(stored):
    with stored.begin() as session:
        add_readers(session, "be", 1)
        add_readers(session, "be,ru", 3)
        add_readers(session, "en", 2, status="unsubscribed")
        assert readers.by_chain(session) == {Chain(("be", "ru")): 3, Chain(("be",)): 1}
        assert list(readers.by_chain(session)) == [Chain(("be", "ru")), Chain(("be",))]


def test_the_editions_with_readers_are_checked_and_all_before_the_first_reader(stored):
    with stored.begin() as session:
        assert len(check_issue(session, WEEK, composed, base_url=None).editions) == 15
        add_readers(session, "be,ru", 1)
        assert check_issue(session, WEEK, composed, base_url=None).editions == (Chain(("be", "ru")),)
        wanted = (Chain(("en",)),)
        assert check_issue(session, WEEK, composed, base_url=None, chains=wanted).editions == wanted


def test_what_blocks_is_a_line_each_that_names_the_article(stored):
    with stored.read() as session:
        assert [str(one) for one in blockers(session, "2019-W22", composed, base_url=None)] == [
            "credits: no text is approved; approve one, or take the article out of issue.toml"
        ]
        with pytest.raises(NotFoundError):
            blockers(session, "2019-W23", composed, base_url=None)


def test_a_permalink_that_an_earlier_issue_has_used_advises(stored):
    again, earlier = Week.parse("2019-W23"), Week.parse("2019-W21")
    with stored.begin() as session:
        issues.save(session, replace(issue(), week=earlier), NOW)
        moved = issue().articles[1]
        articles = (issue().articles[0], replace(moved, section="russia" if moved.section != "russia" else "west"))
        issues.save(session, replace(issue(), week=again, articles=articles), NOW)

        def told(week):
            found = check_issue(session, week, composed, base_url=None, chains=(Chain(("en",)),)).findings
            return [(str(one), one.blocks) for one in found if one.rule == "permalink"]

        slug = articles[0].slug
        message = (
            "its permalink is that of an article of 2019-W22, whose links will lead to this one; choose another slug"
        )
        assert told(again) == [(f"{slug}: {message}", False)]
        assert [text.partition(":")[0] for text, _ in told(WEEK)] == [one.slug for one in issue().articles]
        assert told(earlier) == []


def test_a_preview_leads_below_the_base_url_that_is_set(stored):
    with stored.read() as session:
        assert "https://weekly.example.org/en/" in preview_issue(session, WEEK, "en", base_url=None).html
        html = preview_issue(session, WEEK, "en", base_url="https://other.example.org").html
    assert "https://other.example.org/en/" in html
    assert "https://weekly.example.org/en/" not in html


def test_approving_is_refused_while_the_issue_is_being_sent(stored):
    with stored.begin() as session:
        values = {"kind": "production", "state": "planning", "audience": "all", "actor": "test", "excluded": {}}
        session.execute(mailings.insert().values(issue_id=issues.issue_id(session, WEEK), created_at=0, **values))
    with stored.begin() as session, pytest.raises(ConflictError):
        approve_issue(session, WEEK, language=None, actor="test", now=NOW)


def test_approving_reports_what_is_still_a_draft(stored):
    with stored.begin() as session:
        report = approve_issue(session, WEEK, language=None, actor="test", now=NOW)
    assert (report.approved, report.drafts) == ((("alliances", "ru"),), (("credits", "be"),))


def test_approving_a_language_or_week_that_is_not_there_is_an_error(stored):
    with stored.begin() as session:
        with pytest.raises(InvalidInputError, match="Belarusian is be"):
            approve_issue(session, WEEK, language="by", actor="test", now=NOW)
        with pytest.raises(NotFoundError):
            approve_issue(session, Week(2019, 23), language=None, actor="test", now=NOW)
