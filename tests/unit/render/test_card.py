"""The picture beside a link: its words are in it, whole or cut within its edges, and it weighs little."""

import io

import pytest
from PIL import Image

from service.domain.content import Trend
from service.render.card import HEIGHT, WIDTH, Card, Line, draw, legible
from service.render.tokens import LIGHT

PAPER = tuple(bytes.fromhex(LIGHT.paper[1:]))
LONG = "Адносіны з Захадам і тое, што змяніў рэжым для тых, хто прыязджае на тры дні. "


def pixels(card):
    return Image.open(io.BytesIO(draw(card))).convert("RGB")


def colours(picture):
    return {colour for _count, colour in picture.getcolors(100_000)}


@pytest.mark.parametrize(
    "card",
    [
        Card("Short", "The Weekly"),
        Card(LONG * 9, LONG * 3, label=LONG * 3, badge=Line(Trend.WORSE, LONG * 3)),
        Card("Ы" * 300, "Ў" * 300, text=LONG * 9),
        Card("27 мая – 2 чэрвеня 2019", "Тыдзень", lines=[Line(None, LONG * 2)] * 20),
        Card("😀", "😀", label="😀", text="😀"),
        Card("A\x07 bell\n and\u202e a turn", "The Weekly"),
    ],
    ids=["short", "long", "one word", "many lines", "no letters", "controls"],
)
def test_it_has_the_size_that_is_asked_for_and_nothing_runs_over_its_edges(card):
    octets = draw(card)
    assert octets.startswith(b"\x89PNG")
    assert len(octets) < 60_000
    picture = Image.open(io.BytesIO(octets)).convert("RGB")
    assert picture.size == (WIDTH, HEIGHT)
    # Below the bar on top, a margin on each side is paper and nothing else.
    for box in ((0, 20, 40, HEIGHT), (WIDTH - 40, 20, WIDTH, HEIGHT), (0, HEIGHT - 20, WIDTH, HEIGHT)):
        assert colours(picture.crop(box)) == {PAPER}


@pytest.mark.parametrize("part", ["heading", "foot", "label", "text", "badge", "lines"])
def test_each_part_is_to_be_seen(part):
    words = {"badge": Line(Trend.BETTER, "palepšała"), "lines": [Line(Trend.SAME, "adzin")]}.get(part, "ІЎЯ")
    without = {"heading": "", "foot": ""}
    assert pixels(Card(**{**without, part: words})).tobytes() != pixels(Card(**without)).tobytes()


def test_the_same_words_make_the_same_file_and_others_make_another():
    card = Card("The council takes two drafts", "The Weekly", badge=Line(Trend.SAME, "unchanged"))
    assert draw(card) == draw(card)
    assert draw(card) != draw(Card("The council takes three", "The Weekly", badge=card.badge))


@pytest.mark.parametrize("trend", [*Trend, None])
def test_a_step_has_a_form_of_its_own_besides_its_colour(trend):
    def shape(step):
        picture = pixels(Card("27 May", "The Weekly", lines=[Line(step, "")])).crop((60, 160, 110, 260))
        return [pixel == PAPER for pixel in picture.get_flattened_data()]

    assert not all(shape(trend))
    assert all(shape(trend) != shape(other) for other in {*Trend, None} - {trend})


def test_a_language_whose_letters_the_typeface_lacks_is_known():
    assert legible("Беларусь: агляд тыдня 😀")
    assert legible("The Week")
    assert not legible("週刊")
    assert not legible("")
