"""Images: their size from the file's header, and where they travel."""

import struct

import pytest

from service.domain.content import Asset
from service.render.pictures import INSIDE_AT_MOST, pixels, place_inside_or_linked
from tests.unit.render.samples import png

FOLDER = "https://weekly.example.org/en/issues/2019-W22/"
JPEG = b"\xff\xd8\xff\xe0\x00\x04ab" + b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 300, 500) + b"\x03" + b"\0" * 9


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (png(640, 320), (640, 320)),
        (b"GIF89a" + struct.pack("<HH", 20, 10) + b"\0\0\0", (20, 10)),
        (JPEG, (500, 300)),
        (b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + (99).to_bytes(3, "little") + (49).to_bytes(3, "little"), (100, 50)),
        (b"RIFF\0\0\0\0WEBPVP8L" + b"\0" * 4 + b"\x2f" + (99 | 49 << 14).to_bytes(4, "little") + b"\0" * 5, (100, 50)),
        (b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 10 + struct.pack("<HH", 100, 50), (100, 50)),
        (b"", None),
        (b"\xff\xd8\xff", None),
        (b"<svg/>", None),
    ],
)
def test_pixels_are_read_from_the_header(data, size):
    assert pixels(data) == size


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
