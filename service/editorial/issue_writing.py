"""Writing an issue's folder, so that reading it gives the same issue again."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.domain.content import Article, Issue, Text
from service.domain.errors import ConflictError, InvalidInputError
from service.editorial import front_matter
from service.editorial.issue_folder import NAME

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """Where an issue was written, and which files that wrote or removed."""

    folder: Path
    written: tuple[str, ...]
    removed: tuple[str, ...]


def export_issue(issue: Issue, target: Path, *, replace: bool = False, dry_run: bool = False) -> ExportReport:
    """Write `issue` into `target`, or into its sub-folder named after the week where `target` is named otherwise.

    A folder that holds other files is left alone with a ConflictError, unless `replace`: then they are written over,
    and those that are no part of the issue are removed. Each file is replaced whole. Raises InvalidInputError for a
    folder that cannot be written.
    """
    folder = target if target.resolve().name == str(issue.week) else target / str(issue.week)
    files = files_of(issue)
    try:
        present = _present(folder)
        written = tuple(name for name, data in files.items() if present.get(name) != data)
        removed = tuple(name for name in present if name not in files)
        touched = sorted({*removed, *(name for name in written if name in present)})
        if touched and not replace:
            raise ConflictError(f"{folder} holds other files ({', '.join(touched)}); say --replace to write over them")
        if not dry_run:
            folder.mkdir(parents=True, exist_ok=True)
            for name in written:
                _write(folder / name, files[name])
            for name in removed:
                (folder / name).unlink()
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be written ({error.strerror or type(error).__name__})") from None
    return ExportReport(folder, written, removed)


def _present(folder: Path) -> dict[str, bytes]:
    """The files that an import would read."""
    if not folder.exists():
        return {}
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".") and not path.name.endswith("~")]
    for path in paths:
        if path.is_symlink() or not path.is_file():
            raise ConflictError(f"{path} is no ordinary file; export into a folder of its own")
    return {path.name: path.read_bytes() for path in paths}


def _write(path: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".tydzen-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        # mkstemp makes it private; a file for git is not.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def files_of(issue: Issue) -> dict[str, bytes]:
    """The folder's files by name."""
    files = {NAME: _issue_toml(issue).encode()}
    for article in issue.articles:
        for text in article.texts.values():
            files[f"{article.slug}.{text.language}.md"] = text_file(text).encode()
    files.update({asset.name: asset.data for asset in issue.assets})
    return files


def text_file(text: Text) -> str:
    """The file of one text: its words, its status and the source that it was made from."""
    values = {"title": text.title, "lead": text.lead, "status": text.status.value}
    if text.translated_from:
        values["translated_from"] = text.translated_from
    return front_matter.join(values, text.body)


def _issue_toml(issue: Issue) -> str:
    parts = [f"week = {_quoted(str(issue.week))}\n"]
    if issue.subjects:
        parts.append(
            "[subject]\n"
            + _pairs({_key(language): _quoted(words) for language, words in sorted(issue.subjects.items())})
        )
    parts += ["[[articles]]\n" + _pairs(_article(article)) for article in issue.articles]
    return "\n".join(parts)


def _article(article: Article) -> Mapping[str, str]:
    pairs = {"slug": _quoted(article.slug), "section": _quoted(article.section)}
    if article.trend:
        pairs["trend"] = _quoted(article.trend.value)
    pairs["source"] = _quoted(article.source)
    if article.authors:
        pairs["authors"] = _list(article.authors)
    if article.aliases:
        pairs["aliases"] = _list(article.aliases)
    return pairs


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_quoted, texts))}]"


def _pairs(pairs: Mapping[str, str]) -> str:
    return "".join(f"{key} = {value}\n" for key, value in pairs.items())


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
