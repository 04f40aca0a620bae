"""The line beside the subject."""

import pytest

from service.domain.chains import every_chain
from service.domain.content import edition
from service.render.preheader import LONGEST, SHORTEST, shortened
from tests.unit.render.samples import issue, made_edition, one_article, publication
from tests.unit.render.test_edition import BASE, TEMPLATES, render_edition


@pytest.mark.parametrize("chain", every_chain(("en", "be", "ru")), ids=str)
def test_it_has_eighty_to_a_hundred_and_ten_characters(chain):
    made = render_edition(edition(publication(), issue(), chain), TEMPLATES.catalogues, base_url=BASE)
    assert SHORTEST <= len(made.preheader) <= LONGEST


def test_a_headline_of_another_language_is_told_as_section_and_trend():
    line = render_edition(made_edition("be", "ru"), TEMPLATES.catalogues, base_url=BASE).preheader
    assert "Учения" not in line
    assert "Пытанні" in line


def test_it_does_not_repeat_the_subject():
    short = one_article(
        "Body.", title="Two drafts of three", lead="A lead of some length. " * 5, subjects={"en": "Two drafts of three"}
    )
    line = render_edition(made_edition("en", issue=short), TEMPLATES.catalogues, base_url=BASE).preheader
    assert "Two drafts of three" not in line
    assert SHORTEST <= len(line) <= LONGEST


@pytest.mark.parametrize("line", ["word " * 40, "x" * 300, "x" * 100 + " " + "y" * 100, "a" * 105 + " · bcd · e"])
def test_it_is_cut_at_a_word_with_an_ellipsis(line):
    cut = shortened(line)
    assert len(cut) <= LONGEST
    assert cut.endswith("…")
    assert len(cut) >= SHORTEST
