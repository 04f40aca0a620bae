"""A reader's own page and the fresh links: what each form changes, what it says, and what no page shows."""

import datetime as dt
import html
import json
import re

import pytest
import sqlalchemy as sa

from service.audience import preferences, signup
from service.audience.erasure import erase
from service.domain.chains import Chain
from service.domain.delivery import DeliveryState
from service.domain.mailing import MailingState
from service.domain.subscriber import RequestPurpose, SubscriberStatus, SuppressionReason, public_id
from service.domain.tokens import hour_of
from service.render.dates import long_date
from service.store import mailings, subscribers, suppressions, tables
from service.store.engine_tables import bounces
from service.store.tables import metadata, notices, requests, signups
from service.store.tables import subscribers as table
from tests.fakes import FakeBell
from tests.unit.web.parts import ADDRESS, NOW, dump
from tests.unit.web.test_public import leave_link, preference_link, stored
from tests.unit.web.test_reading import LOG_OF_CHANGES

LANGUAGES = ("en", "be", "ru")
NEW = "canary-moved@example.test"
PURPOSES = [purpose.value for purpose in RequestPurpose]


@pytest.fixture(autouse=True)
def bell(parts, monkeypatch):
    made = FakeBell()
    monkeypatch.setitem(parts.__dict__, "bell", made)
    return made


@pytest.fixture
def change(site, parts, reader):
    """Send off one of the page's forms."""

    def post(kind, page="be", **fields):
        return site.post(f"{preference_link(parts, reader)}?lang={page}", data={"change": kind, **fields})

    return post


def mailed(parts):
    """Kind, address and parameters of every notice, in order."""
    with parts.database.read() as session:
        rows = session.execute(sa.select(notices).order_by(notices.c.id)).all()
        return [(row.kind, session.sealer.open(row.seal_id, row.sealed), row.parameters) for row in rows]


@pytest.fixture
def fresh_link(change, parts):
    """The path of the link that was mailed for a purpose."""

    def ask(purpose):
        assert change("request", purpose=purpose).status_code == 200
        row_id, hour = mailed(parts)[-1][2]["links"]["request"]
        return f"/r/{parts.request_links.sign(bytes.fromhex(row_id), hour)}"

    return ask


# What holds at once


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_shows_every_choice_and_no_address(site, parts, reader, language):
    page = site.get(f"{preference_link(parts, reader)}?lang={language}")
    assert page.status_code == 200
    for field in ('name="language"', 'name="text_only"', 'name="until"', 'name="purpose"'):
        assert field in page.text
    assert [f'name="purpose" value="{purpose}"' in page.text for purpose in PURPOSES] == [True] * 3
    assert "canary" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in page.headers


def test_text_alone_is_chosen_and_taken_back_and_the_answer_says_so(change, parts, reader):
    assert "толькі тэкстам" in change("text", text_only="1").text
    assert stored(parts, reader).text_only
    assert "checked" in change("languages", language=["be"]).text
    assert "афармленнем" in change("text").text
    assert not stored(parts, reader).text_only


def test_the_answer_to_languages_says_what_comes_next(change, parts, reader):
    answer = change("languages", "en", language=["be", "ru"])
    assert "From now on you get: Belarusian, else Russian." in " ".join(answer.text.split())


@pytest.mark.parametrize(
    ("page", "nothing", "then", "text"),
    [
        (
            "en",
            "Saved. No issues come until June 20, 2019.",
            "From that day on you get: Belarusian, else Russian.",
            "No issues come until June 20, 2019; on that day",
        ),
        (
            "be",
            "Захавана. Да 20 чэрвеня 2019 нумары вам не прыходзяць.",
            "З таго дня лісты будуць на мовах: беларуская, калі няма – руская.",
            "Да 20 чэрвеня 2019 нумары вам не прыходзяць; у гэты дзень",
        ),
        (
            "ru",
            "Сохранено. До 20 июня 2019 г. номера вам не приходят.",
            "С того дня письма будут на языках: белорусский, если нет – русский.",
            "До 20 июня 2019 г. номера вам не приходят; в этот день",
        ),
    ],
)
def test_during_a_pause_no_answer_promises_what_comes_only_after_it(change, page, nothing, then, text):
    change("pause", until="2019-06-20")
    answer = said(change("languages", page, language=["be", "ru"]))
    assert f"{nothing} {then}" in answer
    for fields in ({"text_only": "1"}, {}):
        assert text in said(change("text", page, **fields))
    change("resume")
    assert "2019" not in said(change("languages", page, language=["be"])) + said(change("text", page))


def words(answer):
    """The page's source, read as a reader does: no entities, and each space is one."""
    return " ".join(html.unescape(answer.text).split())


def said(answer):
    """What the page answers, in one line."""
    (words,) = re.findall(r'role="status">(.*?)</div>', answer.text, re.DOTALL)
    return " ".join(html.unescape(words).split())


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_that_are_refused_are_given_back_as_they_were_filled_in(change, parts, reader, language):
    answer = change("languages", language, language=["ru", "ru", "en"])
    assert answer.status_code == 400
    assert re.findall(r'value="(\w+)" lang="\w+" selected', answer.text) == ["ru", "ru", "en"]
    described = re.findall(r'<select [^>]* aria-invalid="true" aria-describedby="languages-problem">', answer.text)
    assert len(described) == answer.text.count("<select") == 3
    assert answer.text.count('id="languages-problem"') == 1
    assert 'href="#language-1"' in answer.text
    assert stored(parts, reader).chain == Chain(("be", "ru"))
    # What is no language of ours selects none, and there are as many places as before.
    answer = change("languages", language, language=['"><b>', "be", "ru", "en", "be"])
    assert re.findall(r'value="(\w+)" lang="\w+" selected', answer.text) == ["be", "ru"]
    assert answer.text.count("<select") == 3
    assert "<b>" not in answer.text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("until", ["", "2019-01-01", "next week"])
def test_a_day_that_is_refused_is_given_back_as_it_was_filled_in(change, until, language):
    change("pause", until="2019-06-20")
    answer = change("pause", language, until=until)
    assert answer.status_code == 400
    (field,) = re.findall(r'<input type="date"[^>]*>', answer.text)
    assert f'value="{until}"' in field
    assert 'aria-invalid="true" aria-describedby="until-problem"' in field
    assert answer.text.count('id="until-problem"') == 1
    # The pause that there is, is shown and can be ended all the same.
    assert long_date(dt.date(2019, 6, 20), language) in " ".join(answer.text.split())
    assert 'value="resume"' in answer.text
    assert "aria-invalid" not in change("languages", language, language=["be"]).text


@pytest.mark.parametrize(("days", "taken"), [(1, True), (30, True), (366, True), (0, False), (-1, False), (367, False)])
def test_a_pause_ends_on_one_of_the_days_of_the_next_year(change, parts, reader, days, taken):
    until = parts.clock.now().date() + dt.timedelta(days=days)
    answer = change("pause", until=until.isoformat())
    assert (answer.status_code, stored(parts, reader).paused_until) == ((200, until) if taken else (400, None))
    assert ('href="#until"' in answer.text) != taken


@pytest.mark.parametrize(
    ("page", "days"),
    [
        ("en", "Choose a day from June 4, 2019 to June 3, 2020."),
        ("be", "Выберыце дзень з 4 чэрвеня 2019 па 3 чэрвеня 2020."),
        ("ru", "Выберите день с 4 июня 2019 г. по 3 июня 2020 г."),
    ],
)
def test_the_days_of_a_pause_are_written_as_a_native_writes_them(change, page, days):
    assert days in " ".join(change("pause", page, until="2019-01-01").text.split())


@pytest.mark.parametrize("until", ["", "soon", "2019-13-01", "<script>", "9" * 21])
def test_what_is_no_day_pauses_nothing(change, parts, reader, until):
    before = dump(parts)
    answer = change("pause", until=until)
    assert answer.status_code == 400
    assert "<script" not in answer.text
    assert dump(parts) == before


def test_a_pause_is_shown_and_ended_at_once(change, site, parts, reader, clock):
    until = parts.clock.now().date() + dt.timedelta(days=9)
    change("pause", until=until.isoformat())
    for language in LANGUAGES:
        shown = " ".join(site.get(f"{preference_link(parts, reader)}?lang={language}").text.split())
        assert long_date(until, language) in shown
        assert f'value="{until.isoformat()}"' in shown
    assert "Скончыць паўзу" in site.get(f"{preference_link(parts, reader)}?lang=be").text
    assert change("resume").status_code == 200
    assert stored(parts, reader).paused_until is None
    change("pause", until=until.isoformat())
    clock.advance(days=9)
    assert "Скончыць паўзу" not in site.get(f"{preference_link(parts, reader)}?lang=be").text


def test_the_audit_log_says_nothing_of_what_readers_do_here(site, change, parts, reader, fresh_link):
    until = (parts.clock.now().date() + dt.timedelta(days=9)).isoformat()
    for kind, fields in (("pause", {"until": until}), ("text", {"text_only": "1"}), ("languages", {"language": "en"})):
        assert change(kind, **fields).status_code == 200
    chosen = stored(parts, reader)
    assert (chosen.paused_until.isoformat(), chosen.text_only, str(chosen.chain)) == (until, True, "en")
    assert site.post(fresh_link("data")).status_code == 200
    assert site.post(leave_link(parts, reader)).status_code == 200
    assert site.post(fresh_link("erase")).status_code == 200
    assert stored(parts, reader) is None
    assert dump(parts)["audit"] == []


def test_the_audit_log_does_not_say_until_when_an_operator_has_somebody_pause(parts, reader):
    until = parts.clock.now().date() + dt.timedelta(days=9)
    with parts.database.begin() as session:
        preferences.pause(session, subscribers.get(session, reader), until, actor="test", now=NOW)
    (entry,) = dump(parts)["audit"]
    assert entry.action == "subscriber.pause"
    assert until.isoformat() not in repr(entry)


@pytest.mark.parametrize("kind", ["everything", "erase", "x" * 99])
def test_a_form_that_the_page_does_not_have_changes_nothing(change, parts, reader, kind):
    before = dump(parts)
    assert change(kind, language=["en"]).status_code == 400
    assert dump(parts) == before


def test_who_has_left_is_told_so_and_shown_the_way_back(site, parts, reader):
    path = f"{preference_link(parts, reader)}?lang=be"
    nothing_comes = "Гэтая спасылка больш не належыць да ніводнай падпіскі."
    assert nothing_comes not in words(site.get(path))
    site.post(leave_link(parts, reader))
    page = words(site.get(path))
    assert nothing_comes in page
    assert 'href="/be/subscribe"' in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_who_has_left_is_offered_the_data_and_the_erasure_alone(site, parts, reader, change, language):
    change("pause", until="2019-06-20")
    site.post(leave_link(parts, reader))
    path = f"{preference_link(parts, reader)}?lang={language}"
    for answer in (site.get(path), change("languages", language, language=["be"])):
        assert answer.status_code == 200
        fields = re.findall(r'<(?:input|select|textarea)[^>]* name="(\w+)"(?:[^>]* value="(\w+)")?', answer.text)
        asking = [("change", "request"), ("purpose", "data"), ("change", "request"), ("purpose", "erase")]
        assert fields == asking
        assert answer.text.count("<form") == answer.text.count("<button") == 2
        for of_mails in ("2019", "/u/", "canary"):
            assert of_mails not in answer.text
        assert answer.headers["cache-control"] == "no-store"


def test_who_has_left_changes_nothing_by_a_page_that_was_open_before(site, parts, reader, change):
    site.post(leave_link(parts, reader))
    before = dump(parts)
    forms = [("languages", {"language": ["en"]}), ("languages", {}), ("text", {"text_only": "1"}), ("resume", {})]
    forms += [("pause", {"until": until}) for until in ("2019-07-01", "soon")]
    for kind, fields in forms:
        answer = change(kind, **fields)
        assert (answer.status_code, 'role="alert"' in answer.text) == (200, False)
    # There are no mails to come to another address.
    assert "Нічога не зменена: гэтая спасылка больш" in words(change("request", purpose="address"))
    assert dump(parts) == before


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("languages", {"language": ["en", "be"]}),
        ("text", {"text_only": "1"}),
        ("pause", {"until": "2019-07-01"}),
        ("resume", {}),
    ],
)
@pytest.mark.parametrize(
    ("page", "nothing"),
    [
        ("en", "Nothing was changed: this link belongs to no subscription any more."),
        ("be", "Нічога не зменена: гэтая спасылка больш не належыць да ніводнай падпіскі."),
        ("ru", "Ничего не изменено: эта ссылка больше не относится ни к одной подписке."),
    ],
)
def test_who_has_left_is_promised_nothing(site, parts, reader, change, page, nothing, kind, fields):
    site.post(leave_link(parts, reader))
    answer = change(kind, page, **fields)
    assert answer.status_code == 200
    (said,) = re.findall(r'role="status">(.*?)</div>', answer.text, re.DOTALL)
    assert nothing in html.unescape(" ".join(said.split())).replace("\xa0", " ")
    assert said.count("<p>") == 1
    assert f'href="/{page}/subscribe"' in answer.text


def test_who_has_left_may_still_ask_for_the_data(site, parts, reader, change):
    site.post(leave_link(parts, reader))
    for purpose in ("data", "erase"):
        assert "may write to it, an email with a link is on its way" in said(change("request", "en", purpose=purpose))
        kind, address, parameters = mailed(parts)[-1]
        assert (kind, address, parameters["purpose"]) == ("request", ADDRESS, purpose)


# Who is mailed nothing, for whatever reason

KINDS = {
    "left": ("unsubscribed", None),
    "bounced": ("bounced", SuppressionReason.BOUNCED),
    "complained": ("complained", SuppressionReason.COMPLAINED),
    "suppressed": ("active", SuppressionReason.OPERATOR),
    "moved": ("active", None),
    "erased": ("unsubscribed", SuppressionReason.ERASED),
}
FORMS = [
    {"change": "languages", "language": ["en"]},
    {"change": "text", "text_only": "1"},
    {"change": "pause", "until": "2019-07-01"},
    {"change": "resume"},
    *[{"change": "request", "purpose": purpose} for purpose in PURPOSES],
]


def departed(parts, reader, kind):
    """Have the reader be one to whom nothing is mailed, of that kind, whatever the kind was before."""
    status, reason = KINDS[kind]
    with parts.database.begin() as session:
        found = subscribers.get(session, reader)
        suppressions.lift(session, found.address_hash)
        # The link that is looked at was signed in epoch 0.
        session.execute(table.update().values(status=status, epoch=int(kind == "moved")))
        if kind == "erased":
            erase(session, parts.departures, found, actor=None, now=NOW)
        elif reason is not None:
            suppressions.add(session, found.address_hash, reason, found.joined_week)


@pytest.mark.parametrize("chain", ["en", "be", "ru"])
def test_the_page_of_who_is_mailed_nothing_does_not_tell_why(site, parts, reader, chain):
    with parts.database.begin() as session:
        session.execute(table.update().values(chain=chain))
    path = preference_link(parts, reader)
    answers = {kind: [] for kind in KINDS}
    for kind in KINDS:
        departed(parts, reader, kind)
        for query in ("", "?lang=en", "?lang=be", "?lang=ru", "?lang=xx"):
            for header in ("en", "be", "ru", "ru;q=0.5, be", "de", ""):
                headers = {"Accept-Language": header}
                asked = [site.get(path + query, headers=headers)]
                asked += [site.post(path + query, headers=headers, data=form) for form in FORMS]
                answers[kind] += [(one.status_code, sorted(one.headers.items()), one.content) for one in asked]
    for kind in KINDS:
        assert answers[kind] == answers["left"], kind
    # Nor does it tell the reader's language: what the link and the browser ask for alone decides.
    assert b'<html lang="ru"' in site.get(path, headers={"Accept-Language": "ru"}).content
    assert len({body for _, _, body in answers["left"]}) > len(FORMS)


@pytest.mark.parametrize("kind", KINDS)
def test_who_is_mailed_nothing_is_promised_nothing_and_changes_nothing(site, parts, reader, change, kind):
    promises = ("Saved", "From now on you get", "you will get the next issue", "from now on", "You are unsubscribed")
    departed(parts, reader, kind)
    before = dump(parts)
    for form in FORMS:
        answer = words(change(form["change"], "en", **{key: form[key] for key in form if key != "change"}))
        assert "This link belongs to no subscription any more." in answer
        assert [promise for promise in promises if promise in answer] == []
        assert 'name="language"' not in answer
        # The one way in which a link may be on its way.
        assert answer.count("on its way") == answer.count("If we still keep your address and may write to it, an email")
    after = dump(parts)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == ({"requests", "notices"} if kind == "left" else set())


@pytest.mark.parametrize(
    ("language", "nothing", "only_if"),
    [
        ("en", "This link belongs to no subscription any more.", "if we still keep it and may write to it."),
        (
            "be",
            "Гэтая спасылка больш не належыць да ніводнай падпіскі.",
            "калі ён у нас яшчэ ёсць і нам можна на яго пісаць.",
        ),
        (
            "ru",
            "Эта ссылка больше не относится ни к одной подписке.",
            "если он у нас ещё есть и нам можно на него писать.",
        ),
    ],
)
def test_what_is_said_to_who_is_mailed_nothing_is_true_of_each_of_them(site, parts, reader, language, nothing, only_if):
    departed(parts, reader, "bounced")
    page = words(site.get(f"{preference_link(parts, reader)}?lang={language}"))
    assert nothing in page
    assert only_if in page
    for unsubscribed in ("You are unsubscribed", "адпісаліся", "отписались"):
        assert unsubscribed not in page


# What takes a fresh link


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_request_mails_a_link_to_the_present_address_and_changes_nothing_else(change, parts, reader, purpose):
    before = dump(parts)
    answer = change("request", purpose=purpose)
    after = dump(parts)
    assert answer.status_code == 200
    assert {name for name in after if after[name] != before[name]} == {"requests", "notices"}
    ((kind, address, parameters),) = mailed(parts)
    assert (kind, address, parameters["purpose"]) == ("request", ADDRESS, purpose)
    assert "canary" not in answer.text


@pytest.mark.parametrize("purpose", PURPOSES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_page_of_a_link_has_one_button_and_no_address(site, parts, fresh_link, purpose, language):
    link = fresh_link(purpose)
    page = site.get(f"{link}?lang={language}")
    assert page.status_code == 200
    assert page.text.count("<button") == page.text.count("<form") == 1
    assert f'<form method="post" action="{link}?lang={language}"' in page.text
    assert "canary" not in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["x-robots-tag"] == "noindex, nofollow"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_crawler_does_nothing(site, parts, fresh_link, method, clock):
    links = [fresh_link(purpose) for purpose in PURPOSES]
    before = dump(parts)
    for link in links:
        for _ in range(3):
            site.request(method, link)
    assert dump(parts) == before


def test_links_are_mailed_once_an_hour_and_three_times_a_day(change, parts, clock):
    counts = []
    for _ in range(30):
        change("request", purpose="data")
        change("request", purpose="data")
        counts.append(len(mailed(parts)))
        clock.advance(hours=1)
    assert counts[:4] == [1, 2, 3, 3]
    assert counts[23] == 3
    assert counts[-1] > 3


def test_a_link_holds_for_24_hours(site, parts, fresh_link, clock):
    link = fresh_link("data")
    clock.advance(hours=24)
    assert site.get(link).status_code == 200
    clock.advance(hours=1)
    assert site.get(link).status_code == site.post(link).status_code == 404


def test_a_link_of_one_purpose_does_nothing_else(site, parts, reader, fresh_link):
    token = fresh_link("data").removeprefix("/r/")
    for path in (f"/u/{token}", f"/p/{token}", f"/c/{token}"):
        assert site.post(path, data={"language": "en", "purpose": "erase"}).status_code == 404
    site.post(f"/r/{token}", data={"address": NEW, "purpose": "erase"})
    assert stored(parts, reader) is not None
    assert dump(parts)["signups"] == []


def test_forged_old_and_used_links_get_one_page_that_tells_nothing(site, parts, reader, fresh_link):
    hour = hour_of(parts.clock.now())
    used, moved = fresh_link("address"), fresh_link("data")
    site.post(used, data={"address": NEW})
    with parts.database.begin() as session:
        session.execute(table.update().values(epoch=1))
    links = ["/r/" + "A" * 48, f"/r/{parts.request_links.sign(bytes(16), hour)}", used, moved]
    links.append(f"/r/{parts.confirmation_links.sign(bytes(16), hour)}")
    pressed = [site.post(f"{link}?lang=be", data={"address": NEW}) for link in links]
    looked_at = [site.get(f"{link}?lang=be") for link in links]
    for answers in (pressed, looked_at):
        assert {answer.status_code for answer in answers} == {404}
        assert len({answer.content for answer in answers}) == 1


@pytest.mark.parametrize("reason", [SuppressionReason.COMPLAINED, SuppressionReason.OPERATOR])
def test_nobody_who_must_not_be_mailed_is_mailed_a_link(change, parts, reader, reason):
    with parts.database.begin() as session:
        suppressions.add(session, stored(parts, reader).address_hash, reason, stored(parts, reader).joined_week)
    assert change("request", purpose="data").status_code == 200
    assert mailed(parts) == []


def test_the_link_to_the_data_works_once(site, fresh_link):
    link = fresh_link("data")
    assert site.post(link).headers["content-type"] == "application/json"
    for answer in (site.post(f"{link}?lang=en"), site.get(f"{link}?lang=en")):
        assert answer.status_code == 404
        assert "works once" in answer.text
        assert "canary" not in answer.text


def test_the_data_are_all_that_is_kept_as_a_file_that_no_cache_keeps(site, parts, reader, change, fresh_link):
    change("text", text_only="1")
    answer = site.post(fresh_link("data"))
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["cache-control"] == "no-store"
    told = json.loads(answer.text)
    assert told["address"] == ADDRESS
    assert (told["languages"], told["text_only"], told["status"]) == (["be", "ru"], True, "active")
    with parts.database.read() as session:
        kept = set(session.execute(sa.select(table)).one()._mapping)
    hidden = {"address_hash", "sealed", "epoch", "provider"}  # the address in other forms
    assert kept - hidden - {"chain"} <= set(told)


def test_the_data_tell_what_relays_said_what_was_asked_for_and_what_was_changed(
    site, parts, reader, change, fresh_link, bell
):
    with parts.database.begin() as session:
        written(session, reader)
    change("text", text_only="1")
    with parts.database.begin() as session:
        preferences.set_text_only(session, subscribers.get(session, reader), text_only=False, actor="test", now=NOW)
    site.post(fresh_link("address"), data={"address": NEW})
    answered(parts, bell)
    told = json.loads(site.post(fresh_link("data")).text)
    assert told["soft_refusals"] == [
        {
            "day": "2019-06-01",
            "week": "2019-W22",
            "returned": False,
            "code": 452,
            "enhanced": "4.2.2",
            "reply": "mailbox full",
        }
    ]
    (issue,) = told["issues"]
    assert (issue["week"], issue["edition"], issue["state"]) == ("2019-W22", "be,ru", "refused")
    assert issue["attempts"] == [
        {
            "number": 1,
            "at": "2019-06-01T00:00:00+00:00",
            "outcome": "soft",
            "code": 452,
            "enhanced": "4.2.2",
            "reply": "mailbox full",
            "phase": "rcpt",
            "relay": "relay:25",
        }
    ]
    assert told["chosen_for"] == ["2019-W22"]
    assert told["confirmations"] == [
        {
            "for": "new address",
            "address": NEW,
            "state": "open",
            "languages": ["be", "ru"],
            "day": "2019-06-03",
            "reminded": None,
            "newest_issue": False,
        }
    ]
    assert told["requests"] == [
        {"purpose": "address", "day": "2019-06-03", "used": True},
        {"purpose": "data", "day": "2019-06-03", "used": True},
    ]
    assert [(one["action"], one["by"], one["details"]) for one in told["changes"]] == [
        ("subscriber.text", "operator", {"before": "True", "after": "False"}),
    ]
    assert told["suppressed"] is None
    # Which a worker has not mailed yet.
    assert told["notices"] == [
        {"kind": kind, "state": "pending", "day": "2019-06-03"} for kind in ("request", "move", "request")
    ]


def test_of_a_sign_up_that_is_asked_the_data_tell_the_day(site, parts, reader, fresh_link, bell):
    now = parts.clock.now()
    with parts.database.begin() as session:
        signup.sign_up(session, bell, ADDRESS, Chain(("en",)), now=now)
    answered(parts, bell)
    (asked,) = json.loads(site.post(fresh_link("data")).text)["confirmations"]
    assert (asked["for"], asked["address"], asked["day"]) == ("sign-up", None, "2019-06-03")
    assert asked["languages"] == ["en"]


def test_every_table_that_knows_a_reader_is_in_the_data(site, fresh_link):
    told = json.loads(site.post(fresh_link("data")).text)
    knowing = {"subscriber_id", "reader_id", "address_hash"}
    found = {one.name for one in metadata.sorted_tables if knowing & set(one.c.keys())}
    # A sign-up is a sealed address alone, which a worker takes away at once; nobody can look whose it is.
    assert found - {"subscribers", "signups"} == set(DATA_OF)
    assert set(DATA_OF.values()) <= set(told)


DATA_OF = {
    "bounces": "soft_refusals",
    "confirmations": "confirmations",
    "deliveries": "issues",
    "mailing_audience": "chosen_for",
    "requests": "requests",
    "suppressions": "suppressed",
}


def written(session, reader):
    """A mailing's chosen reader, the delivery, its attempt, and the evidence that this left."""
    mailing = mailings.create(
        session,
        "2019-W22",
        state=MailingState.SENDING,
        rate=None,
        audience="chosen",
        actor="test",
        release_at=None,
        now=NOW,
    )
    said = {"code": 452, "enhanced": "4.2.2", "reply": "mailbox full"}
    at = {"subscriber_id": reader, "mailing_id": mailing}
    session.execute(tables.batches.insert().values(id=1, mailing_id=mailing, chain="be,ru", open=False))
    refused = {"batch_id": 1, "state": int(DeliveryState.REFUSED), "attempts": 1}
    session.execute(tables.deliveries.insert().values(id=7, **at, **refused))
    when = {"at": 1_559_347_200_000, "outcome": "soft", "phase": "rcpt", "relay": "relay:25"}
    session.execute(tables.attempts.insert().values(delivery_id=7, number=1, **when, **said))
    session.execute(bounces.insert().values(**at, day="2019-06-01", epoch=0, returned=False, **said))
    session.execute(tables.mailing_audience.insert().values(**at))


def test_erasing_removes_the_reader_and_what_waits_for_them(site, parts, reader, fresh_link):
    link = fresh_link("erase")
    answer = site.post(f"{link}?lang=be")
    assert answer.status_code == 200
    assert "Вашы даныя сцёртыя" in answer.text
    assert stored(parts, reader) is None
    after = dump(parts)
    assert after["subscribers"] == after["requests"] == []
    assert all(row.sealed == b"" for row in after["notices"])
    # Nothing names who was erased.
    assert (reader.hex() in repr(after), repr(reader) in repr(after)) == (False, False)
    assert [row.reason for row in after["suppressions"]] == ["erased"]
    assert site.post(link).status_code == 404
    assert site.get(preference_link(parts, reader)).status_code == 200


@pytest.mark.parametrize("language", LANGUAGES)
def test_who_is_about_to_be_erased_is_told_that_the_log_of_changes_keeps_its_entries(
    site, parts, reader, fresh_link, language
):
    with parts.database.begin() as session:
        preferences.set_text_only(session, subscribers.get(session, reader), text_only=True, actor="test", now=NOW)
    link = f"{fresh_link('erase')}?lang={language}"
    assert LOG_OF_CHANGES[language] in site.get(link).text.replace("\u00a0", " ")
    before = dump(parts)["audit"]
    site.post(link)
    assert stored(parts, reader) is None
    assert dump(parts)["audit"] == before
    assert [(one.action, one.subject) for one in before] == [("subscriber.text", public_id(reader))]


# Another address


def answered(parts, bell):
    """What a worker does with the sign-up that waits; whether it mailed."""
    with parts.database.begin() as session:
        (waiting,) = session.execute(sa.select(signups.c.id)).scalars()
        return signup.answer(session, bell, waiting, now=parts.clock.now())


def confirm_path(parts):
    row_id, hour = mailed(parts)[-1][2]["links"]["confirm"]
    return f"/c/{parts.confirmation_links.sign(bytes.fromhex(row_id), hour)}"


def test_a_new_address_confirms_and_the_old_one_is_told(site, parts, reader, fresh_link, bell):
    answer = site.post(f"{fresh_link('address')}?lang=be", data={"address": NEW})
    assert answer.status_code == 200
    assert "canary" not in answer.text
    assert answered(parts, bell)
    assert mailed(parts)[-1][:2] == ("move", NEW)
    page = site.get(f"{confirm_path(parts)}?lang=be")
    assert "Пацвердзіць новы адрас" in page.text
    assert page.text.count("<button") == 1
    old_page = preference_link(parts, reader)
    first = site.post(f"{confirm_path(parts)}?lang=be")
    path = confirm_path_of_move(parts)
    before = dump(parts)
    assert "Адрас зменены" in first.text
    for again in (site.post(f"{path}?lang=be"), site.get(f"{path}?lang=be")):
        assert (first.status_code, again.status_code) == (200, 200)
        assert "<h1>Ужо пацверджана</h1>" in again.text
        assert "<button" not in again.text
        assert "canary" not in first.text + again.text
    assert dump(parts) == before
    assert mailed(parts)[-1][:2] == ("moved", ADDRESS)
    with parts.database.read() as session:
        moved = subscribers.find(session, NEW)
        assert (moved.id, moved.epoch, moved.status) == (reader, 1, SubscriberStatus.ACTIVE)
        assert subscribers.address(session, moved) == NEW
        assert subscribers.find(session, ADDRESS) is None
    # Links of older mails: the page falls, the way out does not.
    assert "This link belongs to no subscription any more." in words(
        site.get(old_page, headers={"Accept-Language": "en"})
    )
    assert site.post(leave_link(parts, reader)).status_code == 200
    assert stored(parts, reader).status is SubscriberStatus.UNSUBSCRIBED


def confirm_path_of_move(parts):
    (links,) = [parameters["links"]["confirm"] for kind, _, parameters in mailed(parts) if kind == "move"]
    return f"/c/{parts.confirmation_links.sign(bytes.fromhex(links[0]), links[1])}"


def test_what_is_no_address_gets_the_form_back_and_the_link_stays_good(site, parts, fresh_link):
    link = fresh_link("address")
    answer = site.post(f"{link}?lang=be", data={"address": '"><script>'})
    assert answer.status_code == 422
    assert 'href="#address"' in answer.text
    assert "<script" not in answer.text
    assert site.get(link).status_code == 200


@pytest.mark.parametrize("kind", ["new", "active", "own", "complained", "left"])
def test_the_answer_and_the_work_are_the_same_whoever_has_the_new_address(site, parts, reader, fresh_link, bell, kind):
    week = stored(parts, reader).joined_week
    address = ADDRESS if kind == "own" else NEW
    with parts.database.begin() as session:
        if kind in {"active", "complained", "left"}:
            status = SubscriberStatus("unsubscribed" if kind == "left" else kind)
            subscribers.add(session, address, Chain(("en",)), status=status, consent=None, week=week)
    link = fresh_link("address")
    before = dump(parts)
    answer = site.post(f"{link}?lang=be", data={"address": address})
    after = dump(parts)
    assert {name for name in after if after[name] != before[name]} == {"signups", "requests"}
    assert answer.status_code == 200
    # Nothing in the page depends on the address, or on the link.
    assert "Праверце новую скрыню" in answer.text
    assert link.removeprefix("/r/") not in answer.text
    assert answered(parts, bell) == (kind in {"new", "left"})


def test_a_reader_who_had_left_with_the_new_address_is_no_hindrance(site, parts, reader, fresh_link, bell):
    week = stored(parts, reader).joined_week
    with parts.database.begin() as session:
        other = subscribers.add(
            session, NEW, Chain(("en",)), status=SubscriberStatus.UNSUBSCRIBED, consent=None, week=week
        )
    site.post(fresh_link("address"), data={"address": NEW})
    assert answered(parts, bell)
    assert site.post(confirm_path(parts)).status_code == 200
    assert stored(parts, other.id) is None
    assert stored(parts, reader).epoch == 1


def test_a_link_to_the_new_address_is_worth_nothing_once_the_reader_moved_elsewhere_or_left(
    site, parts, reader, fresh_link, bell
):
    site.post(fresh_link("address"), data={"address": NEW})
    answered(parts, bell)
    path = confirm_path(parts)
    with parts.database.begin() as session:
        session.execute(table.update().values(status="unsubscribed"))
    assert site.post(path).status_code == 404
    with parts.database.begin() as session:
        session.execute(table.update().values(status="active", epoch=1))
    assert site.post(path).status_code == 404
    with parts.database.read() as session:
        assert subscribers.find(session, NEW) is None


def test_leaving_closes_the_question_of_a_new_address_for_who_comes_back_too(site, parts, reader, fresh_link, bell):
    site.post(fresh_link("address"), data={"address": NEW})
    answered(parts, bell)
    path = confirm_path(parts)
    assert site.post(leave_link(parts, reader)).status_code == 200
    with parts.database.begin() as session:
        session.execute(table.update().values(status="active"))
    assert site.post(path).status_code == 404
    assert stored(parts, reader).epoch == 0


def test_a_new_address_is_sealed_wherever_it_waits_and_forgotten_when_it_lapses(
    site, parts, reader, fresh_link, bell, clock
):
    from service.store import confirmations
    from tests.canary import assert_no_trace, canary

    address = canary("moving")
    site.post(fresh_link("address"), data={"address": address})
    assert_no_trace([address], database=parts.database)
    answered(parts, bell)
    assert_no_trace([address], database=parts.database)
    clock.advance(hours=73)
    with parts.database.begin() as session:
        assert confirmations.lapse(session, clock.now()) == 1
    (row,) = dump(parts)["confirmations"]
    assert (row.sealed, row.reader_id, row.epoch) == (None, None, None)
    assert stored(parts, reader).epoch == 0


def test_no_request_is_left_of_an_erased_reader(site, parts, reader, fresh_link, bell):
    site.post(fresh_link("address"), data={"address": NEW})
    assert len(dump(parts)["signups"]) == 1
    site.post(fresh_link("erase"))
    after = dump(parts)
    assert after["signups"] == after["requests"] == []
    with parts.database.read() as session:
        assert session.execute(sa.select(requests)).all() == []
