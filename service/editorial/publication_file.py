"""publication.toml: the weekly itself, read with file and line for everything that is wrong in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from service.domain.chains import is_language_code
from service.domain.content import Publication, Section, Trend, TrendWording
from service.domain.errors import InvalidInputError
from service.domain.web_address import is_base_url
from service.domain.weeks import Week
from service.editorial import toml_file
from service.editorial.problems import Problems
from service.editorial.toml_file import Table
from service.mail.address import envelope_address, envelope_domain
from service.render.dates import locale_of

NAME = "publication.toml"

_KEY = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SLUG = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
_PAGES = {"issues", "privacy", "subscribe"}
_LOCAL = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_LETTER = re.compile(r"[^\W_]")
_LABEL = re.compile(r"[^\W_](?:[\w-]*[^\W_])?")
_PLACE = re.compile(r"\{([^{}]*)\}")
_PLACES = ("range", "title")
_LONGEST_LANGUAGE = 16
_SETTINGS = (
    "key",
    "timezone",
    "week_start",
    "base_url",
    "languages",
    "sender",
    "reply_to",
    "operators",
    "list_id",
    "postal_address",
)


def read_publication(path: Path) -> Publication:
    """The publication in that file, or in publication.toml of that folder.

    Raises BadFilesError with every problem; no message holds an address.
    """
    file = path / NAME if path.is_dir() else path
    problems = Problems()
    top = toml_file.read(file, problems)
    problems.stop_if_any()
    assert top is not None
    publication = _publication(top)
    problems.stop_if_any()
    return publication


def _publication(top: Table) -> Publication:
    top.only("publication", "title", "tagline", "subject", "sections", "trend")
    main = top.table("publication")
    main.only(*_SETTINGS)
    languages = _languages(main)
    made = Publication(
        key=_key(main, "key"),
        timezone=_timezone(main),
        base_url=_base_url(main),
        languages=languages,
        sender=_address(main, "sender"),
        reply_to=_address(main, "reply_to") if "reply_to" in main else None,
        operators=_operators(main),
        list_id=_list_id(main),
        postal_address=main.string("postal_address", "bulk mail must name one in many countries").strip(),
        titles=top.words("title", languages),
        taglines=top.words("tagline", languages),
        subjects=_subjects(top, languages),
        sections=_sections(top, languages),
        trends=_trends(top, languages),
    )
    week_start = main.optional("week_start") or made.week_start
    if week_start != made.week_start:
        main.problem(f'week_start "{week_start}" is not possible: ISO weeks begin on monday', "week_start")
    return replace(made, week_start=week_start)


def _languages(main: Table) -> tuple[str, ...]:
    languages = main.strings("languages")
    if not languages:
        main.problem('languages is missing; write languages = ["en", "be"], the most important first')
    for number, code in enumerate(languages):
        if code == "by":
            main.problem('language "by" is the country; Belarusian is be', "languages", number)
        elif not is_language_code(code) or len(code) > _LONGEST_LANGUAGE:
            main.problem(f'language "{code}" is not a BCP 47 code in lower case such as be', "languages", number)
        elif code in languages[:number]:
            main.problem(f'language "{code}" stands there twice', "languages", number)
        else:
            _has_locale(main, code, number)
    return languages


def _has_locale(main: Table, code: str, number: int) -> None:
    try:
        locale_of(code)
    except InvalidInputError as error:
        main.problem(str(error), "languages", number)


def _key(table: Table, name: str) -> str:
    key = table.string(name)
    if key and (not _KEY.fullmatch(key) or len(key) > 64):
        table.problem(f'{name} "{key}" is not made of a–z, 0–9 and single hyphens, 64 characters at the most', name)
    return key


def _timezone(main: Table) -> str:
    name = main.string("timezone", 'write timezone = "Europe/Minsk"')
    try:
        if name:
            ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        main.problem(f'time zone "{name}" is not known; use an IANA name such as Europe/Minsk', "timezone")
    return name


def _base_url(main: Table) -> str:
    url = main.string("base_url", 'write base_url = "https://weekly.example.org"')
    if not url:
        return ""
    if not is_base_url(url):
        main.problem(f'base_url "{url}" is not an address such as https://weekly.example.org', "base_url")
    elif not url.isascii():
        # Every mail names it in headers, which hold ASCII alone.
        main.problem(f'base_url "{url}" is not ASCII; write {_ascii_url(url)}', "base_url")
    return url.rstrip("/")


def _ascii_url(url: str) -> str:
    """`url` with its host in A-labels and its path in percent signs."""
    parts = urlsplit(url)
    host, colon, port = parts.netloc.partition(":")
    try:
        host = envelope_domain(host)
    except InvalidInputError:
        host = "weekly.example.org"
    return parts._replace(netloc=host + colon + port, path=quote(parts.path, safe="/%")).geturl()


def _operators(main: Table) -> tuple[str, ...]:
    operators = main.strings("operators")
    if not operators:
        main.problem("operators is missing; name at least one address that alerts go to")
    for number, address in enumerate(operators):
        if not is_address(address):
            wrong = _wrong_with(address, "is not a mail address such as desk@example.org")
            main.problem(f"operator {number + 1} {wrong}", "operators", number)
    return operators


def _address(main: Table, name: str) -> str:
    address = main.string(name)
    if address and not is_address(address):
        wrong = _wrong_with(address, "is not a bare mail address such as weekly@example.org")
        main.problem(f"{name} {wrong}", name)
    return address


def is_address(text: str) -> bool:
    """Whether `text` is an address that the service can send from: an ASCII local part, a domain in any script."""
    local, _, domain = text.rpartition("@")
    if not _LOCAL.fullmatch(local) or not _is_domain(domain):
        return False
    try:
        return len(envelope_address(text)) <= 254
    except InvalidInputError:
        return False


def _wrong_with(address: str, else_: str) -> str:
    """What is wrong with what is no address, and the mend, without repeating it."""
    local, _, domain = address.rpartition("@")
    if local.isascii() or not is_address(f"{_LETTER.sub('a', local)}@{domain}"):
        return else_
    return "has letters before the @ that are not ASCII; write it like weekly@example.org"


def _is_domain(text: str) -> bool:
    """Whether `text` is a domain that DNS can hold, in any script."""
    if not all(map(_LABEL.fullmatch, text.split("."))):
        return False
    try:
        envelope_domain(text)
    except InvalidInputError:
        return False
    return True


def _list_id(main: Table) -> str:
    list_id = main.string("list_id", 'write list_id = "weekly.example.org"; it never changes again')
    if list_id and not ("." in list_id and _is_domain(list_id)):
        main.problem(f'list_id "{list_id}" is not a name such as weekly.example.org', "list_id")
    elif not list_id.isascii():
        main.problem(f'list_id "{list_id}" is not ASCII; write {envelope_domain(list_id)}', "list_id")
    return list_id


def _subjects(top: Table, languages: tuple[str, ...]) -> dict[str, str]:
    subjects = top.words("subject", languages)
    for language, pattern in subjects.items():
        for place in unknown_places(pattern):
            top.problem(
                f'the subject names "{{{place}}}", which nobody fills; there are {{range}} and {{title}}',
                "subject",
                language,
            )
    return subjects


def unknown_places(pattern: str) -> list[str]:
    """The `{names}` in a subject that rendering does not fill."""
    return [place for place in _PLACE.findall(pattern) if place not in _PLACES]


def _sections(top: Table, languages: tuple[str, ...]) -> tuple[Section, ...]:
    tables = top.tables("sections")
    if not tables:
        top.problem("there are no sections; write [[sections]] with a key, titles and slugs for each")
    made: list[Section] = []
    for table in tables:
        section = _section(table, languages)
        if section.key in {other.key for other in made}:
            table.problem(f'section "{section.key}" stands there twice', "key")
        made.append(section)
    _unique_slugs(tables, made)
    return tuple(made)


def _section(table: Table, languages: tuple[str, ...]) -> Section:
    table.only("key", "titles", "slugs", "aliases", "active_from", "active_until")
    aliases = table.table("aliases")
    for language in aliases.keys:
        if language not in languages:
            aliases.problem(f'language "{language}" is not one of {", ".join(languages)}', language)
    first, last = table.parsed("active_from", Week.parse), table.parsed("active_until", Week.parse)
    if first and last and last < first:
        table.problem(f"active_until {last} is before active_from {first}", "active_until")
    return Section(
        key=_key(table, "key"),
        titles=table.words("titles", languages),
        slugs=table.words("slugs", languages),
        aliases={language: aliases.strings(language) for language in languages if language in aliases},
        active_from=first,
        active_until=last,
    )


def _unique_slugs(tables: list[Table], made: list[Section]) -> None:
    taken: dict[tuple[str, str], str] = {}
    for table, section in zip(tables, made, strict=True):
        for kind, language, slug in _slugs(section):
            if not _SLUG.fullmatch(slug) or slug != slug.lower():
                table.problem(f'"{slug}" is not made of lower-case letters, digits and single hyphens', kind, language)
            if slug in _PAGES:
                table.problem(f'"{slug}" is a page of the site itself; choose another', kind, language)
            other = taken.setdefault((language, slug), section.key)
            if other != section.key or (kind == "aliases" and section.slugs.get(language) == slug):
                table.problem(f'"{slug}" is taken in {language} by section "{other}"; choose another', kind, language)


def _slugs(section: Section) -> list[tuple[str, str, str]]:
    own = [("slugs", language, slug) for language, slug in section.slugs.items() if slug]
    return own + [("aliases", language, slug) for language, slugs in section.aliases.items() for slug in slugs if slug]


def _trends(top: Table, languages: tuple[str, ...]) -> Mapping[Trend, TrendWording]:
    scale = top.table("trend")
    scale.only(*(trend.value for trend in Trend))
    made = {}
    for trend in Trend:
        table = scale.table(trend.value)
        table.only("long", "short")
        made[trend] = TrendWording(table.words("long", languages), table.words("short", languages))
    return made
