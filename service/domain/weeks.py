"""ISO weeks, the identity of an issue: `2019-W22` runs from Monday to Sunday."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass

from service.domain.errors import InvalidInputError

_WEEK = re.compile(r"([0-9]{4})-W([0-9]{2})")


@dataclass(frozen=True, slots=True, order=True)
class Week:
    """One ISO 8601 week."""

    year: int
    number: int

    def __post_init__(self) -> None:
        try:
            dt.date.fromisocalendar(self.year, self.number, 1)
        except ValueError:
            raise InvalidInputError(f'week "{self}" does not exist; ISO weeks are written like 2019-W22') from None

    @classmethod
    def parse(cls, text: str) -> Week:
        """The week written as `2019-W22`; raises InvalidInputError for anything else."""
        match = _WEEK.fullmatch(text.strip())
        if match is None:
            raise InvalidInputError(f'week "{text}" is not an ISO week such as 2019-W22')
        return cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, day: dt.date) -> Week:
        """The week that holds `day`."""
        iso = day.isocalendar()
        return cls(iso.year, iso.week)

    @property
    def monday(self) -> dt.date:
        """The first day."""
        return dt.date.fromisocalendar(self.year, self.number, 1)

    @property
    def sunday(self) -> dt.date:
        """The last day."""
        return dt.date.fromisocalendar(self.year, self.number, 7)

    def shifted(self, weeks: int) -> Week:
        """The week that many weeks later (earlier, if negative)."""
        return Week.of(self.monday + dt.timedelta(weeks=weeks))

    def __str__(self) -> str:
        return f"{self.year:04d}-W{self.number:02d}"
