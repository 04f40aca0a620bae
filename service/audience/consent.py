"""What is kept of a reader's consent: words about it, never more about the person."""

from __future__ import annotations

import re

from service import log
from service.domain.errors import InvalidInputError

LONGEST = 200
_NUMBERS_OF_MACHINES = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b|(?<![\w:])(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}\b")
_CLOCK = re.compile(r"\d{1,2}:\d{2}(?::\d{2})?")
_BLANKS = re.compile(r"[\s\x00-\x1f\x7f]+")


def evidence(text: str) -> str:
    """`text` in one line, with mail addresses and IP addresses cut out: other systems write them into their evidence.

    Raises InvalidInputError for more than 200 characters.
    """
    line = _BLANKS.sub(" ", log.cut_addresses(text)).strip()
    line = _NUMBERS_OF_MACHINES.sub(lambda found: found[0] if _CLOCK.fullmatch(found[0]) else "<ip>", line)
    if len(line) > LONGEST:
        raise InvalidInputError(f"the consent is longer than {LONGEST} characters")
    return line
