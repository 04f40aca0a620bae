"""The one reminder of a sign-up, and the newest issue for who asked for it."""

from dataclasses import replace

import pytest

from service.audience.reminding import remind
from service.audience.signup import answer, sign_up
from service.domain.chains import Chain, every_chain
from service.domain.content import Text, TextStatus, edition
from service.domain.mailing import MailingState
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.queue import ANSWER_SIGNUP
from service.store import confirmations, issues, mailings, releases, subscribers
from service.store.publication import load as load_publication
from service.store.tables import batches, deliveries, notices
from service.store.tables import confirmations as table
from service.store.tables import mailings as mailing_table
from tests.factories import save_issue, save_publication, weekly_issue
from tests.unit.audience.test_signup import ADDRESS, DAY, HOUR, LINKS, NOW, Form


@pytest.fixture
def form(database, tmp_path):
    return Form(database, tmp_path)


def forgotten(form, now):
    with form.database.read() as session:
        return confirmations.forgotten(session, now)


def reminded(form, now):
    """Remind of all that is due, as the sweep and a worker do; how many were mailed."""
    done = 0
    for confirmation in forgotten(form, now):
        with form.database.begin() as session:
            done += remind(session, form.bell, confirmation, now=now)
    return done


def kinds(form):
    return [row.kind for row in form.rows(notices)]


def test_who_has_not_confirmed_is_reminded_once_a_day_later_with_the_same_link(form):
    token = form.sign_up()
    assert [reminded(form, NOW + hours * HOUR) for hours in (0, 23, 24, 25, 47)] == [0, 0, 1, 0, 0]
    first, second = form.rows(notices)
    assert (second.kind, second.language) == ("reminder", "be")
    assert second.parameters["links"] == first.parameters["links"]
    with form.database.read() as session:
        assert session.sealer.open(second.seal_id, second.sealed) == ADDRESS
    form.confirm(token, NOW + 30 * HOUR)
    assert form.reader().status is SubscriberStatus.ACTIVE


def test_nobody_is_reminded_whose_link_is_about_to_end(form):
    form.sign_up()
    assert forgotten(form, NOW + 49 * HOUR) == []


def test_who_has_confirmed_or_signed_up_again_is_not_reminded(form):
    form.confirm(form.sign_up())
    form.sign_up("bob@reader.test")
    form.sign_up("bob@reader.test", now=NOW + DAY)
    assert reminded(form, NOW + 25 * HOUR) == 0
    assert "reminder" not in kinds(form)


def test_a_reader_who_was_there_before_is_not_reminded(form):
    form.active(status=SubscriberStatus.UNSUBSCRIBED)
    form.sign_up()
    assert reminded(form, NOW + 25 * HOUR) == 0


def test_two_workers_remind_once(form):
    form.sign_up()
    (due,) = forgotten(form, NOW + 25 * HOUR)
    for expected in (True, False):
        with form.database.begin() as session:
            assert remind(session, form.bell, due, now=NOW + 25 * HOUR) is expected


def test_a_reminder_is_one_of_the_three_mails_and_keeps_others_off_for_the_day(form):
    form.sign_up()
    reminded(form, NOW + 25 * HOUR)
    assert not form.sign_up(now=NOW + 26 * HOUR)
    assert form.sign_up(now=NOW + 2 * DAY)
    assert not form.sign_up(now=NOW + 3 * DAY)
    form.lapse(NOW + 9 * DAY)
    assert not form.sign_up(now=NOW + 9 * DAY)
    assert {(row.day, row.reminded_day) for row in form.rows(table)} == {(None, ""), (None, None)}


# The newest issue


@pytest.fixture
def published(form):
    with form.database.begin() as session:
        save_publication(session)
        save_issue(session, "2019-W22")
        made = mailings.create(
            session,
            "2019-W22",
            state=MailingState.SENT,
            rate=None,
            audience="all",
            actor="test",
            release_at=None,
            now=NOW,
        )
        session.execute(mailing_table.update().values(slices=2, planned_slices=2))
    return made


def signed_up(form, *, newest, languages=("be", "en")):
    with form.database.begin() as session:
        sign_up(session, form.bell, ADDRESS, Chain(languages), now=NOW, newest=newest)
    with form.database.begin() as session:
        assert answer(session, form.bell, form.bell.heard(ANSWER_SIGNUP)[-1], now=NOW)
    row_id, hour = form.rows(notices)[-1].parameters["links"]["confirm"]
    return LINKS.sign(bytes.fromhex(row_id), hour)


@pytest.mark.parametrize("newest", [True, False])
def test_the_newest_issue_comes_with_the_welcome_to_who_ticked_the_box(form, published, newest):
    token = signed_up(form, newest=newest)
    for _ in range(2):
        form.confirm(token)
    assert kinds(form) == ["confirm", *(["newest-issue"] if newest else []), "welcome"]
    if newest:
        (issue,) = [row for row in form.rows(notices) if row.kind == "newest-issue"]
        assert issue.parameters["week"] == "2019-W22"
        assert set(issue.parameters["links"]) == {"preferences", "unsubscribe"}


def test_nobody_is_promised_an_issue_that_has_nothing_in_their_languages(form, published):
    form.confirm(signed_up(form, newest=True, languages=("be", "ru")))
    assert kinds(form) == ["confirm", "welcome"]


def test_an_issue_has_something_for_a_chain_where_it_has_an_edition(form, published):
    half = replace(weekly_issue("2019-W22").articles[0], slug="half")
    draft = {code: Text(code, "A title", "A lead.", "A body.", TextStatus.READY) for code in ("be", "en")}
    with form.database.begin() as session:
        issue = weekly_issue("2019-W22")
        issues.save(session, replace(issue, articles=(*issue.articles, replace(half, texts=draft))), NOW)
    with form.database.read() as session:
        week = Week.parse("2019-W22")
        publication, issue = load_publication(session), issues.load(session, week)
        readable = releases.languages(session, week)
        assert readable == {"en"}
        for chain in every_chain(publication.languages):
            assert (chain.shown(readable) is None) == (edition(publication, issue, chain) is None), chain
        assert releases.languages(session, week.shifted(1)) == frozenset()


def test_nobody_gets_an_issue_whose_mailing_is_still_being_planned(form, published):
    with form.database.begin() as session:
        session.execute(mailing_table.update().values(planned_slices=1))
    form.confirm(signed_up(form, newest=True))
    assert kinds(form) == ["confirm", "welcome"]


def test_nobody_gets_an_issue_that_its_mailing_has_for_them_already(form, published):
    form.active(status=SubscriberStatus.UNSUBSCRIBED)
    with form.database.begin() as session:
        reader = subscribers.find(session, ADDRESS)
        values = {"mailing_id": published, "subscriber_id": reader.id, "batch_id": 1, "state": 2}
        session.execute(batches.insert().values(id=1, mailing_id=published, chain="be", open=False))
        session.execute(deliveries.insert().values(values))
    form.confirm(signed_up(form, newest=True))
    assert kinds(form) == ["confirm", "welcome"]


def test_an_issue_of_which_nothing_is_approved_any_more_is_named_to_nobody(form, published):
    with form.database.begin() as session:
        save_issue(session, "2019-W22", TextStatus.READY)
    form.confirm(signed_up(form, newest=True))
    assert kinds(form) == ["confirm", "welcome"]
    assert form.rows(notices)[-1].parameters["week"] is None


def test_the_newest_issue_is_the_newest_that_can_be_read(form, published):
    with form.database.begin() as session:
        save_issue(session, "2019-W23", TextStatus.READY)
        begun = {"rate": None, "audience": "all", "actor": "test", "release_at": None, "now": NOW}
        mailings.create(session, "2019-W23", state=MailingState.SENDING, **begun)
        assert releases.newest(session) == Week.parse("2019-W22")
        save_issue(session, "2019-W23")
        assert releases.newest(session) == Week.parse("2019-W23")


def test_before_the_first_issue_there_is_none_to_send(form):
    form.confirm(signed_up(form, newest=True))
    assert kinds(form) == ["confirm", "welcome"]
