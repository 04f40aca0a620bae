"""Folds HTML into short lines where a line feed means the same as the space or nothing it replaces.

A mail line holds 998 octets (RFC 5322, 2.1.1) and short lines keep the transfer encoding cheap and diffs readable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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


# Between these the parser of HTML drops white space (HTML standard, "in table", "in table body", "in row").
_BEFORE_ROWS = re.compile(r"<(?:table|tbody|thead|tr)\b[^>]*>$|</(?:tr|td|th|tbody|thead)>$")
_ROW = re.compile(r"</?(?:tbody|thead|tr)\b|<t[dh]\b|</table>")
_SPACE, _NOTHING, _CLOSED = " ", "", "may break"


def fold(html: str, width: int = WIDTH) -> str:
    """`html` with lines of at most `width` octets wherever white space may stand or already stands.

    Breaks only at white space, inside a tag or in running text, and between the tags of a table; never inside an
    attribute's value, a word, a style or a conditional comment's mark: the page is the same.
    """
    out: list[str] = []
    used = 0
    for run, before in _runs(html):
        first, broken, rest = run.partition("\n")
        if before and used and used + (before == _SPACE) + len(first.encode()) > width:
            out.append("\n")
            used = 0
        elif before == _SPACE and (used or not out):
            out.append(_SPACE)
            used += 1
        out.append(run)
        used = len(rest.rpartition("\n")[2].encode()) if broken else used + len(run.encode())
    return "".join(out)


def _runs(html: str) -> Iterator[tuple[str, str]]:
    """What stays on one line: atoms with nothing between them, and what stands before the first."""
    run, start = "", _NOTHING
    for atom, before in _atoms(html):
        if before == _NOTHING:
            run += atom
            continue
        if run or start:
            yield run, start
        run, start = atom, before
    yield run, start


def _atoms(html: str) -> list[tuple[str, str]]:
    """The parts that stay whole, each with what stands before it: a space, nothing, or a place where a line may end."""
    atoms: list[tuple[str, str]] = []
    previous = ""
    for piece in _PIECES.findall(html):
        if piece.startswith(_KEPT_WHOLE):
            atoms.append((piece, _NOTHING))
        elif piece.startswith("<"):
            first = _CLOSED if _ROW.match(piece) and _BEFORE_ROWS.search(previous) else _NOTHING
            words = [word for word in _IN_TAG.findall(piece) if word]
            atoms += [(word, _SPACE if index else first) for index, word in enumerate(words)]
        else:
            # A space at the end of running text goes before an empty word.
            words = re.split(r"[ \t\r\n]+", piece)
            atoms += [(word, _SPACE if index else _NOTHING) for index, word in enumerate(words) if word or index]
        previous = piece
    return atoms
