"""A text's Markdown as HTML: with inline styles for the mail, with bare tags for the web."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markupsafe import Markup

from service.render.dates import direction
from service.render.links import problem_of_link
from service.render.markdown import parse
from service.render.pictures import PlacedImage
from service.render.tokens import LIGHT, MONO, SERIF
from service.render.typography import NO_BREAK, bind

MAIL_WIDTH = 536  # CSS pixels of text beside the 32 px on both sides of a 600 px column
_HEAD = 28  # bold letters of a table's head that stand beside each other on a phone, margins and all
_HEADING = 3  # the level in Markdown of the first heading below the article's own


@dataclass(frozen=True, slots=True)
class Dress:
    """How tags look in one place: class and inline style by tag, and the level of the article's own heading."""

    classes: Mapping[str, str]
    styles: Mapping[str, str]
    article_level: int
    width: int | None = None


# Between columns as little as reads well: where a mail program drops the sheet, a phone keeps the margins of a desk.
_CELL = "padding:8px 0 8px 6px;text-align:left;vertical-align:top;border-bottom:1px solid " + LIGHT.rule
MAIL = Dress(
    classes={"a": "lk", "blockquote": "bq", "code": "cd", "th": "tb", "td": "tb"},
    styles={
        "p": "margin:16px 0 0",
        "h3": f"margin:28px 0 0;font-family:{SERIF};font-size:21px;line-height:28px;font-weight:bold",
        "h4": "margin:24px 0 0;font-size:17px;line-height:27px;font-weight:bold",
        "h5": "margin:20px 0 0;font-size:17px;line-height:27px;font-weight:bold",
        "h6": "margin:20px 0 0;font-size:17px;line-height:27px;font-weight:bold",
        "ul": "margin:16px 0 0;padding:0 0 0 26px",
        "ol": "margin:16px 0 0;padding:0 0 0 26px",
        "li": "margin:6px 0 0",
        "blockquote": f"margin:20px 0 0;padding:2px 0 2px 18px;border-left:3px solid {LIGHT.accent}",
        # MJML's cells break words anywhere; in narrow columns that would cut every other word.
        "table": "margin:20px 0 0;width:100%;border-collapse:collapse;font-size:16px;line-height:24px;"
        "word-break:normal;hyphens:auto",
        # Only its head gives way on a phone, so that the words below stay whole.
        "th": f"{_CELL};font-weight:bold;overflow-wrap:anywhere",
        "td": _CELL,
        "a": f"color:{LIGHT.accent};text-decoration:underline",
        "code": f"font-family:{MONO};font-size:16px;background:{LIGHT.code_bg};padding:1px 4px",
        "img": "display:block;width:100%;height:auto;border:0",
    },
    article_level=2,
    width=MAIL_WIDTH,
)
WEB_ISSUE = Dress(classes={}, styles={}, article_level=2)
WEB_ARTICLE = Dress(classes={}, styles={}, article_level=1)

_TAGS = {
    *("p", "h2", "h3", "h4", "h5", "h6", "em", "strong", "code", "a", "ul", "ol", "li", "blockquote"),
    *("table", "thead", "tbody", "tr", "th", "td", "img", "br", "span"),
}
_ATTRIBUTES = {
    "*": {"class", "style"},
    "a": {"href"},
    "ol": {"start"},
    "th": {"scope"},
    "img": {"src", "alt", "width", "height"},
    "span": {"lang", "dir"},
}
_SCHEMES = {"http", "https", "mailto", "cid"}


_OPTIONS = MarkdownIt("commonmark", {"html": False}).options


def body_html(body: str, dress: Dress, images: Mapping[str, PlacedImage], files: Mapping[str, str]) -> Markup:
    """`body` as HTML for `dress`.

    `images` are drawn by file name, `files` are the URLs of files that may be linked to. What `check_body` refuses
    comes out harmless: raw HTML as text, a refused link as its words, an unknown image as its description.
    """
    tokens = parse(body)
    _dress_blocks(tokens, dress, images, files)
    made = RendererHTML().render(tokens, _OPTIONS, {})
    clean = nh3.clean(made, tags=_TAGS, attributes=_ATTRIBUTES, url_schemes=_SCHEMES, link_rel=None)
    # nh3 writes the entity, which is three times as long in a mail that is weighed.
    return Markup(clean.replace("&nbsp;", NO_BREAK).strip())  # noqa: S704 - nh3 has just cleaned it


def _dress_blocks(
    tokens: list[Token], dress: Dress, images: Mapping[str, PlacedImage], files: Mapping[str, str]
) -> None:
    previous = ""
    whole = _whole_heads(tokens)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{_heading_level(int(token.tag[1]), dress)}"
        if token.type == "th_open":
            token.attrSet("scope", "col")
        if token.nesting == 1:
            # The first paragraph of a quote or an item sits at its top edge, the first cell of a row at its start.
            flush = token.type == "paragraph_open" and previous in ("blockquote_open", "list_item_open")
            _put_on(token, dress, flush=flush, first_cell=previous == "tr_open")
            if id(token) in whole:
                _keep_whole(token, dress)
        if token.children:
            token.children = _inline(token.children, dress, images, files)
        previous = token.type


def _whole_heads(tokens: list[Token]) -> set[int]:
    """The ids of those cells of tables' heads whose words are short enough for every column to keep such words whole.

    Where all may give way anywhere, a browser narrows short words as it does long ones, and cuts both.
    """
    whole: set[int] = set()
    head: list[tuple[Token, int]] = []
    for token, following in pairwise(tokens):
        if token.type == "thead_open":
            head = []
        elif token.type == "th_open":
            head.append((token, max(map(len, following.content.split()), default=0)))
        elif token.type == "thead_close":
            whole.update(id(cell) for cell, longest in head if longest * len(head) <= _HEAD)
    return whole


def _keep_whole(token: Token, dress: Dress) -> None:
    if dress.styles:
        token.attrSet("style", str(token.attrGet("style")).replace("overflow-wrap:anywhere", "overflow-wrap:normal"))
    else:
        token.attrSet("class", " ".join(filter(None, (str(token.attrGet("class") or ""), "whole"))))


def _heading_level(level: int, dress: Dress) -> int:
    return min(6, max(level - _HEADING, 0) + dress.article_level + 1)


def _put_on(token: Token, dress: Dress, *, flush: bool = False, first_cell: bool = False) -> None:
    if token.tag in dress.classes:
        token.attrSet("class", dress.classes[token.tag])
    style = "margin:0" if flush and dress.styles else dress.styles.get(token.tag, "")
    if first_cell:
        style = style.replace("6px", "0", 1)
    if token.tag in ("ul", "ol") and token.level > 0:
        style = style.replace("16px", "0", 1)
    # A table's cell brings its alignment; said last, it wins.
    own = str(token.attrs.pop("style", ""))
    if own and not dress.styles:
        # A page's policy allows no inline style: its stylesheet knows what stands to the right as numbers.
        if "right" in own:
            token.attrSet("class", "number")
        own = ""
    joined = ";".join(part for part in (style, own) if part)
    if joined:
        token.attrSet("style", joined)


def _inline(
    children: list[Token], dress: Dress, images: Mapping[str, PlacedImage], files: Mapping[str, str]
) -> list[Token]:
    kept: list[Token] = []
    refused: list[bool] = []
    for token in children:
        if token.type == "link_open":
            refused.append(not _aim(token, files))
            if refused[-1]:
                continue
        elif token.type == "link_close" and refused.pop():
            continue
        kept.append(_inline_token(token, dress, images))
    return kept


def _aim(token: Token, files: Mapping[str, str]) -> bool:
    """Point the link where it leads from outside the folder; False where it may not lead anywhere."""
    href = str(token.attrGet("href") or "")
    if problem_of_link(href, files):
        return False
    # A title would be a tooltip: unreadable on a phone and by keyboard.
    token.attrs = {"href": files.get(href, href)}
    return True


def _inline_token(token: Token, dress: Dress, images: Mapping[str, PlacedImage]) -> Token:
    if token.type == "softbreak":
        # MJML drops white space that holds a line feed between two tags, and glues the words together.
        return Token("text", "", 0, content=" ")
    if token.type == "text":
        token.content = bind(token.content)
    elif token.type == "image":
        return _image(token, dress, images)
    elif token.type == "span_open":
        token.attrSet("dir", direction(str(token.attrGet("lang"))))
    if token.nesting == 1 or token.type == "code_inline":
        _put_on(token, dress)
    return token


def _image(token: Token, dress: Dress, images: Mapping[str, PlacedImage]) -> Token:
    placed = images.get(str(token.attrGet("src") or ""))
    if placed is None:
        return Token("text", "", 0, content=token.content)
    token.attrs = {"src": placed.url, "alt": ""}
    if placed.width and placed.height:
        # Outlook draws an image as wide as its attribute says, whatever the style says.
        width = min(placed.width, dress.width or placed.width)
        token.attrSet("width", str(width))
        if dress.width is None:
            token.attrSet("height", str(placed.height))
    _put_on(token, dress)
    if dress.width and placed.width and placed.width < dress.width:
        token.attrSet("style", str(token.attrGet("style")) + f";max-width:{placed.width}px")
    return token
