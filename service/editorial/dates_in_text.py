"""Dates that a text names: those that do not exist, and those that fall on another weekday than the text says."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from service.domain.weeks import Week
from service.render.dates import locale_of


@dataclass(frozen=True, slots=True)
class _Language:
    months: dict[str, int]
    weekdays: dict[str, int]
    dates: re.Pattern[str]
    weekday_before: re.Pattern[str]
    weekday_after: re.Pattern[str]


@lru_cache(maxsize=16)
def _language(code: str) -> _Language:
    locale = locale_of(code)
    months: dict[str, int] = {}
    for form in ("format", "stand-alone"):
        months.update({name.lower(): number for number, name in locale.months[form]["wide"].items()})
    # Without their endings: `у сераду` is the same day as `серада`.
    weekdays = {name.lower().rstrip("аяуюь"): number for number, name in locale.days["format"]["wide"].items()}
    month = "(?:" + "|".join(sorted(map(re.escape, months), key=len, reverse=True)) + ")"
    day = "(?:" + "|".join(sorted(map(re.escape, weekdays), key=len, reverse=True)) + r")\w{0,2}"
    date = (
        rf"(?:(?<!\d)(?P<day>\d{{1,2}})(?:st|nd|rd|th|-?(?:го|га|е))?(?: of)? (?P<month>{month})\b"
        rf"|\b(?P<month2>{month}) (?P<day2>\d{{1,2}})(?:st|nd|rd|th)?\b)(?:,? (?P<year>(?:19|20)\d\d)\b)?"
    )
    flags = re.IGNORECASE
    return _Language(
        months,
        weekdays,
        re.compile(date, flags),
        re.compile(rf"\b(?P<weekday>{day}),? (?:the )?$", flags),
        re.compile(rf"^,? ?\(?(?:on |у |ў |в |во )?(?P<weekday>{day})\b", flags),
    )


def wrong_dates(words: str, language: str, week: Week) -> Iterator[tuple[int, str]]:
    """Pairs of line (from 1) and message. A date without a year is taken as the one nearest to the issue's week."""
    known = _language(language)
    text = words.replace("\u00a0", " ")
    for match in known.dates.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        day = int(match["day"] or match["day2"])
        month = known.months[(match["month"] or match["month2"]).lower()]
        years = [int(match["year"])] if match["year"] else _years(week, month)
        possible = [date for date in (_date(year, month, day) for year in years) if date]
        if not possible:
            yield line, f'"{match[0]}" is no date; correct the day or the month'
            continue
        said = known.weekday_before.search(text[: match.start()]) or known.weekday_after.search(text[match.end() :])
        weekday = said and _weekday(said["weekday"].lower(), known.weekdays)
        if said and weekday is not None and weekday not in {date.weekday() for date in possible}:
            yield line, f'"{match[0]}" is no {said["weekday"]} in {possible[0].year}; correct the day or the weekday'


def _years(week: Week, month: int) -> list[int]:
    """The year of a date without one: the nearest to the issue's week."""
    middle = week.monday + dt.timedelta(days=3)
    years = [middle.year]
    if month - middle.month > 6:
        years = [middle.year - 1, middle.year]
    elif middle.month - month > 6:
        years = [middle.year, middle.year + 1]
    return years


def _date(year: int, month: int, day: int) -> dt.date | None:
    try:
        return dt.date(year, month, day)
    except ValueError:
        return None


def _weekday(word: str, weekdays: dict[str, int]) -> int | None:
    return next((number for stem, number in weekdays.items() if word.startswith(stem)), None)
