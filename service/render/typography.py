"""Where a line may not break: what a typesetter does for Belarusian and Russian by hand."""

from __future__ import annotations

import re

NO_BREAK = "\u00a0"
# A word of one letter (у, ў, і, з, к, в, о …) never ends a line in Cyrillic typesetting; neither does a dash begin one.
# At the end of a piece of text the next word stands in a tag of its own.
_ONE_LETTER = re.compile(r"(?<![\w’'\u00a0-])([А-Яа-яЁёІіЎў]) (?=\w|$)")
_DASH = re.compile(r"(?<=[\w»”’),.:;!?…]) (?=[—–] )")
_GROUPS = re.compile(r"(?<=\d) (?=\d{3}(?!\d)|%)")
# No XML 1.0 document may hold these, not even as references (2.2).
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_YEAR = re.compile(r"(?<=\d) (?=г\.)")
_DAY_AND_MONTH = re.compile(r"(?<!\d)(\d{1,2}) (?=[А-Яа-яЁёІіЎў]{3,}\b)")


def bind(text: str) -> str:
    """`text` with no-break spaces for single spaces that a line must not end on; Latin text keeps its spaces.

    The words stay the same: comparing two parts of a mail only needs `unbind`.
    """
    if not any("\u0400" <= letter <= "\u04ff" for letter in text):
        return text
    # Twice, since in "і з ёй" the second match begins inside the first one's look-ahead.
    bound = _ONE_LETTER.sub(rf"\1{NO_BREAK}", _ONE_LETTER.sub(rf"\1{NO_BREAK}", text))
    bound = _YEAR.sub(NO_BREAK, _GROUPS.sub(NO_BREAK, _DASH.sub(NO_BREAK, bound)))
    return _DAY_AND_MONTH.sub(rf"\1{NO_BREAK}", bound)


def unbind(text: str) -> str:
    """`text` with ordinary spaces again."""
    return text.replace(NO_BREAK, " ")


def without_controls(text: str) -> str:
    """`text` without the characters that no XML, and so no MJML, may hold: a server's reply can bring them."""
    return _CONTROLS.sub("", text)
