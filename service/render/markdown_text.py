"""A text's Markdown as plain text: 72 characters wide, links on their own lines below the block that names them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

from markdown_it.tree import SyntaxTreeNode

from service.render.links import problem_of_link
from service.render.markdown import parse

WIDTH = 72


@dataclass(slots=True)
class _Notes:
    """The addresses met so far: `waiting` until the block that names them ends."""

    files: Mapping[str, str]
    picture: str  # empty: only the description
    count: int = 0
    waiting: list[str] = field(default_factory=list)

    def number(self, href: str) -> int:
        self.count += 1
        self.waiting.append(f"[{self.count}] {self.files.get(href, href)}")
        return self.count

    def taken(self) -> list[str]:
        taken, self.waiting = self.waiting, []
        return taken


def body_text(body: str, files: Mapping[str, str], *, picture: str) -> str:
    """`body` as plain text.

    `files` are the URLs of files that may be linked to; `picture` is the word before an image's description.
    """
    notes = _Notes(files, picture)
    blocks: list[str] = []
    for node in SyntaxTreeNode(parse(body)).children:
        blocks.append("\n".join(_block(node, WIDTH, notes)))
        if notes.waiting:
            blocks.append("\n".join(notes.taken()))
    return "\n\n".join(block for block in blocks if block)


def wrapped(text: str, width: int = WIDTH, first: str = "", rest: str = "") -> list[str]:
    """`text` in lines of at most `width` characters; a longer word keeps a line of its own."""
    lines: list[str] = []
    for part in text.split("\n"):
        lines += textwrap.wrap(
            part,
            width,
            initial_indent=rest if lines else first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def _block(node: SyntaxTreeNode, width: int, notes: _Notes) -> list[str]:
    if node.type == "heading":
        words = _inline(node.children, notes)
        lines = wrapped(words, width)
        return [*lines, "-" * max((len(line) for line in lines), default=0)]
    if node.type in ("paragraph", "inline"):
        return wrapped(_inline([node] if node.type == "inline" else node.children, notes), width)
    if node.type in ("bullet_list", "ordered_list"):
        return _list(node, width, notes)
    if node.type == "blockquote":
        return [f"> {line}".rstrip() for line in _blocks(node, width - 2, notes)]
    if node.type == "table":
        return _table(node, width, notes)
    return []


def _blocks(node: SyntaxTreeNode, width: int, notes: _Notes, *, tight: bool = False) -> list[str]:
    lines: list[str] = []
    for child in node.children:
        made = _block(child, width, notes)
        if made and lines and not tight:
            lines.append("")
        lines += made
    return lines


def _list(node: SyntaxTreeNode, width: int, notes: _Notes) -> list[str]:
    lines: list[str] = []
    start = int(node.attrs.get("start", 1)) if node.type == "ordered_list" else 0
    # Tight lists have hidden paragraphs: their items follow each other without an empty line.
    tight = all(child.hidden for item in node.children for child in item.children if child.type == "paragraph")
    for number, item in enumerate(node.children, start=start):
        mark = f"{number}. " if node.type == "ordered_list" else "- "
        made = _blocks(item, max(width - len(mark), 20), notes, tight=tight) or [""]
        if lines and not tight:
            lines.append("")
        lines.append((mark + made[0]).rstrip())
        lines += [(" " * len(mark) + line).rstrip() for line in made[1:]]
    return lines


def _table(node: SyntaxTreeNode, width: int, notes: _Notes) -> list[str]:
    rows = [
        [_inline(cell.children, notes).replace("\n", " ") for cell in row.children]
        for part in node.children
        for row in part.children
    ]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) <= width:
        rows.insert(1, ["-" * each for each in widths])
        right = ["right" in str(cell.attrs.get("style", "")) for cell in node.children[0].children[0].children]
        sizes = list(zip(widths, right, strict=True))
        return [
            "  ".join(
                cell.rjust(size) if to_right else cell.ljust(size)
                for cell, (size, to_right) in zip(row, sizes, strict=True)
            ).rstrip()
            for row in rows
        ]
    # Too wide to stand side by side: each row as a list of "head: cell".
    head, *body = rows
    lines: list[str] = []
    for row in body:
        lines += [""] if lines else []
        for name, cell in zip(head, row, strict=True):
            lines += wrapped(f"{name}: {cell}" if name else cell, width, rest="  ")
    return lines


def _inline(nodes: list[SyntaxTreeNode], notes: _Notes) -> str:
    return "".join(_words(node, notes) for node in nodes)


def _words(node: SyntaxTreeNode, notes: _Notes) -> str:
    if node.type in ("text", "code_inline"):
        return node.content
    if node.type == "softbreak":
        return " "
    if node.type == "hardbreak":
        return "\n"
    if node.type == "image":
        return f"[{notes.picture}: {node.content}]" if notes.picture else node.content
    words = _inline(node.children, notes)
    if node.type == "link":
        href = str(node.attrGet("href") or "")
        if problem_of_link(href, notes.files) is None:
            return f"{words} [{notes.number(href)}]"
    return words
