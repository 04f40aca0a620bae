"""An issue to read in the browser."""

import pytest

from service.domain.slots import MARKERS
from service.render.inspect import foreign_loads, read_page
from tests.unit.render.samples import BASE, made_edition, web_issue
from tests.unit.render.test_mail_standards import Tree


@pytest.fixture(scope="module", params=[("en",), ("be", "ru"), ("ru", "be", "en")], ids=",".join)
def page(request):
    made = made_edition(*request.param)
    return made, web_issue(made)


def test_it_holds_no_marker_and_nothing_of_a_reader(page):
    _made, html = page
    assert not any(marker in html for marker in MARKERS.values())
    assert "/u/" not in html
    assert "/p/" not in html


def test_it_is_a_whole_page_that_loads_only_its_own(page):
    made, html = page
    assert html.startswith(f'<!DOCTYPE html>\n<html lang="{made.language}" dir="ltr">')
    read = read_page(html)
    assert foreign_loads(read, BASE) == ()
    tree = Tree(html)
    assert tree.faults == []
    # The way in, at the end of the page.
    assert [form["action"] for form in tree.all("form", "iframe")] == [f"/{made.language}/subscribe"]
    # Data for search engines, which no browser runs.
    assert [script["type"] for script in tree.all("script")] == ["application/ld+json"]
    assert "style=" not in html.replace('style="text-align:right"', "")


def test_headings_go_down_by_one(page):
    made, html = page
    levels = [level for level, _words in read_page(html).headings]
    assert levels.count(1) == 1
    # Each article has one, and the form at the end.
    assert levels.count(2) == len(made.articles) + 1


def test_foreign_texts_say_their_language(page):
    made, html = page
    *languages, form = [values.get("lang", made.language) for values in Tree(html).all("h2")]
    assert form == made.language
    assert languages == [shown.text.language for shown in made.articles]


def test_the_note_at_a_foreign_text_keeps_the_name_of_a_language_on_one_line(page):
    made, html = page
    own = {"en": "in English", "be": "па-беларуску", "ru": "на русском"}[made.language]
    assert html.count(f'<span class="unbroken">{own}</span>') == sum(shown.fallback for shown in made.articles)


def test_images_come_from_the_issue_s_folder(page):
    made, html = page
    images = Tree(html).all("img")
    assert images
    assert all(image["src"] == f"/{made.language}/issues/2019-W22/bridge.png" for image in images)
    assert all(image["alt"] and image["width"] == "640" and image["height"] == "320" for image in images)
