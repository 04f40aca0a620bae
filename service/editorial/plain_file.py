"""Reading the small files of a folder that others wrote: size, kind and encoding are checked before anything else."""

from __future__ import annotations

import stat
from pathlib import Path

from service.editorial.problems import Problems

LARGEST_TEXT = 1024 * 1024  # octets


def octets(path: Path, problems: Problems, largest: int) -> bytes | None:
    """What the file holds; None, and a problem noted, for a missing, special, linked, unreadable or larger file."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            # A link may lead to any file of this machine, and a pipe would never end.
            problems.add(path, 0, "is no ordinary file; put the file itself there")
            return None
        if status.st_size > largest:
            problems.add(path, 0, f"is larger than {largest // 1024} KB; make it smaller")
            return None
        return path.read_bytes()
    except FileNotFoundError:
        problems.add(path, 0, "is missing")
    except OSError as error:
        problems.add(path, 0, f"cannot be read ({error.strerror or type(error).__name__})")
    return None


def text(path: Path, problems: Problems) -> str | None:
    """The UTF-8 text of the file, with or without BOM, its lines ended by a line feed; None as `octets`."""
    raw = octets(path, problems, LARGEST_TEXT)
    if raw is None:
        return None
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        problems.add(path, line, "is not UTF-8 here; save the file as UTF-8")
    return None
