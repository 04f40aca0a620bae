"""How large a file of subscribers may be, seen before any line of it counts; and its digest, by which it is called.

A million readers are 40 to 100 MB of a table of our own and some 300 MB of Mailchimp's: both bounds leave room for
millions. What is beyond them is no list of readers, or better taken in parts.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from service.domain.errors import InvalidInputError

MOST_OCTETS = 2_000_000_000
MOST_LINES = 10_000_000
_PART = 1 << 20
_MEND = "split it, each part with its header, and import one after another"


def digest(path: Path) -> str:
    """What the audit log calls the file: its name may tell of a person, its SHA-256 does not.

    Raises InvalidInputError for what is no file, cannot be read, or has too many octets or lines.
    """
    try:
        if not path.is_file():
            raise InvalidInputError("there is no such file to import, or it is not a regular one")
        return _read(path)
    except OSError as error:
        raise InvalidInputError(f"the file cannot be read ({type(error).__name__})") from None


def _read(path: Path) -> str:
    made = hashlib.sha256()
    lines, end = 0, b"\n"
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > MOST_OCTETS:
            raise InvalidInputError(f"the file is larger than {MOST_OCTETS / 1e9:.1f} GB; {_MEND}")
        while part := file.read(_PART):
            made.update(part)
            lines += part.count(b"\n")
            end = part[-1:]
            # The last line may have no end.
            if lines + (end != b"\n") > MOST_LINES:
                raise InvalidInputError(f"the file has more than {MOST_LINES:,} lines; {_MEND}")
    return "sha256:" + made.hexdigest()
