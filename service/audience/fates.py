"""What logs of departures say of each address, read together. Weeks are all they tell of time.

Within one log the lines count in their order. Against another log a return counts from the week after a departure on:
in one and the same week nobody can say which came first, and who left stays away.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from service.domain.subscriber import LIFTED_BY_CONFIRMATION, SuppressionReason
from service.domain.weeks import Week
from service.store.departures import Departure, Step


@dataclass(slots=True)
class Fate:
    """How an address left, if it did and nothing undid it, each time with the newest week."""

    left: Week | None = None
    erased: Week | None = None
    suppressed: dict[SuppressionReason, Week] = field(default_factory=dict)
    # When what may undo departures of other logs was written last.
    confirmed: Week | None = None
    lifted: Week | None = None

    def follow(self, departure: Departure) -> None:
        """Take in the next line of the same log."""
        week = departure.week
        match departure.step:
            case Step.UNSUBSCRIBED:
                self.left = week
            case Step.CONFIRMED:
                self.confirmed = week
                self._come_back(None)
            case Step.LIFTED:
                self.lifted = week
                self.suppressed.clear()
            case step:
                self.erased = week if step is Step.ERASED else self.erased
                self.suppressed[SuppressionReason(step.value)] = week

    def outweigh(
        self, *, confirmed: Week | None = None, lifted: Week | None = None, arrived: Week | None = None
    ) -> None:
        """Undo what is older than those weeks; they are another log's, or the database's own.

        A mail that arrived says of a mailbox that it is not gone, and nothing else.
        """
        if confirmed is not None:
            self._come_back(confirmed)
        for reason, week in list(self.suppressed.items()):
            gone_not = arrived is not None and reason is SuppressionReason.BOUNCED and week < arrived
            if gone_not or (lifted is not None and week < lifted):
                del self.suppressed[reason]

    def _come_back(self, before: Week | None) -> None:
        """Undo what a confirmation undoes, all or what is older; a complaint or an operator's word is not."""

        def stands(week: Week | None) -> bool:
            return before is not None and week is not None and week >= before

        self.left = self.left if stands(self.left) else None
        self.erased = self.erased if stands(self.erased) else None
        self.suppressed = {
            reason: week
            for reason, week in self.suppressed.items()
            if reason not in LIFTED_BY_CONFIRMATION or stands(week)
        }

    @property
    def departed(self) -> bool:
        """Whether anything is left to be done about the address."""
        return self.left is not None or self.erased is not None or bool(self.suppressed)

    @property
    def suppression(self) -> tuple[SuppressionReason, Week] | None:
        """Why the address must not be mailed: what an operator alone may lift comes first, then the newest."""
        if not self.suppressed:
            return None
        return max(self.suppressed.items(), key=lambda one: (one[0] not in LIFTED_BY_CONFIRMATION, one[1]))


def fates(logs: Iterable[Iterable[Departure]]) -> dict[bytes, Fate]:
    """What all logs together say of each address, by its hash."""
    found: defaultdict[bytes, list[Fate]] = defaultdict(list)
    for log in logs:
        of_log: dict[bytes, Fate] = {}
        for departure in log:
            if departure.address_hash not in of_log:
                of_log[departure.address_hash] = Fate()
                found[departure.address_hash].append(of_log[departure.address_hash])
            of_log[departure.address_hash].follow(departure)
    return {address_hash: _together(told) for address_hash, told in found.items()}


def _together(told: list[Fate]) -> Fate:
    """The fate of one address by all logs that name it."""
    for one in told:
        others = [other for other in told if other is not one]
        one.outweigh(
            confirmed=_newest(other.confirmed for other in others), lifted=_newest(other.lifted for other in others)
        )
    suppressed: dict[SuppressionReason, Week] = {}
    for one in told:
        for reason, week in one.suppressed.items():
            suppressed[reason] = max(week, suppressed.get(reason, week))
    return Fate(_newest(one.left for one in told), _newest(one.erased for one in told), suppressed)


def _newest(weeks: Iterable[Week | None]) -> Week | None:
    return max((week for week in weeks if week is not None), default=None)
