"""The Markdown of a text: what is allowed in it, what is refused and why, and the parser both renderers share.

It is never a template: braces, percent signs and MJML tags in it are plain characters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline
from markdown_it.token import Token

from service.domain.chains import is_language_code
from service.domain.errors import InvalidInputError
from service.render.dates import locale_of
from service.render.links import problem_of_link

_LANGUAGE_MARK = re.compile(r"\{lang=([A-Za-z][A-Za-z0-9-]*)\}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_BIDI = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_TAG_NAME = re.compile(r"</?\s*([A-Za-z][\w:-]*)")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_DEEPEST = 40
_LONGEST_ALT = 300
_SHALLOWEST_HEADING = 3
_NOT_SUPPORTED = {
    "hr": "a horizontal rule is not part of a text; use a heading",
    "fence": "a code block is not part of a text; use a code span or a quote",
    "lheading": "an underlined heading stands above the article's own; write ### before the words",
}


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """Something that a text may not hold. `line` counts from 1 within what was checked."""

    line: int
    message: str


def _language_span(state: StateInline, silent: bool) -> bool:
    """`[words]{lang=ru}`: a passage in another language, for screen readers and for the check of alphabets."""
    if state.src[state.pos] != "[":
        return False
    end = state.md.helpers.parseLinkLabel(state, state.pos, False)
    mark = _LANGUAGE_MARK.match(state.src, end + 1) if end >= 0 else None
    if mark is None or not is_language_code(mark[1].lower()):
        return False
    if not silent:
        start, limit = state.pos + 1, state.posMax
        state.push("span_open", "span", 1).attrs = {"lang": mark[1].lower()}
        state.pos, state.posMax = start, end
        state.md.inline.tokenize(state)
        state.push("span_close", "span", -1)
        state.posMax = limit
    state.pos = mark.end()
    return True


class _Parser(MarkdownIt):
    """Takes every address for a link: the library would leave a refused one as text without a word.

    `check_body` says what is wrong with it, and the renderers drop the address.
    """

    def validateLink(self, url: str) -> bool:  # noqa: ARG002, N802 - the library's name
        return True


def _parser(*, html: bool, rules: tuple[str, ...]) -> MarkdownIt:
    parser = _Parser("commonmark", {"html": html, "maxNesting": 100})
    parser.enable("table")
    parser.disable([rule for rule in ("code", "hr", "fence", "lheading") if rule not in rules])
    parser.inline.ruler.before("link", "language_span", _language_span)
    # Its rules are compiled by the first text: two threads of the site that have one at once would share half of them.
    parser.parse("text")
    return parser


@lru_cache(maxsize=1)
def _renderer() -> MarkdownIt:
    return _parser(html=False, rules=())


@lru_cache(maxsize=1)
def _detector() -> MarkdownIt:
    """The parser that also knows what is refused, to name it and its line."""
    return _parser(html=True, rules=("hr", "fence", "lheading"))


def parse(body: str) -> list[Token]:
    """The tokens of `body`, new ones at each call. Raw HTML in it is text."""
    return _renderer().parse(_lines(body))


def _lines(body: str) -> str:
    return body.replace("\r\n", "\n").replace("\r", "\n")


def check_words(words: str, what: str, line: int = 1) -> list[Finding]:
    """Control and direction characters in `words`; `what` names the thing, such as `the title`."""
    found = []
    for number, part in enumerate(words.split("\n"), start=line):
        for pattern, kind in ((_CONTROL, "a control character"), (_BIDI, "a character that turns the text around")):
            match = pattern.search(part)
            if match:
                found.append(
                    Finding(
                        number, f"{what} holds {kind}, U+{ord(match[0]):04X}, at column {match.start() + 1}; delete it"
                    )
                )
    return found


def check_body(body: str, images: Collection[str]) -> list[Finding]:
    """All that a body may not hold, by line; `images` are the names of the files in the issue's folder."""
    text = _lines(body)
    found = set(check_words(text, "the text"))
    found.update(_raw_html(text))
    for line, token in _with_lines(parse(text)):
        found.update(Finding(line, message) for message in _refusals(token, images))
    return sorted(found)


def _with_lines(tokens: list[Token]) -> Iterator[tuple[int, Token]]:
    """Each token, blocks and what stands in them, with its line."""
    line = 1
    for token in tokens:
        if token.map is not None:
            line = token.map[0] + 1
        yield line, token
        here = line
        for child in token.children or []:
            yield here, child
            here += child.type in ("softbreak", "hardbreak")


def _raw_html(text: str) -> Iterator[Finding]:
    for line, token in _with_lines(_detector().parse(text)):
        if token.type in ("html_block", "html_inline"):
            name = _TAG_NAME.match(token.content.strip())
            # An MJML tag means nothing in a text: it comes out as it was typed.
            if name is None or not name[1].lower().startswith("mj"):
                shown = token.content.strip().splitlines()[0][:40]
                yield Finding(line, f'raw HTML "{shown}" is not sent; write it in Markdown or put it in a `code span`')
        elif token.type in ("hr", "fence"):
            yield Finding(line, _NOT_SUPPORTED[token.type])
        elif token.type == "heading_open" and token.markup in ("=", "-"):
            yield Finding(line, _NOT_SUPPORTED["lheading"])


def _refusals(token: Token, images: Collection[str]) -> Iterator[str]:
    if token.level > _DEEPEST:
        yield f"lists and quotes are nested deeper than {_DEEPEST} levels; flatten them"
    if token.type == "heading_open" and int(token.tag[1]) < _SHALLOWEST_HEADING:
        yield f'heading "{token.markup} …" stands at or above the article\'s own; begin with ### for the first level'
    elif token.type == "link_open":
        problem = problem_of_link(str(token.attrGet("href") or ""), images)
        if problem:
            yield problem
    elif token.type == "image":
        yield from _image_refusals(token, images)
    elif token.type == "span_open":
        try:
            locale_of(str(token.attrGet("lang")))
        except InvalidInputError:
            yield f'language "{token.attrGet("lang")}" of a passage is not known; write one as in [слова]{{lang=ru}}'
    elif token.type in ("text", "code_inline"):
        # Entities such as &#8238; are characters only now.
        yield from (finding.message for finding in check_words(token.content, "the text"))


def _image_refusals(token: Token, images: Collection[str]) -> Iterator[str]:
    source = str(token.attrGet("src") or "")
    shown = source if len(source) <= 80 else source[:79] + "…"
    alt = token.content.strip()
    if not alt:
        yield f'image "{shown}" has no description; write ![what it shows]({shown})'
    elif len(alt) > _LONGEST_ALT:
        yield f'the description of image "{shown}" is longer than {_LONGEST_ALT} characters; say the rest in the text'
    if not _FILE_NAME.fullmatch(source):
        yield f'image "{shown}" is not a file of the issue\'s folder; copy it there and write its bare name'
    elif source not in images:
        yield f'image "{shown}" is missing from the issue\'s folder; add the file or correct its name'


def image_names(body: str) -> tuple[str, ...]:
    """The files that the images of `body` name, each once, in order."""
    names = [
        str(child.attrGet("src")) for token in parse(body) for child in token.children or [] if child.type == "image"
    ]
    return tuple(dict.fromkeys(name for name in names if _FILE_NAME.fullmatch(name)))


def spoken(body: str) -> Iterator[tuple[int, str | None, str]]:
    """The words of `body` as they are read, in pieces: line, language where one is marked, words.

    Addresses and code spans are left out; a piece with a line feed ends each block.
    """
    languages: list[str] = []
    for line, token in _with_lines(parse(body)):
        if token.type == "inline":
            languages.clear()
            yield line, None, "\n"
        elif token.type == "span_open":
            languages.append(str(token.attrGet("lang")))
        elif token.type == "span_close" and languages:
            languages.pop()
        elif token.type in ("text", "image"):
            yield line, languages[-1] if languages else None, token.content
        elif token.type in ("softbreak", "hardbreak"):
            yield line, None, " "


def table_columns(body: str) -> Iterator[tuple[int, int]]:
    """For each table of `body` its line and how many columns it has."""
    tokens = parse(body)
    for at, token in enumerate(tokens):
        if token.type == "thead_open":
            end = next(index for index in range(at, len(tokens)) if tokens[index].type == "thead_close")
            line = token.map[0] + 1 if token.map else 1
            yield line, sum(cell.type == "th_open" for cell in tokens[at:end])
