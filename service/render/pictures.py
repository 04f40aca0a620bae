"""Images of an issue: their size in pixels, and whether they travel inside the mail or stay on the site."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from service.domain.content import Asset

# Together; base64 adds a third, and a mail above about 100 KB is scored as bulk by several filters.
INSIDE_AT_MOST = 60 * 1024


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
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return int(width), int(height)
    if data[:6] in (b"GIF87a", b"GIF89a") and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return int(width), int(height)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_pixels(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_pixels(data)
    return None


def _jpeg_pixels(data: bytes) -> tuple[int, int] | None:
    """From the frame header, the first SOFn segment (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return int(width), int(height)
        at += 2 + length
    return None


def _webp_pixels(data: bytes) -> tuple[int, int] | None:
    """From the first chunk: lossy, lossless or extended (RFC 9649, sections 2.5 to 2.7)."""
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return int(width) & 0x3FFF, int(height) & 0x3FFF
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    return None
