"""Colours can be read, in light and in dark."""

from dataclasses import asdict, fields
from pathlib import Path

import pytest

from service.domain.content import Trend
from service.render.tokens import DARK, LIGHT, READ_ON, SYMBOLS, Palette, contrast

STYLESHEET = Path(__file__).parents[3] / "templates/web/static/style.css"


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), READ_ON)
def test_text_stands_out_from_its_ground(palette, text, ground):
    assert contrast(getattr(palette, text), getattr(palette, ground)) >= 4.5


def test_contrast_is_that_of_the_guideline():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


def test_a_trend_is_never_told_by_colour_alone():
    assert len(set(SYMBOLS.values())) == len(Trend)


@pytest.mark.parametrize(("palette", "part"), [(LIGHT, 0), (DARK, 1)], ids=["light", "dark"])
def test_pages_have_the_colours_of_the_mail(palette, part):
    css = STYLESHEET.read_text("utf-8").split("@media (prefers-color-scheme: dark)")[part]
    for name, value in asdict(palette).items():
        assert f"--{name.replace('_', '-')}: {value};" in css, name
    assert {field.name for field in fields(Palette)} == set(asdict(palette))


def test_the_stylesheet_is_light_and_loads_nothing():
    css = STYLESHEET.read_text("utf-8")
    assert len(css.encode()) < 15 * 1024
    assert "url(" not in css
    assert "@import" not in css
