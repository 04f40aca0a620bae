"""Who came and who left, week by week and chain by chain, and how many read at present: for operators."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from service.domain.growth import Change
from service.domain.weeks import Week
from service.store import Session, growth, subscribers
from service.store.growth import Sums


@dataclass(frozen=True, slots=True)
class Growth:
    """The sums of the weeks from `first` to `last`, of those alone in which anybody came or went, the oldest first.

    `active` counts the readers of each chain at present, also those whose chain saw no change.
    """

    first: Week
    last: Week
    weeks: Mapping[tuple[Week, str], Sums]
    active: Mapping[str, int]

    def totals(self) -> dict[str, Sums]:
        """The sums of all these weeks together, by chain: of each that has readers or saw a change."""
        chains = {*self.active, *(chain for _, chain in self.weeks)}
        totals = {chain: dict.fromkeys(Change, 0) for chain in sorted(chains)}
        for (_, chain), sums in self.weeks.items():
            for change, readers in sums.items():
                totals[chain][change] += readers
        return totals


def look_back(session: Session, *, weeks: int, now: dt.datetime) -> Growth:
    """The growth of so many weeks, the present one among them."""
    last = Week.of(now.date())
    first = last.shifted(1 - weeks)
    return Growth(first, last, growth.since(session, first), subscribers.active(session))


def together(totals: Mapping[str, Sums]) -> Sums:
    """The sums of all chains."""
    found: Counter[Change] = Counter()
    for sums in totals.values():
        found.update(sums)
    return {change: found[change] for change in Change}
