"""The form and the confirmation, as a browser sees them: the same answer for everybody, and only a POST changes."""

import datetime as dt
import html

import pytest
import sqlalchemy as sa

from service.audience import signup
from service.domain.chains import Chain
from service.domain.mailing import MailingState
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.tokens import hour_of
from service.domain.weeks import Week
from service.store import confirmations, subscribers, suppressions
from service.store.tables import signups as table
from service.web.guard import POLICY
from tests.fakes import FakeBell
from tests.unit.render import samples
from tests.unit.web.parts import dump

NEW = "canary-new@example.test"
CLASSES = ("new", "known", "pending", "left", "suppressed", "undeliverable")
LANGUAGES = ("en", "be", "ru")


@pytest.fixture
def bell(parts, monkeypatch):
    """What is rung, so that no broker need be there."""
    made = FakeBell()
    monkeypatch.setitem(parts.__dict__, "bell", made)
    return made


@pytest.fixture
def form(site, published, bell):
    """Fill in the form and send it off."""

    def post(address=NEW, languages=("be",), page="be", **more):
        return site.post(f"/{page}/subscribe", data={"address": address, "language": list(languages), **more})

    return post


def rows(parts):
    with parts.database.read() as session:
        return session.execute(sa.select(table)).all()


def address_of(parts, kind):
    """An address of that class, all of one length."""
    address = f"canary-{kind:>13}@example.test".replace(" ", "x")
    if kind == "undeliverable":
        return address.replace("example.test", "nowhere.zone")
    with parts.database.begin() as session:
        status = {"known": "active", "pending": "pending", "left": "unsubscribed", "suppressed": "active"}.get(kind)
        if status:
            subscribers.add(
                session, address, Chain(("be",)), status=SubscriberStatus(status), consent=None, week=Week(2019, 1)
            )
        if kind == "suppressed":
            reason = SuppressionReason.COMPLAINED
            suppressions.add(session, session.sealer.address_hash(address), reason, Week(2019, 1))
    return address


def asked(parts, bell, address=NEW, languages=("be",), now=None):
    """A confirmation that was mailed to `address`; its token."""
    now = now or parts.clock.now()
    with parts.database.begin() as session:
        signup.sign_up(session, bell, address, Chain(languages), now=now)
    (waiting,) = rows(parts)
    with parts.database.begin() as session:
        assert signup.answer(session, bell, waiting.id, now=now)
        found = session.execute(sa.text("SELECT id FROM confirmations ORDER BY hour DESC LIMIT 1")).scalar()
    return parts.confirmation_links.sign(found, hour_of(now))


def stored(parts, address=NEW):
    with parts.database.read() as session:
        return subscribers.find(session, address)


# The form


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_form_ticks_the_language_of_the_page_and_lists_it_first(site, published, language):
    text = site.get(f"/{language}/subscribe").text
    assert text.count(" checked") == 1
    ticked = f'<input type="checkbox" name="language" value="{language}" checked>'
    assert ticked in text
    assert text.index(ticked) == text.index('<input type="checkbox"')
    for name in ("English", "Беларуская", "Русский"):
        assert f">{name}</label>" in text
    assert f'<form method="post" action="/{language}/subscribe" novalidate>' in text


@pytest.mark.parametrize("path", ["/be/issues/", "/be/privacy", "/no/such/page/here", "/be/issues/2019-W22/"])
def test_every_public_page_leads_to_the_form(site, published, path):
    published(MailingState.SENT)
    assert "/be/subscribe" in site.get(path, headers={"Accept-Language": "be"}).text


@pytest.mark.parametrize("path", ["/be/issues/", "/be/subscribe", "/be/subscribe/sent", "/u/forged", "/no/such/page"])
def test_every_page_says_whose_it_is_and_leads_to_the_first_one(site, published, path):
    published(MailingState.SENT)
    title = html.escape(samples.publication().titles["be"])
    assert f'<a href="/be/"><strong>{title}</strong></a>' in site.get(path, headers={"Accept-Language": "be"}).text


@pytest.mark.parametrize("kind", CLASSES)
def test_the_answer_is_the_same_redirect_for_every_class_of_address(form, parts, kind):
    expected = form("canary-some-new-one@example.test")
    answer = form(address_of(parts, kind))
    assert (answer.status_code, answer.headers["location"]) == (303, "/be/subscribe/sent")
    assert (answer.status_code, answer.headers.raw, answer.content) == (
        expected.status_code,
        expected.headers.raw,
        expected.content,
    )


@pytest.mark.parametrize("kind", CLASSES)
def test_the_work_is_the_same_for_every_class_of_address(form, parts, bell, kind):
    address = address_of(parts, kind)
    with recorded(parts.database) as expected:
        form("canary-some-new-one@example.test")
    before = dump(parts)
    with recorded(parts.database) as made:
        form(address)
    assert made == expected
    after = dump(parts)
    assert {name for name in after if after[name] != before[name]} == {"signups"}
    first, second = rows(parts)
    assert (first.chain, first.text_version, first.due_at) == (second.chain, second.text_version, second.due_at)
    assert [job for job, _ in bell.rung] == ["tydzen.answer_signup"] * 2


class recorded:  # noqa: N801  # reads as words
    """The statements that a block makes."""

    def __init__(self, database):
        self._engine = database.engine

    def __enter__(self):
        self.made = []
        sa.event.listen(self._engine, "before_cursor_execute", self._note)
        return self.made

    def _note(self, _connection, _cursor, statement, *_):
        self.made.append(statement)

    def __exit__(self, *_):
        sa.event.remove(self._engine, "before_cursor_execute", self._note)


def test_what_waits_for_a_worker_is_sealed_and_has_the_chain_in_order(form, parts, bell):
    form(languages=("en", "ru", "be"), page="ru")
    (row,) = rows(parts)
    assert row.chain == "ru,en,be"
    assert b"canary" not in row.sealed
    assert bell.rung == [("tydzen.answer_signup", row.id)]
    with parts.database.read() as session:
        assert session.sealer.open(row.seal_id, row.sealed) == NEW


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("address", "languages", "places"),
    [
        ("canary", ["be"], ["address"]),
        ("", ["be"], ["address"]),
        (f"{'x' * 300}@example.test", ["be"], ["address"]),
        (NEW, [], ["languages"]),
        (NEW, ["de"], ["languages"]),
        ("canary@", [], ["address", "languages"]),
    ],
)
def test_an_error_is_at_the_top_leads_to_its_field_and_keeps_the_values(
    form, parts, bell, language, address, languages, places
):
    answer = form(address, languages, page=language)
    assert answer.status_code == 422
    assert answer.headers["cache-control"] == "no-store"
    for place in ("address", "languages"):
        assert (f'<a href="#{place}">' in answer.text) == (place in places)
        assert (f'id="{place}-problem"' in answer.text) == (place in places)
        assert f'id="{place}"' in answer.text
    assert answer.text.index('role="alert"') < answer.text.index("<form")
    assert f'value="{html.escape(address)}"' in answer.text
    assert answer.text.count(" checked") == len([code for code in languages if code in LANGUAGES])
    assert rows(parts) == []
    assert bell.rung == []


def test_what_is_given_back_is_escaped(form):
    answer = form('"><script>alert(1)</script>', ["be", '"><b>'])
    assert answer.status_code == 422
    assert "<script" not in answer.text
    assert "<b>" not in answer.text


def test_a_machine_that_fills_in_all_fields_gets_the_answer_of_all_and_does_nothing(form, parts, bell):
    expected, caught = form(), form(website="https://spam.test")
    assert (caught.status_code, caught.headers.raw, caught.content) == (
        expected.status_code,
        expected.headers.raw,
        expected.content,
    )
    assert len(rows(parts)) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_form_and_answer_warn_everybody_of_mailboxes_that_authorities_can_read(site, published, form, language):
    for path in (f"/{language}/subscribe", f"/{language}/subscribe/sent"):
        assert ".by" in site.get(path).text
        assert f"/{language}/feed.xml" in site.get(path).text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("path", ["", "privacy", "issues/", "issues/2019-W22/", "elite/", "elite/council-drafts"])
def test_the_form_at_the_end_of_a_page_warns_before_its_button_and_leads_to_what_is_safer(
    site, published, language, path
):
    published(MailingState.SENT)
    page = site.get(f"/{language}/{path}").text
    form = page[page.index("<form") : page.index("</form>")].replace("\u00a0", " ")
    warning = form[: form.index("<button")]
    yandex = {"en": "Yandex", "be": "Яндэкс", "ru": "Яндекс"}
    for word in (".by", ".ru", "mail.ru", yandex[language], samples.publication().titles[language]):
        assert word in warning
    whole = site.get(f"/{language}/subscribe").text
    assert f'<a href="/{language}/subscribe#mailbox">' in warning
    assert ".by" in whole[whole.index('id="mailbox"') :]


@pytest.mark.parametrize("address", ["canary@mail.ru", "canary@some.by", "canary@YANDEX.com", "canary@почта.рф"])
def test_the_answer_is_the_same_whatever_the_provider(form, parts, address):
    expected, made = form(), form(address)
    assert (made.status_code, made.headers.raw, made.content) == (303, expected.headers.raw, expected.content)
    assert len(rows(parts)) == 2


def test_the_newest_issue_is_asked_for_by_a_box_that_nobody_has_ticked_before(site, published, form, parts):
    assert '<input type="checkbox" name="newest" value="1">' in site.get("/be/subscribe").text
    form(), form(newest="1")
    assert [row.newest for row in rows(parts)] == [False, True]
    assert '<input type="checkbox" name="newest" value="1" checked>' in form("canary", newest="1").text


def test_there_is_no_form_in_a_language_that_the_publication_lacks(site, published, bell):
    assert site.get("/de/subscribe").status_code == 404
    assert site.post("/de/subscribe", data={"address": NEW, "language": "de"}).status_code == 404


# The confirmation


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_of_the_link_has_one_button_and_nothing_else(site, parts, published, bell, language):
    token = asked(parts, bell)
    answer = site.get(f"/c/{token}?lang={language}")
    assert answer.status_code == 200
    assert f'<form method="post" action="/c/{token}?lang={language}">' in answer.text
    assert answer.text.count("<button") == answer.text.count("<form") == 1
    assert "<input" not in answer.text
    assert answer.text.count("<a ") == 3  # to the text, and the other languages
    assert "canary" not in answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-robots-tag"] == "noindex, nofollow"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == POLICY
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_crawler_confirms_nothing(site, parts, published, bell, method):
    token = asked(parts, bell)
    before = dump(parts)
    for path in (f"/c/{token}", f"/c/{token}?lang=ru", "/be/subscribe", "/be/subscribe/sent"):
        for _ in range(3):
            site.request(method, path)
    assert dump(parts) == before


# What a page says of a link that was used.
ALREADY = {"en": "Already confirmed", "be": "Ужо пацверджана", "ru": "Уже подтверждено"}


def test_pressing_makes_the_reader_active_and_again_says_that_it_was_done(site, parts, published, bell):
    token = asked(parts, bell, languages=("be", "ru"))
    assert stored(parts).status is SubscriberStatus.PENDING
    first = site.post(f"/c/{token}?lang=be")
    reader = stored(parts)
    assert (first.status_code, reader.status, reader.chain) == (200, SubscriberStatus.ACTIVE, Chain(("be", "ru")))
    before = dump(parts)
    again = [site.post(f"/c/{token}?lang=be") for _ in range(2)]
    assert {answer.status_code for answer in again} == {200}
    assert len({(tuple(answer.headers.raw), answer.content) for answer in again}) == 1
    assert f"<h1>{ALREADY['be']}</h1>" in again[0].text
    assert ALREADY["be"] not in first.text
    assert dump(parts) == before
    for answer in (first, again[0]):
        assert "canary" not in answer.text
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_used_link_says_so_and_leads_to_what_everybody_may_read(site, parts, published, bell, language):
    never_pressed = asked(parts, bell, now=parts.clock.now() - dt.timedelta(days=1))
    token = asked(parts, bell)
    site.post(f"/c/{token}")
    published(MailingState.SENT)
    before = dump(parts)
    for link in (token, never_pressed):
        for answer in (site.get(f"/c/{link}?lang={language}"), site.post(f"/c/{link}?lang={language}")):
            assert answer.status_code == 200
            assert f"<h1>{ALREADY[language]}</h1>" in answer.text
            assert f'<a href="/{language}/issues/2019-W22/">' in answer.text
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-robots-tag"] == "noindex, nofollow"
            assert "set-cookie" not in answer.headers
            # Whoever the mail was forwarded to learns neither the address nor a way to the reader's page.
            for secret in ("canary", "/p/", "/u/", "/r/", "<form"):
                assert secret not in answer.text
        assert site.head(f"/c/{link}").status_code == 200
    assert dump(parts) == before


@pytest.mark.parametrize("since", ["left", "withdrawn", "suppressed", "erased"])
def test_a_link_whose_reader_is_not_mailed_now_tells_what_one_never_pressed_tells(site, parts, published, bell, since):
    token = asked(parts, bell)
    fresh = asked(parts, bell, "canary-fresh@example.test")
    button = site.get(f"/c/{fresh}?lang=be").text.replace(fresh, "")
    if since == "withdrawn":
        with parts.database.begin() as session:
            confirmations.withdraw(session, [session.sealer.address_hash(NEW)])
    else:
        site.post(f"/c/{token}")
    reader = stored(parts)
    with parts.database.begin() as session:
        if since == "left":
            subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=reader.joined_week)
        elif since == "suppressed":
            suppressions.add(session, reader.address_hash, SuppressionReason.OPERATOR, Week(2019, 1))
        elif since == "erased":
            subscribers.erase(session, reader.id, week=reader.joined_week)
    assert site.get(f"/c/{token}?lang=be").text.replace(token, "") == button
    forged = site.post(f"/c/{'A' * 48}?lang=be")
    pressed = site.post(f"/c/{token}?lang=be")
    assert (pressed.status_code, pressed.content) == (404, forged.content)


def test_forged_expired_and_used_links_get_one_page_that_tells_nothing(site, parts, published, bell):
    now = parts.clock.now()
    forged = "A" * 48
    other = parts.unsubscribe_links.sign(bytes(16), hour_of(now))
    gone = parts.confirmation_links.sign(bytes(16), hour_of(now))
    expired = asked(parts, bell, "canary-slow@example.test", now=now - dt.timedelta(hours=73))
    used = asked(parts, bell)
    site.post(f"/c/{used}")
    with parts.database.begin() as session:
        reader = subscribers.find(session, NEW)
        subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=reader.joined_week)
    before = dump(parts)
    pressed = [site.post(f"/c/{token}?lang=be") for token in (forged, other, gone, expired, used)]
    looked_at = [site.get(f"/c/{token}?lang=be") for token in (forged, other, expired)]
    for answers in (pressed, looked_at):
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content for answer in answers}) == 1
        assert len({tuple(answer.headers.raw) for answer in answers}) == 1
        assert "/be/subscribe" in answers[0].text
    assert dump(parts) == before


def test_the_welcome_leads_to_the_newest_issue(site, parts, published, bell):
    before = asked(parts, bell)
    assert "/issues/2019" not in site.post(f"/c/{before}?lang=be").text
    assert "/issues/2019" not in site.post(f"/c/{before}?lang=be").text
    published(MailingState.SENT)
    token = asked(parts, bell, "canary-later@example.test")
    page = site.post(f"/c/{token}?lang=be").text
    assert '<a href="/be/issues/2019-W22/">' in page
    assert ALREADY["be"] not in page


def test_no_log_holds_a_token_or_an_address(form, site, parts, bell, capsys):
    from service import log

    log.configure(json=True)
    form()
    form("canary-broken")
    token = asked_by(parts, bell)
    site.post(f"/c/{token}")
    # The browser of these tests logs each address it goes to.
    said = "".join(line for line in capsys.readouterr().err.splitlines() if "httpx" not in line)
    assert '"route": "/c/{token}"' in said
    assert token not in said
    assert "canary" not in said


def asked_by(parts, bell):
    (waiting,) = rows(parts)
    with parts.database.begin() as session:
        signup.answer(session, bell, waiting.id, now=parts.clock.now())
        found = session.execute(sa.text("SELECT id FROM confirmations")).scalar()
    return parts.confirmation_links.sign(found, hour_of(parts.clock.now()))
