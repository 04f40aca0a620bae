"""Dates and date ranges as a native writes them, from Babel's patterns, with the language always named."""

from __future__ import annotations

import datetime as dt
import re
from functools import lru_cache

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime

from service.domain.errors import InvalidInputError
from service.domain.weeks import Week

# CLDR puts thin and narrow no-break spaces around dashes and before "г."; many mail fonts draw them as boxes.
_SPACES = str.maketrans({"\u2009": " ", "\u202f": " "})
# Between two bare numbers the thin spaces stand for none: `May 6–12`, as in Belarusian and Russian.
_BETWEEN_NUMBERS = re.compile(r"(?<=\d)\u2009–\u2009(?=\d)")
_ABBREVIATED_MONTH = re.compile(r"(?<!M)MMM(?!M)|(?<!L)LLL(?!L)")


@lru_cache(maxsize=64)
def locale_of(language: str) -> Locale:
    """Babel's locale of a BCP 47 code; raises InvalidInputError for one that Babel has no data for."""
    try:
        return Locale.parse(language, sep="-")
    except (UnknownLocaleError, ValueError):
        raise InvalidInputError(f'no dates or plurals are known for language "{language}"; use a BCP 47 code') from None


def direction(language: str) -> str:
    """`ltr` or `rtl`, for the `dir` attribute."""
    return str(locale_of(language).text_direction)


def date_range(start: dt.date, end: dt.date, language: str) -> str:
    """`27 мая – 2 чэрвеня 2019`: both days, the month and the year said once where they are the same."""
    if start == end:
        return long_date(start, language)
    locale = locale_of(language)
    field = "y" if start.year != end.year else "M" if start.month != end.month else "d"
    # Babel has intervals with abbreviated months only; the wide month in their place is what a native writes.
    first, last = (_ABBREVIATED_MONTH.sub("MMMM", part) for part in locale.interval_formats["yMMMd"][field])
    written = format_date(start, first, locale) + format_date(end, last, locale)
    return _BETWEEN_NUMBERS.sub("–", written).translate(_SPACES)


def week_range(week: Week, language: str) -> str:
    """The week from Monday to Sunday, as `date_range`."""
    return date_range(week.monday, week.sunday, language)


def long_date(day: dt.date, language: str) -> str:
    """`2 чэрвеня 2019`, `June 2, 2019`, `2 июня 2019 г.`: consistent with the ends of `date_range`."""
    locale = locale_of(language)
    last = _ABBREVIATED_MONTH.sub("MMMM", locale.interval_formats["yMMMd"]["M"][1])
    return format_date(day, last, locale).translate(_SPACES)


def date_and_time(moment: dt.datetime, language: str, timezone: str) -> str:
    """The instant in `timezone` (an IANA name), with the weekday's date and the hour: `3 июня 2019 г., 09:00`."""
    if moment.tzinfo is None:
        raise InvalidInputError("a moment without a time zone cannot be written down; pass an aware datetime")
    local = moment.astimezone(_zone(timezone))
    return f"{long_date(local.date(), language)}, {format_datetime(local, 'HH:mm', locale=locale_of(language))}"


def _zone(name: str) -> dt.tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise InvalidInputError(f'time zone "{name}" is not known; use an IANA name such as Europe/Minsk') from None
