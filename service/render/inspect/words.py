"""A text's words: markers left behind, letters of the wrong alphabet, links that lead nowhere."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from service.domain.content import Text
from service.render.inspect.remark import Remark
from service.render.markdown import check_body, check_words, spoken, table_columns

_LEFTOVER = re.compile(
    r"\{\{|\}\}|\{%|%\}|\[\[(?![^\]]*\]\()|<<<<<<<|>>>>>>>|\?\?\?"
    r"|\b(?:TODO|FIXME|XXX|TBD|TK|TKTK)\b|\b[tT][kK][tT][kK]\b|(?i:lorem ipsum)"
)
# Letters that a language's alphabet lacks and its neighbour's has: the trace of a passage left untranslated.
FOREIGN_LETTERS = {"be": "ищъ", "ru": "ўі"}
COLUMNS = 4  # of numbers and short words, on a screen of 360 CSS pixels
_WORD = re.compile(r"[^\W\d_](?:[^\W\d_]|['’\-](?=[^\W\d_]))*")
_CYRILLIC = re.compile(r"[\u0400-\u04ff]")
_LATIN = re.compile(r"[A-Za-z]")


def inspect_text(text: Text, files: Collection[str]) -> list[Remark]:
    """All remarks about one text by itself; `files` are the names of the files in the issue's folder.

    A passage marked `[…]{lang=ru}` is read by the alphabet of its own language.
    """
    remarks = [
        *inspect_words(text.title, text.language, "the title"),
        *inspect_words(text.lead, text.language, "the lead"),
    ]
    remarks += [Remark("markdown", True, finding.message, finding.line) for finding in check_body(text.body, files)]
    remarks += [
        Remark("wide-table", False, f"a table has {columns} columns; a phone shows {COLUMNS}: split it", line)
        for line, columns in table_columns(text.body)
        if columns > COLUMNS
    ]
    remarks += _leftovers(text.body, "the text")
    for line, language, words in spoken(text.body):
        remarks += _wrong_letters(words, language or text.language, line)
    return remarks


def inspect_words(words: str, language: str, what: str) -> list[Remark]:
    """All remarks about plain `words`, such as a title or a subject; `what` names them."""
    remarks = [Remark("characters", True, finding.message, finding.line) for finding in check_words(words, what)]
    if not words.strip():
        remarks.append(Remark("empty", True, f"{what} is empty; write it"))
    return [*remarks, *_leftovers(words, what), *_wrong_letters(words, language, 1)]


def _leftovers(text: str, what: str) -> Iterator[Remark]:
    for line, part in enumerate(text.split("\n"), start=1):
        for marker in dict.fromkeys(match[0] for match in _LEFTOVER.finditer(part)):
            yield Remark(
                "leftover", True, f'{what} holds "{marker}", which looks like a place left open; finish it', line
            )


def _wrong_letters(words: str, language: str, line: int) -> Iterator[Remark]:
    wrong = FOREIGN_LETTERS.get(language.partition("-")[0], "")
    for word in dict.fromkeys(_WORD.findall(words)):
        letters = "".join(dict.fromkeys(letter for letter in word.lower() if letter in wrong))
        if letters:
            mend = "mark a quotation as [слова]{lang=…}"
            yield Remark("alphabet", False, f'"{word}" has {", ".join(letters)}, which {language} lacks; {mend}', line)
        elif any(_CYRILLIC.search(part) and _LATIN.search(part) for part in word.split("-")):
            yield Remark("alphabet", False, f'"{word}" mixes Latin and Cyrillic letters; type it again', line)
