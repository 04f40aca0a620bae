"""Numbers and dates of a text in one spelling for all languages, to hold a translation against its source."""

from __future__ import annotations

import re
from functools import lru_cache

from service.domain.content import Text
from service.render.dates import locale_of
from service.render.inspect.remark import Remark
from service.render.markdown import spoken
from service.render.typography import unbind

_DAY = r"(?<!\d)([0-3]?\d)(?:st|nd|rd|th|-?(?:го|га|е))?"
_DASH = r"(?:\s*[-–—]\s*| (?:to|and|да|па|і|по|и) )"
_TIME = re.compile(r"(?<![\d:.,])([01]?\d|2[0-3]):([0-5]\d)(?!\d)")
_NUMERIC_DATE = re.compile(r"(?<!\d)([0-3]?\d)\.([01]?\d)\.(\d{4})(?!\d)")
# Stands where a date or time was read, so that what is left around it does not join.
_TAKEN = " · "
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)")


@lru_cache(maxsize=16)
def _months(language: str) -> dict[str, int]:
    """The names of the months in lower case, in each form Babel knows."""
    months = locale_of(language).months
    names: dict[str, int] = {}
    for form in ("format", "stand-alone"):
        for width in ("wide", "abbreviated"):
            names.update({name.lower().rstrip("."): number for number, name in months[form][width].items()})
    return {name: number for name, number in names.items() if len(name) > 2}


@lru_cache(maxsize=16)
def _date_patterns(language: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """`28–31 мая` and `May 28th–31st`, with one day or two."""
    month = "(" + "|".join(sorted(map(re.escape, _months(language)), key=len, reverse=True)) + r")\b\.?"
    return (
        re.compile(rf"(?:{_DAY}{_DASH})?{_DAY}(?: of)? {month}", re.IGNORECASE),
        re.compile(rf"\b{month} {_DAY}\b(?:{_DASH}{_DAY}\b(?! {month}))?", re.IGNORECASE),
    )


def facts(words: str, language: str) -> frozenset[str]:
    """The dates (`05-28`), times (`9:30`) and numbers (`4.5`, `1200`) of `words`, however they are written."""
    found: set[str] = set()
    text = unbind(words).replace("\u202f", " ").replace("\u2009", " ")

    def date(match: re.Match[str]) -> str:
        groups = [group for group in match.groups() if group]
        month = next(_months(language)[group.lower()] for group in groups if not group.isdigit())
        found.update(f"{month:02d}-{int(group):02d}" for group in groups if group.isdigit())
        return _TAKEN

    def numeric_date(match: re.Match[str]) -> str:
        found.update((f"{int(match[2]):02d}-{int(match[1]):02d}", match[3]))
        return _TAKEN

    def time(match: re.Match[str]) -> str:
        found.add(f"{int(match[1])}:{match[2]}")
        return _TAKEN

    for pattern in _date_patterns(language):
        text = pattern.sub(date, text)
    text = _TIME.sub(time, _NUMERIC_DATE.sub(numeric_date, text))
    return frozenset(found | _numbers(text, language))


def _numbers(text: str, language: str) -> set[str]:
    symbols = locale_of(language).number_symbols["latn"]
    decimal, group = str(symbols["decimal"]), str(symbols["group"])
    joined = _SPACED_THOUSANDS.sub(lambda match: match[0].replace(" ", ""), text)
    if group in ".,":
        joined = re.sub(rf"(?<=\d){re.escape(group)}(?=\d{{3}}(?!\d))", "", joined)
    number = re.compile(rf"(?<!\d)\d+(?:{re.escape(decimal)}\d+)?")
    return {_canonical(match[0].replace(decimal, ".")) for match in number.finditer(joined)}


def _canonical(number: str) -> str:
    whole, _point, fraction = number.partition(".")
    fraction = fraction.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def _all_facts(text: Text) -> frozenset[str]:
    body = "".join(words for _line, language, words in spoken(text.body) if language in (None, text.language))
    return facts(f"{text.title} \n{text.lead} \n{body}", text.language)


def differing_facts(source: Text, translation: Text) -> list[Remark]:
    """Numbers and dates that stand in only one of the two; a hint, since a number may be spelled out in one of them."""
    first, second = _all_facts(source), _all_facts(translation)
    remarks = [
        Remark("facts", False, f"{fact} stands in {source.language} but not in {translation.language}; compare the two")
        for fact in sorted(first - second)
    ]
    return remarks + [
        Remark("facts", False, f"{fact} stands in {translation.language} but not in {source.language}; compare the two")
        for fact in sorted(second - first)
    ]
