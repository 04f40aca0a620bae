import pytest

from service.domain.chains import Chain
from service.domain.keys import Keyring, Purpose
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import LinkSigner
from service.embedded.keyring_file import KeyringFile
from service.store import subscribers
from service.store.tables import audit
from service.store.tables import subscribers as table
from tests.conftest import KEYRING


def stored(parts, reader):
    with parts.database.read() as session:
        return subscribers.get(session, reader)


def dump(parts):
    with parts.database.read() as session:
        return [tuple(row) for t in (table, audit) for row in session.execute(t.select().order_by(*t.primary_key))]


def leave_link(parts, reader):
    return f"/u/{parts.unsubscribe_links.sign(reader)}"


def preference_link(parts, reader, epoch=0):
    return f"/p/{parts.preference_links.sign(reader, epoch)}"


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"List-Unsubscribe": "One-Click"}},
        {"files": {"List-Unsubscribe": (None, "One-Click")}},
        {},
        {"content": b"\xff\x00 nonsense", "headers": {"Content-Type": "text/plain"}},
    ],
)
def test_one_click_unsubscribes_in_either_encoding_of_a_form(site, parts, reader, body):
    answer = site.post(leave_link(parts, reader), **body)
    assert answer.status_code == 200
    assert stored(parts, reader).status is SubscriberStatus.UNSUBSCRIBED


def test_unsubscribing_again_gets_the_same_answer_and_changes_nothing_more(site, parts, reader):
    first = site.post(leave_link(parts, reader))
    before = dump(parts)
    second = site.post(leave_link(parts, reader))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert dump(parts) == before


def test_the_answer_is_the_same_for_a_reader_who_is_gone(site, parts, reader):
    known = site.post(leave_link(parts, reader))
    gone = site.post(leave_link(parts, bytes(16)))
    assert (known.status_code, known.headers.items(), known.content) == (
        gone.status_code,
        gone.headers.items(),
        gone.content,
    )


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_crawler_changes_nothing(site, parts, reader, method):
    before = dump(parts)
    for link in (leave_link(parts, reader), preference_link(parts, reader)):
        for _ in range(3):
            site.request(method, link)
            site.request(method, link + "?lang=be")
    assert dump(parts) == before


def test_the_page_of_the_link_has_one_button_that_posts_to_it(site, parts, reader):
    link = leave_link(parts, reader)
    page = site.get(link + "?lang=ru")
    assert page.text.count("<form") == 1
    assert f'<form method="post" action="{link}?lang=ru">' in page.text
    assert "Отписаться сейчас" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-robots-tag"].startswith("noindex")
    assert page.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize("language", ["en", "be", "ru"])
def test_a_subscribers_pages_do_not_call_to_subscribe(site, parts, reader, language):
    for link in (leave_link(parts, reader), preference_link(parts, reader)):
        page = site.get(f"{link}?lang={language}").text
        assert f'href="/{language}/privacy"' in page
        assert "/subscribe" not in page


@pytest.mark.parametrize("token", ["canary-short", "A" * 48, "TYDZEN-UNSUBSCRIBE-Qz7xKp2vJw9mRf4tHb6nLc8sYd3gA"])
def test_a_forged_link_is_a_page_that_is_not_there(site, parts, reader, token):
    for answer in (
        site.get(f"/u/{token}"),
        site.post(f"/u/{token}"),
        site.get(f"/p/{token}"),
        site.post(f"/p/{token}", data={"language": "be"}),
    ):
        assert answer.status_code == 404
        assert token not in answer.text


def test_a_link_of_one_purpose_is_none_of_the_other(site, parts, reader):
    assert site.post(leave_link(parts, reader).replace("/u/", "/p/"), data={"language": "en"}).status_code == 404
    assert site.post(preference_link(parts, reader).replace("/p/", "/u/")).status_code == 404


def test_preferences_show_the_chain_in_the_readers_own_language_and_no_address(site, parts, reader):
    page = site.get(preference_link(parts, reader)).text
    assert '<html lang="be"' in page
    assert page.index('value="be" lang="be" selected') < page.index('value="ru" lang="ru" selected')
    assert "canary" not in page


def test_saved_languages_hold_at_once_in_the_order_given(site, parts, reader):
    answer = site.post(preference_link(parts, reader), data={"language": ["en", "", "be"]})
    assert answer.status_code == 200
    assert stored(parts, reader).chain == Chain(("en", "be"))


@pytest.mark.parametrize("languages", [["", "", ""], ["be", "be", ""], ["de", "", ""], ["by"], ["be"] * 100])
def test_a_choice_that_is_none_changes_nothing_and_says_what_is_needed(site, parts, reader, languages):
    before = dump(parts)
    answer = site.post(preference_link(parts, reader), data={"language": languages})
    assert answer.status_code in {400, 422}
    assert dump(parts) == before


def test_a_preference_link_falls_when_the_address_changes_and_the_way_out_does_not(site, parts, reader):
    with parts.database.begin() as session:
        session.execute(table.update().values(epoch=1))
    old, new = (site.get(preference_link(parts, reader, epoch)) for epoch in (0, 1))
    assert old.status_code == new.status_code == 200
    assert 'name="language"' not in old.text
    assert 'name="language"' in new.text
    assert site.post(leave_link(parts, reader)).status_code == 200
    assert stored(parts, reader).status is SubscriberStatus.UNSUBSCRIBED


@pytest.mark.parametrize(
    "status", [SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED, SubscriberStatus.COMPLAINED]
)
def test_an_erased_reader_gets_the_page_of_any_other_who_gets_nothing(site, parts, reader, status):
    with parts.database.begin() as session:
        session.execute(table.update().values(status=status.value))
    left, erased = preference_link(parts, reader), preference_link(parts, bytes(16))
    forms = [{"language": ["be"]}, {"language": ["xx"]}, {"change": "pause", "until": "soon"}]
    forms += [{"change": "request", "purpose": purpose} for purpose in ("address", "data", "erase")]
    for fields in (None, *forms):
        answers = []
        for link in (left, erased):
            answer = site.post(f"{link}?lang=be", data=fields) if fields else site.get(f"{link}?lang=be")
            assert answer.status_code == 200
            answers.append((answer.headers.raw, answer.text.replace(link, "")))
        assert answers[0] == answers[1]


def test_a_link_of_a_key_that_was_added_while_the_site_runs_is_known(site, parts, reader):
    seconds = [0.0]
    parts.keyring_file = KeyringFile(parts.settings.keyring_path, lambda: seconds[-1])
    rotated = Keyring({**KEYRING.secrets, 2: b"2" * 32})
    leave = f"/u/{LinkSigner(rotated, Purpose.UNSUBSCRIBE).sign(reader)}"
    own = f"/p/{LinkSigner(rotated, Purpose.PREFERENCES).sign(reader)}"
    before = site.get(leave)
    forged = site.get("/u/" + "A" * 48)
    assert (before.status_code, before.text) == (forged.status_code, forged.text)
    assert before.status_code == 404
    parts.settings.keyring_path.write_text(rotated.render())
    seconds.append(1.0)
    assert site.get(own).status_code == 200
    assert site.post(leave).status_code == 200
    assert stored(parts, reader).status is SubscriberStatus.UNSUBSCRIBED
