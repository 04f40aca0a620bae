"""Reading one article in one language: `<slug>.<language>.md`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from pathlib import Path

from service.domain.content import Text, TextStatus
from service.editorial import front_matter, plain_file
from service.editorial.front_matter import FrontMatter
from service.editorial.problems import Problems
from service.editorial.toml_file import problem_of_line
from service.render.markdown import check_body

KEYS = ("title", "lead", "status", "translated_from")
_IN_ISSUE_TOML = ("slug", "section", "trend", "source", "authors", "author", "aliases", "week")
_HASH = re.compile(r"[0-9a-f]{8,64}")


def read_text(
    path: Path, language: str, *, is_source: bool, images: Collection[str], problems: Problems
) -> Text | None:
    """The text in that file; None where it cannot be read. Everything wrong in it is noted with its line."""
    content = plain_file.text(path, problems)
    if content is None:
        return None
    head = front_matter.split(content)
    for line, message in head.problems:
        problems.add(path, line, message)
    _only_known(head, path, problems)
    status = _status(head, path, problems)
    if not head.values.get("title", "").strip() and status is not TextStatus.EMPTY and not head.problems:
        problems.add(path, head.lines.get("title", 1), "title is missing; write title: …")
    for key in ("title", "lead"):
        problem = problem_of_line(head.values.get(key, ""), f"the {key}")
        if problem:
            problems.add(path, head.lines[key], problem)
    for finding in check_body(head.body, images):
        problems.add(path, head.body_line + finding.line - 1, finding.message)
    return Text(
        language=language,
        title=head.values.get("title", ""),
        lead=head.values.get("lead", ""),
        body=head.body,
        status=status,
        translated_from=_translated_from(head, path, problems, is_source=is_source),
    )


def _only_known(head: FrontMatter, path: Path, problems: Problems) -> None:
    for key, line in head.lines.items():
        if key in _IN_ISSUE_TOML:
            problems.add(path, line, f"{key} is the same in all languages; write it in issue.toml")
        elif key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, 1)
            mend = f"do you mean {close[0]}?" if close else f"there are {', '.join(KEYS)}"
            problems.add(path, line, f'"{key}" is not known here; {mend}')


def _status(head: FrontMatter, path: Path, problems: Problems) -> TextStatus:
    if "status" not in head.values:
        return TextStatus.DRAFT
    written = head.values["status"]
    line = head.lines["status"]
    try:
        status = TextStatus(written)
    except ValueError:
        problems.add(path, line, f'status "{written}" is not one of {", ".join(TextStatus)}')
        return TextStatus.DRAFT
    written_something = head.body or any(head.values.get(key) for key in ("title", "lead"))
    if status is TextStatus.EMPTY and written_something:
        problems.add(path, line, "status is empty, but the text is not; make it draft")
    if status in (TextStatus.READY, TextStatus.APPROVED) and not (head.values.get("title") and head.body):
        problems.add(path, line, f"status is {status}, but the text has no title or no body; make it draft")
    return status


def _translated_from(head: FrontMatter, path: Path, problems: Problems, *, is_source: bool) -> str | None:
    found = head.values.get("translated_from")
    if not found:
        return None
    line = head.lines["translated_from"]
    if is_source:
        problems.add(path, line, "translated_from stands in the source text itself; take the line out")
    elif not _HASH.fullmatch(found):
        problems.add(path, line, "translated_from is no content hash (8 to 64 hexadecimal digits); take the line out")
    return found
