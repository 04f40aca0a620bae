"""MJML templates: checked against what is known to work, because mrml passes unknown tags and attributes in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import mjml

from service.domain.errors import ConfigurationError
from service.render.typography import without_controls

_FONT = {"font-family", "font-size", "font-weight", "font-style", "line-height", "letter-spacing", "color", "align"}
_BOX = {"padding", "padding-top", "padding-bottom", "padding-left", "padding-right", "background-color", "css-class"}
_BORDER = {"border", "border-top", "border-bottom", "border-radius"}
ALLOWED: dict[str, set[str]] = {
    "mjml": {"lang", "dir"},
    "mj-head": set(),
    "mj-title": set(),
    "mj-preview": set(),
    "mj-breakpoint": {"width"},
    "mj-attributes": set(),
    "mj-all": {"font-family"},
    "mj-class": {"name", *_FONT, *_BOX},
    "mj-raw": set(),
    "mj-style": set(),
    "mj-body": {"width", "background-color", "css-class"},
    "mj-section": {*_BOX, *_BORDER},
    "mj-column": {*_BOX, *_BORDER, "width", "vertical-align"},
    "mj-text": {*_FONT, *_BOX, "mj-class", "text-decoration", "height"},
    "mj-divider": {"border-color", "border-width", "border-style", "padding", "css-class"},
    "mj-spacer": {"height", "css-class"},
}
_HINTS = {
    "mj-include": "it loses the container's width; use a Jinja include",
    "mj-html-attributes": "mjml-python raises on it; write the attribute in the HTML of a mj-text",
    "mj-social": "its icons load from a third party; write a link",
    "mj-social-element": "its icons load from a third party; write a link",
    "mj-font": "a web font is fetched from a third party; use the stacks of tokens.py",
    "mj-wrapper": "it is not needed for one column; use mj-section",
    "mj-image": "an image belongs to a text; the Markdown renderer places it",
}
# Stacks that name one of these make MJML add a link to Google Fonts; fonts={} turns that off, and this keeps it off.
_FETCHED_FONTS = re.compile(r"Roboto|Open Sans|Lato|Ubuntu|Droid Sans", re.IGNORECASE)
_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_TAG = re.compile(r"<(/?)(mj-[\w-]+|mjml)((?:\s+[\w:-]+(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'))?)*)\s*(/?)>")
_ATTRIBUTE = re.compile(r"([\w:-]+)(?:\s*=\s*(?:\"([^\"]*)\"|'([^']*)'))?")
_ELEMENT = re.compile(r"<(/?)([A-Za-z][\w:-]*)[^<>]*?(/?)>")
_VOID = frozenset({"br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"})
# A mail of 95 KB is too heavy already (render/inspect); a text may nest 40 quotes or lists.
_LARGEST, _DEEPEST = 2_000_000, 500
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MjmlFinding:
    """One mistake in a template: where it is, and what to do."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


def _blank(match: re.Match[str]) -> str:
    """As long as the match and with its line feeds, so that line numbers stay true."""
    return re.sub(r"[^\n]", "_", match[0])


def check_mjml(source: str, file: str) -> list[MjmlFinding]:
    """The tags and attributes of a template (Jinja in it is looked past) that MJML would drop, fetch or raise on."""
    text = _COMMENT.sub(_blank, _JINJA.sub(_blank, source))
    found = [
        MjmlFinding(file, _line(text, match.start()), f'font "{match[0]}" makes MJML fetch a web font; name another')
        for match in _FETCHED_FONTS.finditer(text)
    ]
    open_tags: list[tuple[str, int]] = []
    for tag in _TAG.finditer(text):
        line = _line(text, tag.start())
        found += [MjmlFinding(file, line, message) for message in _mistakes(tag[2], tag[3], bool(tag[1]), open_tags)]
        if tag[1]:
            if not open_tags or open_tags[-1][0] != tag[2]:
                found.append(MjmlFinding(file, line, f"</{tag[2]}> closes nothing that is open here"))
            else:
                open_tags.pop()
        elif not tag[4]:
            open_tags.append((tag[2], line))
    found += [MjmlFinding(file, line, f"<{name}> is never closed") for name, line in open_tags]
    return sorted(found, key=lambda finding: finding.line)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _mistakes(name: str, attributes: str, closing: bool, open_tags: list[tuple[str, int]]) -> Iterator[str]:
    if closing:
        return
    if name not in ALLOWED:
        close = get_close_matches(name, ALLOWED, 1)
        hint = _HINTS.get(name) or (f"did you mean {close[0]}?" if close else "see ALLOWED in mjml_source.py")
        yield f"<{name}> is not used here: {hint}"
        return
    parent = open_tags[-1][0] if open_tags else ""
    if name == "mj-raw" and parent == "mjml":
        yield "<mj-raw> at the root raises; put it in mj-head or mj-body"
    if name == "mj-body" and parent == "mj-attributes":
        yield "<mj-body> in mj-attributes is ignored; write its attributes on the mj-body itself"
        return
    # In mj-attributes a tag stands for all tags of its name and may say what they may say.
    for attribute in _ATTRIBUTE.finditer(attributes):
        if attribute[1] not in ALLOWED[name]:
            close = get_close_matches(attribute[1], ALLOWED[name], 1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(sorted(ALLOWED[name])) or 'none'}"
            if name == "mj-style" and attribute[1] == "inline":
                hint = "mjml-python does not inline it; write the style in the tag"
            yield f'attribute "{attribute[1]}" of <{name}> is passed over in silence: {hint}'


def check_templates(folder: Path) -> list[MjmlFinding]:
    """The mistakes in all `*.mjml.j2` below `folder`."""
    return [
        finding
        for path in sorted(folder.rglob("*.mjml.j2"))
        for finding in check_mjml(path.read_text("utf-8"), path.relative_to(folder).as_posix())
    ]


def to_html(source: str, name: str) -> str:
    """The HTML of MJML `source`, with no font fetched; `name` is for the message where MJML refuses it.

    Raises ConfigurationError: what MJML cannot read is a mistake in a template, seldom in a text. What would be too
    much for it is not given to it: it ends the process where elements stand some ten thousand deep.
    """
    if len(source) > _LARGEST or _depth(source) > _DEEPEST:
        raise ConfigurationError(
            f"{name} would have more than {_LARGEST // 1000} KB of MJML, or elements more than {_DEEPEST} deep; "
            "shorten or flatten the texts"
        )
    try:
        return str(mjml.mjml2html(without_controls(source), disable_comments=False, fonts={}))
    except ValueError as error:
        raise ConfigurationError(f"{name} is not MJML that can be rendered: {error}; check its tags") from error


def _depth(source: str) -> int:
    """How deep elements stand in one another at the most."""
    deepest = depth = 0
    for tag in _ELEMENT.finditer(source):
        if tag[1]:
            depth = max(0, depth - 1)
        elif not tag[3] and tag[2].lower() not in _VOID:
            depth += 1
            deepest = max(deepest, depth)
    return deepest
