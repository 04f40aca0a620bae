"""The images of an issue's folder, known by what they hold and not by how they are named."""

from __future__ import annotations

import re
from pathlib import Path

from service.domain.content import Asset
from service.editorial import plain_file
from service.editorial.problems import Problems
from service.render.pictures import is_whole, pixels

LARGEST_IMAGE = 5 * 1024 * 1024  # octets
_MOST_PIXELS = 50_000_000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_LONGEST_NAME = 200


def read_image(path: Path, problems: Problems) -> Asset | None:
    """The image of that file; None, and the problem noted, for anything but a whole PNG, JPEG, GIF or WebP."""
    if not _NAME.fullmatch(path.name) or len(path.name) > _LONGEST_NAME:
        problems.add(path, 0, "needs a name of A–Z, a–z, 0–9, dots, hyphens and underscores, 200 at the most")
    data = plain_file.octets(path, problems, LARGEST_IMAGE)
    if data is None:
        return None
    media_type = media_type_of(data)
    if media_type is None:
        problems.add(
            path, 0, "is neither a text <slug>.<language>.md nor a PNG, JPEG, GIF or WebP image; move it elsewhere"
        )
        return None
    width, height = pixels(data) or (0, 0)
    if width * height > _MOST_PIXELS:
        problems.add(path, 0, f"has {width} × {height} pixels; make it smaller")
        return None
    if not (width and height and is_whole(data)):
        problems.add(path, 0, f"is a damaged {media_type.removeprefix('image/')} image; save it anew")
        return None
    return Asset(path.name, media_type, data)


def media_type_of(data: bytes) -> str | None:
    """The media type that the first octets tell; None for what mails do not carry."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None
