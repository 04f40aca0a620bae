"""Every edition of an issue, as a mail: its words, its languages and its addresses."""

from dataclasses import replace

import pytest

from service.domain.chains import Chain, every_chain
from service.domain.content import Asset, edition
from service.domain.errors import ConfigurationError, InvalidInputError
from service.domain.slots import MARKERS, Slot
from service.render.edition import render_edition
from service.render.inspect import inspect_mail
from service.render.templates import load_templates
from tests.unit.render.samples import BASE, issue, made_edition, png, publication

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
    _chain, shown, made = mail
    for part in (made.html, made.text):
        assert part.count(MARKERS[Slot.UNSUBSCRIBE]) == 1
        assert part.count(MARKERS[Slot.PREFERENCES]) == 1
        assert f"{BASE}/u/{MARKERS[Slot.UNSUBSCRIBE]}" in part
        assert f"{BASE}/p/{MARKERS[Slot.PREFERENCES]}?lang={shown.language}" in part


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


def test_an_own_subject_is_no_pattern():
    assert rendered("en", subjects={"en": "A {range} of {title}"}).subject == "A {range} of {title}"


@pytest.mark.parametrize("base", ["", "weekly.example.org", "ftp://weekly.example.org", "//weekly.example.org"])
def test_a_base_that_is_no_web_address_is_refused(base):
    with pytest.raises(InvalidInputError, match="TYDZEN_BASE_URL"):
        render_edition(made_edition("en"), TEMPLATES.catalogues, base_url=base)


def test_a_slash_at_the_end_of_the_base_changes_nothing():
    assert render_edition(made_edition("en"), TEMPLATES.catalogues, base_url=BASE + "/") == rendered("en")


@pytest.mark.parametrize("missing", ["titles", "taglines", "subjects", "trends"])
def test_words_that_the_publication_lacks_are_named(missing):
    place = publication(**{missing: {}})
    with pytest.raises(ConfigurationError, match=r"publication\.toml: \["):
        render_edition(made_edition("en", publication=place), TEMPLATES.catalogues, base_url=BASE)


def test_an_article_without_trend_has_no_badge():
    articles = tuple(replace(article, trend=None) for article in issue().articles)
    made = rendered("en", articles=articles)
    assert 'class="t-' not in made.html
    assert "▼" not in made.text


def test_large_images_are_linked_to_the_publications_own_site():
    made = rendered("en", assets=(Asset("bridge.png", "image/png", png(noise=70_000)),))
    assert made.images == ()
    assert f'src="{BASE}/en/issues/2019-W22/bridge.png"' in made.html
    assert inspect_mail(made, base_url=BASE) == []


def test_only_the_images_that_are_shown_travel():
    spare = Asset("spare.png", "image/png", png())
    made = rendered("en", assets=(*issue().assets, spare))
    assert [image.asset.name for image in made.images] == ["bridge.png"]
    assert f"cid:{made.images[0].content_id}" in made.html
