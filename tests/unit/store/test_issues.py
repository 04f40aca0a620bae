import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from service.domain.content import Article, Asset, Text, TextStatus, Trend
from service.domain.errors import NotFoundError
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.store import issues as store
from service.store.tables import mailings
from tests.unit.editorial.samples import PNG, WEEK, issue
from tests.unit.store.statements import counted

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(hours=1)


@pytest.fixture
def saved(database):
    with database.begin() as session:
        assert store.save(session, issue(), NOW)
    return database


def with_text(found, slug, language, **changes):
    articles = []
    for article in found.articles:
        if article.slug == slug:
            texts = dict(article.texts)
            texts[language] = replace(texts.get(language) or Text(language, "", "", ""), **changes)
            articles.append(replace(article, texts=texts))
        else:
            articles.append(article)
    return replace(found, articles=tuple(articles))


def add_mailing(session, state, kind="production"):
    values = {"kind": kind, "state": state, "audience": "all", "actor": "test", "created_at": 0, "excluded": {}}
    session.execute(mailings.insert().values(issue_id=store.issue_id(session, WEEK), **values))


def test_what_is_saved_is_loaded(saved):
    with saved.read() as session:
        assert store.load(session, WEEK) == issue()


def test_an_article_keeps_the_slugs_it_had_before(saved):
    first, *others = issue().articles
    renamed = replace(issue(), articles=(replace(first, aliases=("first-name", "second")), *others))
    for written in (renamed, issue()):
        with saved.begin() as session:
            assert store.save(session, written, LATER)
        with saved.read() as session:
            assert store.load(session, WEEK) == written


def test_an_unknown_week_is_not_found_and_the_message_says_where_to_look(saved):
    with saved.read() as session:
        for ask in (store.load, store.issue_id):
            with pytest.raises(NotFoundError, match="tydzen issue list"):
                ask(session, Week(2019, 23))
        assert store.find(session, Week(2019, 23)) is None
        assert store.sending_state(session, Week(2019, 23)) is None


def test_saving_the_same_twice_writes_nothing(saved):
    with saved.begin() as session, counted(saved) as statements:
        assert not store.save(session, issue(), LATER)
    assert all(statement.startswith("SELECT") for statement in statements)
    with saved.read() as session:
        assert len(store.history(session, WEEK, "alliances", "en")) == 1


def test_a_changed_text_gets_a_new_revision_and_the_others_none(saved):
    with saved.begin() as session:
        assert store.save(session, with_text(issue(), "alliances", "en", body="New."), LATER)
    with saved.read() as session:
        history = store.history(session, WEEK, "alliances", "en")
        assert [revision.number for revision in history] == [2, 1]
        assert [revision.made_at for revision in history] == [LATER, NOW]
        assert len(store.history(session, WEEK, "alliances", "ru")) == 1
        assert store.load(session, WEEK).articles[0].texts["en"].body == "New."


def test_a_changed_status_is_no_new_revision(saved):
    with saved.begin() as session:
        assert store.save(session, with_text(issue(), "alliances", "en", status=TextStatus.DRAFT), LATER)
    with saved.read() as session:
        assert len(store.history(session, WEEK, "alliances", "en")) == 1
        assert store.load(session, WEEK).articles[0].texts["en"].status is TextStatus.DRAFT


def test_articles_are_added_changed_moved_and_removed(saved):
    first, second = issue().articles
    third = Article("third", "west", "en", Trend.WORSE, (), {"en": Text("en", "T", "L", "B")})
    orders = [(second, first), (third, first), (replace(first, trend=None, authors=("B.",)),), (first, second, third)]
    with saved.begin() as session:
        for articles in orders:
            wanted = replace(issue(), articles=articles)
            assert store.save(session, wanted, LATER)
            assert store.load(session, WEEK) == wanted


def test_images_are_added_changed_and_removed(saved):
    with saved.begin() as session:
        for assets in ((), (Asset("a.png", "image/png", PNG), Asset("b.png", "image/png", PNG)), issue().assets):
            wanted = replace(issue(), assets=assets)
            assert store.save(session, wanted, LATER)
            assert store.load(session, WEEK) == wanted


def test_a_removed_text_is_gone(saved):
    first, second = issue().articles
    wanted = replace(issue(), articles=(replace(first, texts={"en": first.texts["en"]}), second))
    with saved.begin() as session:
        assert store.save(session, wanted, LATER)
        assert store.load(session, WEEK) == wanted


def test_approving_turns_ready_texts_into_approved_ones_and_no_others(saved):
    with saved.begin() as session:
        assert store.approve(session, WEEK, "be", LATER) == []
        assert store.approve(session, WEEK, None, LATER) == [("alliances", "ru")]
        assert store.approve(session, WEEK, None, LATER) == []
        first, second = store.load(session, WEEK).articles
    assert first.texts["ru"].status is TextStatus.APPROVED
    assert second.texts["be"].status is TextStatus.DRAFT


def test_approving_an_unknown_week_is_not_found(saved):
    with saved.begin() as session, pytest.raises(NotFoundError):
        store.approve(session, Week(2019, 23), None, LATER)


def test_the_state_of_sending_is_that_of_the_production_mailing(saved):
    with saved.begin() as session:
        add_mailing(session, "sent", kind="test")
        assert store.sending_state(session, WEEK) is None
        add_mailing(session, "sending")
        assert store.sending_state(session, WEEK) is MailingState.SENDING


def test_the_list_is_newest_first_with_counts(saved):
    stale = with_text(issue(), "alliances", "ru", translated_from="0" * 64)
    with saved.begin() as session:
        store.save(session, stale, LATER)
        store.save(session, replace(issue(), week=Week(2019, 23), articles=()), NOW)
        add_mailing(session, "paused")
        newest, older = store.overview(session)
    assert (newest.week, newest.articles, newest.texts) == (Week(2019, 23), 0, {})
    assert (older.week, older.articles, older.stale, older.mailing) == (WEEK, 2, 1, MailingState.PAUSED)
    assert (older.sendable, newest.sendable) == (1, 0)
    assert older.changed_at == LATER
    assert older.texts == {
        "be": {TextStatus.DRAFT: 1},
        "en": {TextStatus.APPROVED: 1},
        "ru": {TextStatus.READY: 1},
    }


def test_stale_in_the_list_is_what_stale_is_of_an_article(saved):
    hashes = [None, issue().articles[0].texts["en"].content_hash, "0" * 64]
    with saved.begin() as session:
        for origin in hashes:
            wanted = with_text(issue(), "alliances", "ru", translated_from=origin)
            store.save(session, wanted, LATER)
            assert store.overview(session)[0].stale == wanted.articles[0].stale("ru")


def test_loading_and_listing_take_as_many_statements_for_many_as_for_one(database):
    def statements_for(ask):
        with database.read() as session, counted(database) as statements:
            ask(session)
        return len(statements)

    text = Text("en", "T", "L", "B")
    for week, count in ((22, 1), (23, 40)):
        articles = tuple(Article(f"a{number}", "west", "en", texts={"en": text}) for number in range(count))
        with database.begin() as session:
            store.save(session, replace(issue(), week=Week(2019, week), articles=articles), NOW)
        assert statements_for(lambda session: store.load(session, Week(2019, week))) == 4  # noqa: B023
        assert statements_for(store.overview) == 3


def test_a_new_issue_takes_a_fixed_number_of_statements(database):
    def statements_for(week, count):
        text = Text("en", "T", "L", "B")
        articles = tuple(Article(f"a{number}", "west", "en", texts={"en": text}) for number in range(count))
        with database.begin() as session, counted(database) as statements:
            store.save(session, replace(issue(), week=Week(2019, week), articles=articles, assets=()), NOW)
        return len(statements)

    assert statements_for(24, 2) == statements_for(25, 40)


def test_removing_an_article_removes_its_texts_and_revisions(saved):
    with saved.begin() as session:
        store.save(session, replace(issue(), articles=()), LATER)
        for table in ("articles", "texts", "revisions"):
            assert session.scalar(sa.text(f"SELECT count(*) FROM {table}")) == 0
