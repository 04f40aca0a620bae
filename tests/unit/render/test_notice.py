"""Notices, in every language."""

import re

import pytest

from service.domain.errors import ConfigurationError
from service.render.inspect import foreign_loads, read_page
from service.render.notice import notice_kinds, render_notice
from service.render.templates import load_templates
from tests.unit.render.samples import BASE, publication

PARAMS = {
    "issue-blocked": {
        "week": "2019-W22",
        "slot": "3 June 2019, 09:00",
        "findings": [
            ("be", "council-drafts", "the title holds <b>{{7*7}}</b>"),
            ("", "issue", "the HTML weighs 97 KB"),
        ],
    },
    "slot-missed": {"week": "2019-W22", "slot": "3 June 2019, 09:00"},
    "mailing-trouble": {"week": "2019-W22", "problem": "454 4.7.0 <try> again later"},
}


TOKEN = "Zm9yLWEtbGluay1pbi1hLW1haWwtb2YtYS1yZWFkZXItMDEy"
TO_READERS = {
    "confirm": {"chain": ["be", "ru"], "tokens": {"confirm": TOKEN}},
    "reminder": {"chain": ["be", "ru"], "tokens": {"confirm": TOKEN}},
    "move": {"chain": ["be", "ru"], "tokens": {"confirm": TOKEN}},
    "welcome": {"chain": ["be", "ru"], "week": "2019-W22", "tokens": {"preferences": TOKEN, "unsubscribe": TOKEN}},
}
LINKS = {"confirm": ["c"], "reminder": ["c"], "move": ["c"], "welcome": ["p", "u"]}
# They name no languages.
BRIEF = {
    "goodbye": {"tokens": {"preferences": TOKEN}},
    "moved": {},
    "request": {"purpose": "address", "tokens": {"request": TOKEN}},
}
BRIEF_LINKS = {"goodbye": ["p"], "moved": [], "request": ["r"]}


def notice(kind, language, params=None):
    return render_notice(
        kind,
        language,
        (PARAMS | TO_READERS | BRIEF)[kind] if params is None else params,
        publication=publication(),
        base_url=BASE,
        catalogues=load_templates().catalogues,
    )


@pytest.mark.parametrize("language", ["en", "be", "ru"])
@pytest.mark.parametrize("kind", sorted(PARAMS))
def test_a_notice_has_subject_html_and_text(kind, language):
    made = notice(kind, language)
    assert "2019-W22" in made.subject
    assert "\n" not in made.subject
    assert f'<html lang="{language}" dir="ltr"' in made.html
    assert 'role="article"' in made.html
    page = read_page(made.html)
    assert [level for level, _words in page.headings] == [1]
    assert foreign_loads(page, BASE) == ()
    assert page.loads == ()
    assert max(len(line) for line in made.text.split("\n")) <= 72
    assert publication().titles[language] in " ".join(made.text.split())


@pytest.mark.parametrize("language", ["en", "be", "ru"])
@pytest.mark.parametrize("kind", sorted(TO_READERS))
def test_a_notice_to_a_reader_says_the_same_and_has_the_same_links_in_both_parts(kind, language):
    made = notice(kind, language)
    words = load_templates().catalogues[language]
    assert publication().titles[language] in made.subject
    assert f'<html lang="{language}" dir="ltr"' in made.html
    page = read_page(made.html)
    assert [level for level, _words in page.headings] == [1]
    assert page.loads == ()
    names = f"{words.language_name('be')}, {words.language_name('ru')}"
    assert names in " ".join(made.text.split())
    lines = made.text.split("\n")
    for letter in LINKS[kind]:
        (link,) = [line for line in lines if line.startswith(f"{BASE}/{letter}/{TOKEN}")]
        assert link == f"{BASE}/{letter}/{TOKEN}?lang={language}"
        assert f'href="{link}"' in made.html.replace("\n", "")
    assert max(len(line) for line in lines if not line.startswith(BASE)) <= 72


@pytest.mark.parametrize("language", ["en", "be", "ru"])
@pytest.mark.parametrize("kind", sorted(BRIEF))
def test_a_brief_notice_says_the_same_and_has_the_same_links_in_both_parts(kind, language):
    made = notice(kind, language)
    assert publication().titles[language] in made.subject
    page = read_page(made.html)
    assert [level for level, _words in page.headings] == [1]
    assert page.loads == ()
    lines = made.text.split("\n")
    for letter in BRIEF_LINKS[kind]:
        (link,) = [line for line in lines if line.startswith(f"{BASE}/{letter}/{TOKEN}")]
        assert link == f"{BASE}/{letter}/{TOKEN}?lang={language}"
        assert f'href="{link}"' in made.html.replace("\n", "")
    assert max(len(line) for line in lines if not line.startswith(BASE)) <= 72


@pytest.mark.parametrize("language", ["en", "be", "ru"])
def test_each_purpose_of_a_request_has_a_subject_and_a_link_of_its_own(language):
    tokens = {"tokens": {"request": TOKEN}}
    every = [notice("request", language, {"purpose": one, **tokens}) for one in ("address", "data", "erase")]
    assert len({made.subject for made in every}) == len({made.text for made in every}) == 3


@pytest.mark.parametrize(
    ("language", "data"), [("en", "your data"), ("be", "выдалення даных"), ("ru", "удаления данных")]
)
def test_the_link_to_erase_says_that_data_are_erased_and_not_the_publication(language, data):
    made = notice("request", language, {"purpose": "erase", "tokens": {"request": TOKEN}})
    assert data in made.subject


@pytest.mark.parametrize("language", ["en", "be", "ru"])
def test_what_a_reminder_may_follow_does_not_call_itself_the_only_mail(language):
    confirm, reminder = (notice(kind, language, TO_READERS[kind]) for kind in ("confirm", "reminder"))
    # One reason for both, in the same words.
    assert confirm.text.split("\n\n")[-1] == reminder.text.split("\n\n")[-1]
    assert "one email" not in confirm.text + confirm.html


def test_a_welcome_before_the_first_issue_leads_to_none():
    made = notice("welcome", "en", {**TO_READERS["welcome"], "week": None})
    assert "issues" not in made.text
    assert "issues/" not in made.html


def test_values_come_out_as_they_are():
    made = notice("issue-blocked", "be")
    assert "&lt;b&gt;{{7*7}}&lt;/b&gt;" in made.html
    assert "<b>{{7*7}}</b>" in made.text
    assert "454 4.7.0 &lt;try&gt; again later" in notice("mailing-trouble", "ru").html.replace("\n", " ")


@pytest.mark.parametrize(
    ("count", "subject"),
    [(1, "Нумар 2019-W22 нельга адправіць: 1 заўвага"), (3, "Нумар 2019-W22 нельга адправіць: 3 заўвагі")],
)
def test_the_subject_counts_the_findings(count, subject):
    assert (
        notice("issue-blocked", "be", {**PARAMS["issue-blocked"], "findings": [("be", "a", "b")] * count}).subject
        == subject
    )


def test_a_missing_parameter_is_named():
    with pytest.raises(ConfigurationError, match="'slot' is undefined"):
        notice("slot-missed", "en", {"week": "2019-W22"})


def test_an_unknown_kind_is_refused_with_those_that_exist():
    with pytest.raises(ConfigurationError, match=r'no notice "farewell"; there are .*issue-blocked'):
        notice("farewell", "en", {})
    assert set(PARAMS) <= set(notice_kinds())


@pytest.mark.parametrize("language", ["en", "be", "ru"])
@pytest.mark.parametrize("kind", ["issue-blocked", "slot-missed", "mailing-trouble"])
def test_a_heading_keeps_the_name_of_the_week_on_one_line(kind, language):
    html = notice(kind, language).html
    heading = html[html.index("<h1") : html.index("</h1>")]
    assert re.search(r'<span style="white-space:\s*nowrap">2019-W22</span>', heading)
    assert heading.count("2019-W22") == 1
