"""Every edition of an issue, as a mail: its words, its languages and its addresses."""

import pytest

from service.domain.chains import Chain, every_chain
from service.domain.content import edition
from service.domain.slots import MARKERS, Slot
from service.render.edition import render_edition
from service.render.templates import load_templates
from tests.unit.render.samples import BASE, issue, made_edition, publication

CHAINS = every_chain(("en", "be", "ru"))
TEMPLATES = load_templates()


def rendered(*languages, **changes):
    return render_edition(made_edition(*languages, **changes), TEMPLATES.catalogues, base_url=BASE)


@pytest.fixture(scope="module", params=CHAINS, ids=str)
def mail(request):
    shown = edition(publication(), issue(), request.param)
    return request.param, shown, render_edition(shown, TEMPLATES.catalogues, base_url=BASE)


def test_three_languages_give_fifteen_mails():
    assert len(CHAINS) == 15
    assert len({rendered(*chain.languages).html for chain in CHAINS if edition(publication(), issue(), chain)}) == 15


def test_the_same_edition_gives_the_same_octets():
    assert rendered("be", "ru") == rendered("be", "ru")


def test_html_and_text_hold_both_markers_once_each(mail):
    _chain, _shown, made = mail
    for part in (made.html, made.text):
        assert part.count(MARKERS[Slot.UNSUBSCRIBE]) == 1
        assert part.count(MARKERS[Slot.PREFERENCES]) == 1
        assert f"{BASE}/u/{MARKERS[Slot.UNSUBSCRIBE]}" in part
        assert f"{BASE}/p/{MARKERS[Slot.PREFERENCES]}" in part


def test_nothing_outside_the_chain_is_shown(mail):
    chain, shown, made = mail
    for article in issue().articles:
        for language, text in article.texts.items():
            expected = any(text == one.text for one in shown.articles)
            assert (text.lead in made.text.replace("\n", " ")) is expected, (str(chain), language)


def test_an_own_subject_wins_over_the_pattern():
    assert rendered("en").subject == "The week in Belarus, May 27 – June 2, 2019"
    assert rendered("be").subject == "Тыдзень у Беларусі, 27 мая – 2 чэрвеня 2019"
    assert rendered("en", subjects={"en": "Two drafts of three"}).subject == "Two drafts of three"


def test_the_chain_language_words_everything_but_the_texts():
    made = rendered("be", "ru")
    assert "Гэтага каментара пакуль няма па-беларуску. Паказваем яго па-руску." in made.text.replace("\n", " ")
    assert "Учения прошли без неожиданностей" in made.text
    assert Chain(("be", "ru")).first == made.language
