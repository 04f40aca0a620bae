"""Images of an issue: their size in pixels, and whether they travel inside the mail or stay on the site."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from PIL import Image

from service.domain.content import Asset

# Together; base64 adds a third, and a mail above about 100 KB is scored as bulk by several filters.
INSIDE_AT_MOST = 60 * 1024
_FORMATS = ("PNG", "JPEG", "GIF", "WEBP")


@dataclass(frozen=True, slots=True)
class PlacedImage:
    """Where an image is loaded from and how large it is drawn, in CSS pixels (None where the format does not say)."""

    url: str
    width: int | None
    height: int | None


@dataclass(frozen=True, slots=True)
class InlineImage:
    """An image that travels inside the mail; `content_id` stands without angle brackets."""

    content_id: str
    asset: Asset


@dataclass(frozen=True, slots=True)
class Placement:
    """The images of one edition: `placed` by file name, `inside` those to attach."""

    placed: Mapping[str, PlacedImage]
    inside: tuple[InlineImage, ...] = ()


def place_inside_or_linked(assets: Iterable[Asset], *, folder_url: str) -> Placement:
    """All `assets` inside the mail when they total at most INSIDE_AT_MOST, else all linked below `folder_url`."""
    wanted = tuple(assets)
    if sum(len(asset.data) for asset in wanted) > INSIDE_AT_MOST:
        return place_linked(wanted, folder_url=folder_url)
    host = urlsplit(folder_url).hostname or "localhost"
    inside = tuple(InlineImage(f"{asset.digest[:32]}@{host}", asset) for asset in wanted)
    placed = {image.asset.name: _placed(image.asset, f"cid:{image.content_id}") for image in inside}
    return Placement(placed, inside)


def place_linked(assets: Iterable[Asset], *, folder_url: str) -> Placement:
    """All `assets` loaded from the publication's own site, below `folder_url` (with its trailing slash)."""
    return Placement({asset.name: _placed(asset, folder_url + quote(asset.name)) for asset in assets})


def _placed(asset: Asset, url: str) -> PlacedImage:
    size = pixels(asset.data)
    return PlacedImage(url, *(size or (None, None)))


def pixels(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, GIF, JPEG or WebP file from its header; None for anything else."""
    try:
        with _opened(data) as image:
            return image.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def is_whole(data: bytes) -> bool:
    """Whether such a file can be drawn to its end; it takes four octets of memory for each pixel."""
    try:
        with _opened(data) as image:
            image.load()
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, Image.DecompressionBombError):
        return False
    return True


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=_FORMATS)
