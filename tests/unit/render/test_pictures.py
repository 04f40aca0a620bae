"""Images: their size from the file's header, and where they travel."""

import io

import pytest
from PIL import Image

from service.domain.content import Asset
from service.render.pictures import INSIDE_AT_MOST, is_whole, pixels, place_inside_or_linked
from tests.unit.render.samples import png

FOLDER = "https://weekly.example.org/en/issues/2019-W22/"


def drawn(kind, size=(50, 30)):
    made = io.BytesIO()
    # Of many colours, so that half of its octets hold half of it.
    Image.effect_noise(size, 90).save(made, kind)
    return made.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG", "WEBP"])
def test_an_image_tells_its_size_by_its_header_and_is_whole_to_its_end(kind):
    data = drawn(kind)
    assert (pixels(data), is_whole(data)) == ((50, 30), True)
    assert not is_whole(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"<svg/>", drawn("BMP"), png()[:20]])
def test_what_is_no_image_that_mails_carry_has_no_size(data):
    assert (pixels(data), is_whole(data)) == (None, False)


def test_an_image_whose_octets_were_changed_is_not_whole():
    data = bytearray(drawn("PNG"))
    data[len(data) // 2] ^= 0xFF
    assert not is_whole(bytes(data))


def test_small_images_travel_inside():
    asset = Asset("bridge.png", "image/png", png())
    made = place_inside_or_linked([asset], folder_url=FOLDER)
    assert [image.asset for image in made.inside] == [asset]
    assert made.placed["bridge.png"].url == f"cid:{made.inside[0].content_id}"
    assert made.inside[0].content_id.endswith("@weekly.example.org")


def test_images_that_are_large_together_stay_on_the_site():
    half = [Asset(f"{name}.png", "image/png", png(noise=INSIDE_AT_MOST // 2)) for name in ("a", "b")]
    made = place_inside_or_linked(half, folder_url=FOLDER)
    assert made.inside == ()
    assert made.placed["a.png"].url == FOLDER + "a.png"
