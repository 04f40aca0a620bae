"""Folds HTML into short lines where a line feed means the same as the space or nothing it replaces.

A mail line holds 998 octets (RFC 5322, 2.1.1) and short lines keep the transfer encoding cheap and diffs readable.
"""

from __future__ import annotations

import re

WIDTH = 120  # octets
_PIECES = re.compile(
    # Styles and conditional comments are one piece: CSS strings may not break, and Outlook reads the comments' marks.
    r"<style\b.*?</style>|<!--\[if[^\]]*\]>(?:<!-->)?|<!--<!\[endif\]-->|<!\[endif\]-->|<!--.*?-->"
    r"|<[^>\"']*(?:\"[^\"]*\"[^>\"']*|'[^']*'[^>\"']*)*>"
    r"|[^<]+",
    re.DOTALL,
)
# A place to break inside a tag: white space outside of quotes.
_IN_TAG = re.compile(r"[^\s\"']*(?:\"[^\"]*\"|'[^']*')?[^\s\"']*")
_KEPT_WHOLE = ("<!--", "<style", "<![")


def fold(html: str, width: int = WIDTH) -> str:
    """`html` with lines of at most `width` octets wherever a tag's inner white space or a text's space allows it.

    Breaks only where white space already stands, never inside an attribute's value, a word, a style or a conditional
    comment's mark, so that the page is the same.
    """
    out: list[str] = []
    used = 0
    for atom, space_before in _atoms(html):
        octets = len(atom.encode())
        if space_before and used and used + 1 + octets > width:
            out.append("\n")
            used = 0
        elif space_before and used:
            out.append(" ")
            used += 1
        out.append(atom)
        _before, broken, last = atom.rpartition("\n")
        used = len(last.encode()) if broken else used + octets
    return "".join(out)


def _atoms(html: str) -> list[tuple[str, bool]]:
    """The parts that stay whole, each with whether white space stands before it."""
    atoms: list[tuple[str, bool]] = []
    for piece in _PIECES.findall(html):
        if piece.startswith(_KEPT_WHOLE):
            atoms.append((piece, False))
        elif piece.startswith("<"):
            words = [word for word in _IN_TAG.findall(piece) if word]
            atoms += [(word, index > 0) for index, word in enumerate(words)]
        else:
            atoms += _words(piece)
    return atoms


def _words(text: str) -> list[tuple[str, bool]]:
    """Words of running text; a space at its end goes before an empty word."""
    words = re.split(r"[ \t\r\n]+", text)
    return [(word, index > 0) for index, word in enumerate(words) if word or index > 0]
