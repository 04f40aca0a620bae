"""Reading an issue's folder: issue.toml, one Markdown file per article and language, and images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from service.domain.content import Article, Asset, Issue, Publication, Text, Trend
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.weeks import Week
from service.editorial import toml_file
from service.editorial.pictures_in_folder import read_image
from service.editorial.problems import Problems
from service.editorial.publication_file import unknown_places
from service.editorial.text_file import read_text
from service.editorial.toml_file import Table

NAME = "issue.toml"

_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_LONGEST_SLUG = 120
_TEXT_NAME = re.compile(r"(?P<slug>.+)\.(?P<language>[^.]+)\.md")
_MOST_FILES = 1000


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of a folder by what they are; texts by (slug, language)."""

    texts: dict[tuple[str, str], Path]
    others: list[Path]

    @property
    def images(self) -> frozenset[str]:
        """The names that a text may show."""
        return frozenset(path.name for path in self.others)


def read_issue(folder: Path, publication: Publication) -> Issue:
    """The issue in `folder`, checked against its publication.

    Raises NotFoundError where there is no such folder, and BadFilesError with every problem of every file.
    """
    if not folder.is_dir():
        raise NotFoundError(
            f"{folder}: there is no such folder; an issue is a folder such as 2019-W22 with {NAME} in it"
        )
    problems = Problems()
    top = toml_file.read(folder / NAME, problems)
    files = _files(folder, problems)
    assets = _assets(files.others, problems)
    if top is None:
        problems.stop_if_any()
        raise AssertionError("a file that cannot be read is a problem")
    top.only("week", "subject", "articles")
    week = _week(top, folder)
    articles = tuple(_articles(top, week, publication, files, problems))
    _without_article(files, articles, publication, problems)
    subjects = _subjects(top, publication)
    problems.stop_if_any()
    assert week is not None
    return Issue(week=week, articles=articles, subjects=subjects, assets=assets)


def _files(folder: Path, problems: Problems) -> _Files:
    texts: dict[tuple[str, str], Path] = {}
    others: list[Path] = []
    # Editors' and systems' own leavings are no part of an issue.
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not path.name.endswith("~"))
    if len(paths) > _MOST_FILES:
        problems.add(folder, 0, f"holds more than {_MOST_FILES} files; is it the folder of one issue?")
        return _Files({}, [])
    for path in paths:
        match = _TEXT_NAME.fullmatch(path.name)
        if match:
            texts[match["slug"], match["language"]] = path
        elif path.suffix == ".md":
            problems.add(path, 0, "names no language; name it <slug>.<language>.md, such as sco.be.md")
        elif path.is_dir() and not path.is_symlink():
            problems.add(path, 0, "is a folder; all files of an issue stand beside issue.toml")
        elif path.name != NAME:
            others.append(path)
    return _Files(texts, others)


def _assets(paths: Iterable[Path], problems: Problems) -> tuple[Asset, ...]:
    found = (read_image(path, problems) for path in paths)
    return tuple(asset for asset in found if asset is not None)


def _week(top: Table, folder: Path) -> Week | None:
    if "week" not in top:
        top.problem('week is missing; write week = "2019-W22"')
    week: Week | None = top.parsed("week", Week.parse)
    name = folder.resolve().name
    if week is not None and name != str(week):
        top.problem(f"week {week} does not match the folder's name {name}; correct one of them", "week")
    return week


def _subjects(top: Table, publication: Publication) -> dict[str, str]:
    subjects = top.words("subject", publication.languages, complete=False)
    for language, subject in subjects.items():
        for place in unknown_places(subject):
            top.problem(
                f'the subject names "{{{place}}}", which nobody fills; there are {{range}} and {{title}}',
                "subject",
                language,
            )
    return subjects


def _articles(
    top: Table, week: Week | None, publication: Publication, files: _Files, problems: Problems
) -> Iterable[Article]:
    tables = top.tables("articles")
    if not tables:
        top.problem("there are no articles; write [[articles]] with slug and section for each")
    known: set[str] = set()
    named = []
    for table in tables:
        table.only("slug", "section", "trend", "source", "authors", "aliases")
        slug, aliases = _slug(table, known), _aliases(table)
        named.append((table, aliases))
        source = _source(table, publication)
        yield Article(
            slug=slug,
            section=_section(table, week, publication),
            source=source,
            trend=table.parsed("trend", _trend),
            authors=table.strings("authors"),
            texts=_texts(slug, source, publication, files, problems),
            aliases=aliases,
        )
        if slug and source in publication.languages and (slug, source) not in files.texts:
            table.problem(f"the source text {slug}.{source}.md is missing; add it or correct source", "slug")
    for table, aliases in named:
        for number, alias in enumerate(aliases):
            if alias in known:
                table.problem(f'alias "{alias}" is the slug of an article of this issue', "aliases", number)


def _slug(table: Table, known: set[str]) -> str:
    slug = table.string("slug")
    if slug and (not _SLUG.fullmatch(slug) or len(slug) > _LONGEST_SLUG):
        table.problem(
            f'slug "{slug}" is not made of a–z, 0–9 and single hyphens, {_LONGEST_SLUG} characters at the most', "slug"
        )
    if slug in known:
        table.problem(f'slug "{slug}" stands there twice; each article needs its own', "slug")
    known.add(slug)
    return slug


def _aliases(table: Table) -> tuple[str, ...]:
    """Slugs that the article had before; links to them still work."""
    aliases = table.strings("aliases")
    for number, alias in enumerate(aliases):
        if not _SLUG.fullmatch(alias) or len(alias) > _LONGEST_SLUG:
            table.problem(
                f'alias "{alias}" is not made as a slug is: of a–z, 0–9 and single hyphens', "aliases", number
            )
        elif alias in aliases[:number]:
            table.problem(f'alias "{alias}" stands there twice', "aliases", number)
    return aliases


def _section(table: Table, week: Week | None, publication: Publication) -> str:
    key = table.string("section")
    section = publication.section(key)
    if key and section is None:
        keys = ", ".join(section.key for section in publication.sections)
        table.problem(f'section "{key}" is not one of {keys}', "section")
    elif section and week and not section.active(week):
        table.problem(f'section "{key}" is not active in {week}; choose another or change its active weeks', "section")
    return key


def _source(table: Table, publication: Publication) -> str:
    source = table.optional("source") or publication.languages[0]
    if source not in publication.languages:
        hint = " (Belarusian is be)" if source == "by" else ""
        table.problem(f'language "{source}" is not one of {", ".join(publication.languages)}{hint}', "source")
    return source


def _trend(text: str) -> Trend:
    try:
        return Trend(text)
    except ValueError:
        raise InvalidInputError(f'trend "{text}" is not on the scale ({", ".join(Trend)})') from None


def _texts(slug: str, source: str, publication: Publication, files: _Files, problems: Problems) -> dict[str, Text]:
    found = {}
    for language in publication.languages:
        path = files.texts.get((slug, language))
        if path:
            text = read_text(path, language, is_source=language == source, images=files.images, problems=problems)
            if text:
                found[language] = text
    return found


def _without_article(
    files: _Files, articles: tuple[Article, ...], publication: Publication, problems: Problems
) -> None:
    slugs = {article.slug for article in articles}
    for (slug, language), path in files.texts.items():
        if slug not in slugs:
            problems.add(path, 0, f'slug "{slug}" is not in {NAME}; add an [[articles]] for it or remove the file')
        elif language not in publication.languages:
            hint = " (Belarusian is be)" if language == "by" else ""
            problems.add(path, 0, f'language "{language}" is not one of {", ".join(publication.languages)}{hint}')
