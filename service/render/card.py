"""The card of a page: the picture that other sites show beside a link to it, made from the page's words."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from PIL import Image, ImageDraw, ImageFont

from service.domain.content import Trend
from service.render.tokens import LIGHT
from service.render.typography import bind

# In pixels: the form that is asked for by those who show cards (https://ogp.me, 1.91 : 1).
WIDTH, HEIGHT = 1200, 630
MEDIA_TYPE = "image/png"
_BAR, _TOP, _FOOT, _ROW = 14, 62, HEIGHT - 96, 54
_EDGE = 72
_MEASURE = WIDTH - 2 * _EDGE
_COLOURS = 64  # enough for letters with smooth edges on two grounds; a third of the octets
_MISSING = "\uffff"


@dataclass(frozen=True, slots=True)
class Line:
    """A step of the scale, or none, and words beside it."""

    trend: Trend | None
    words: str


@dataclass(frozen=True, slots=True)
class Card:
    """What stands on a card from top to bottom; only the heading and the foot must be there.

    `badge` holds the words of one article's trend; `lines` are several articles, of which as many are drawn as fit.
    """

    heading: str
    foot: str
    label: str = ""
    text: str = ""
    badge: Line | None = None
    lines: Sequence[Line] = ()


def legible(words: str) -> bool:
    """Whether the typeface has letters for at least half of `words`; a card without its words is none."""
    letters = [letter for letter in words if not _is_space(letter)]
    return bool(letters) and 2 * sum(_has_glyph(letter) for letter in letters) >= len(letters)


def draw(card: Card) -> bytes:
    """`card` as a PNG file; what the typeface has no letters for, such as emoji, is left out."""
    image = Image.new("RGB", (WIDTH, HEIGHT), LIGHT.paper)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, WIDTH, _BAR), fill=LIGHT.accent)
    top = _TOP
    if card.label:
        top = _write(pen, _clipped(card.label, _font(32, bold=True)), top, _font(32, bold=True), LIGHT.muted) + 14
    top = _draw_heading(pen, card, top)
    if card.badge:
        _draw_badge(pen, card.badge, top)
    for words in _broken(card.text, _font(40))[: max((_FOOT - top) // _ROW, 0)]:
        top = _write(pen, words, top, _font(40), LIGHT.muted)
    for line in card.lines[: max((_FOOT - top) // _ROW, 0)]:
        _draw_symbol(pen, line.trend, _EDGE, top + 13, 22)
        _write(pen, _clipped(line.words, _font(34), _MEASURE - 42), top, _font(34), LIGHT.ink, left=_EDGE + 42)
        top += _ROW
    pen.line((_EDGE, _FOOT + 6, WIDTH - _EDGE, _FOOT + 6), fill=LIGHT.rule, width=2)
    _write(pen, _clipped(card.foot, _font(32, bold=True)), _FOOT + 26, _font(32, bold=True), LIGHT.accent)
    made = io.BytesIO()
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(made, "PNG", optimize=True)
    return made.getvalue()


def _draw_heading(pen: ImageDraw.ImageDraw, card: Card, top: int) -> int:
    """The heading in letters that leave room for what follows; where that begins."""
    room = _FOOT - top - (110 if card.badge else 0) - (2 * _ROW if card.lines or card.text else 0)
    font, lines = _fitted(card.heading, room)
    for line in lines:
        top = _write(pen, line, top, font, LIGHT.ink)
    return top + 24


@lru_cache(maxsize=32)
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    name = "SourceSerifPro-Bold.ttf" if bold else "SourceSerifPro-Regular.ttf"
    data = (files("font_source_serif_pro") / "files" / name).read_bytes()
    return ImageFont.truetype(io.BytesIO(data), size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=4096)
def _has_glyph(letter: str) -> bool:
    font = _font(24, bold=True)
    return bytes(font.getmask(letter)) != bytes(font.getmask(_MISSING))


def _is_space(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "ZC"


def _drawable(words: str) -> str:
    """`words` in one line, without what cannot be drawn."""
    kept = (" " if _is_space(letter) and letter != "\u00a0" else letter for letter in words)
    return " ".join("".join(letter for letter in kept if letter in " \u00a0" or _has_glyph(letter)).split(" ")).strip()


def _fitted(words: str, room: int) -> tuple[ImageFont.FreeTypeFont, list[str]]:
    """The largest letters in which `words` need no more height than `room`, and their lines."""
    for size in range(76, 40, -4):
        font = _font(size, bold=True)
        lines = _broken(words, font)
        if len(lines) * _height(font) <= room:
            return font, lines
    lines = lines[: max(room // _height(font), 1)]
    lines[-1] = _clipped(lines[-1] + " …", font)
    return font, lines


def _broken(words: str, font: ImageFont.FreeTypeFont) -> list[str]:
    """Lines that are no longer than the measure, and none empty."""
    lines = [""]
    for word in bind(_drawable(words)).split(" "):
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= _MEASURE or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return [_clipped(line, font) for line in lines if line]


def _clipped(words: str, font: ImageFont.FreeTypeFont, measure: int = _MEASURE) -> str:
    """`words`, or as many of their letters as fit, and an ellipsis."""
    words = _drawable(words)
    if font.getlength(words) <= measure:
        return words
    while words and font.getlength(words + "…") > measure:
        words = words[:-1]
    return words.rstrip() + "…"


def _height(font: ImageFont.FreeTypeFont) -> int:
    return round(font.size * 1.22)


def _write(
    pen: ImageDraw.ImageDraw, words: str, top: int, font: ImageFont.FreeTypeFont, colour: str, *, left: int = _EDGE
) -> int:
    """One line; where the next one begins."""
    pen.text((left, top), words, font=font, fill=colour)
    return top + _height(font)


_COLOUR = {
    Trend.BETTER: (LIGHT.better, LIGHT.better_bg),
    Trend.SAME: (LIGHT.same, LIGHT.same_bg),
    Trend.WORSE: (LIGHT.worse, LIGHT.worse_bg),
}


def _draw_badge(pen: ImageDraw.ImageDraw, badge: Line, top: int) -> None:
    assert badge.trend is not None
    colour, ground = _COLOUR[badge.trend]
    font = _font(34, bold=True)
    words = _clipped(badge.words, font, _MEASURE - 90)
    pen.rounded_rectangle((_EDGE, top, _EDGE + 88 + font.getlength(words), top + 66), radius=8, fill=ground)
    _draw_symbol(pen, badge.trend, _EDGE + 24, top + 22, 24)
    _write(pen, words, top + 10, font, colour, left=_EDGE + 64)


def _draw_symbol(pen: ImageDraw.ImageDraw, trend: Trend | None, left: int, top: int, size: int) -> None:
    """The scale's own symbols: the typeface has not all of them."""
    right, bottom, middle = left + size, top + size, left + size // 2
    if trend is Trend.BETTER:
        pen.polygon([(left, bottom), (right, bottom), (middle, top)], fill=LIGHT.better)
    elif trend is Trend.WORSE:
        pen.polygon([(left, top), (right, top), (middle, bottom)], fill=LIGHT.worse)
    elif trend is Trend.SAME:
        pen.ellipse((left, top, right, bottom), fill=LIGHT.same)
    else:
        pen.ellipse((left, top, right, bottom), outline=LIGHT.muted, width=3)
