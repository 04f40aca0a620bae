"""Breakers: when refusals are so many that to go on would do harm. Pure counting, in the memory of one worker.

Two things are judged. Refusals by policy are our own fault, whoever reports them, so they pause the mailing. Lasting
refusals of either kind at one provider of mailboxes are that provider's affair: it alone is left alone for a while.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

POLICY_ROW = 20  # refusals by policy in a row, or …
POLICY_WINDOW = 400  # … as many and more than POLICY_SHARE of the last so many replies
POLICY_SHARE = 0.05

PROVIDER_LETTERS = 200  # from so many letters on …
PROVIDER_SHARE = 0.05  # … more than this share refused is too much
OUTAGE_REFUSALS = 20  # from so many refusals on, however few the letters, …
OUTAGE_SHARE = 0.5  # … more than this share is no matter of single mailboxes

FIRST_HOLD = dt.timedelta(hours=1)
LONGEST_HOLD = dt.timedelta(hours=24)
PROBE_LETTERS = 10
PROBE_HEARD = 5  # so few replies say that a provider is no better; fewer may be of mailboxes that are gone
_TALLIES = 4096


class PolicyCounter:
    """The replies to one mailing, as one worker reads them."""

    def __init__(self) -> None:
        self._replies = 0
        self._row = 0
        # Never more than are needed: one above the share trips at once.
        self._refused_at: deque[int] = deque(maxlen=POLICY_ROW + 1)

    def others(self, replies: int) -> None:
        """So many replies were read, in a row, that are no refusals by policy."""
        if replies:
            self._replies += replies
            self._row = 0

    def refused(self) -> bool:
        """One reply was a refusal by policy; whether that is one too many."""
        self._replies += 1
        self._row += 1
        self._refused_at.append(self._replies)
        while self._refused_at[0] <= self._replies - POLICY_WINDOW:
            self._refused_at.popleft()
        among = min(self._replies, POLICY_WINDOW)
        count = len(self._refused_at)
        return self._row >= POLICY_ROW or (count >= POLICY_ROW and count > POLICY_SHARE * among)


@dataclass(slots=True)
class Tally:
    """The letters to one provider: the last 200 to 400 of them, since a time. Those under way count as letters."""

    since: dt.datetime
    letters: int = 0
    hard: int = 0
    policy: int = 0
    before: tuple[int, int, int] = (0, 0, 0)
    block: dt.datetime | None = None

    def wrote(self, letters: int, now: dt.datetime) -> None:
        """So many letters were handed over; an older block of at least 200 is forgotten."""
        if self.letters >= PROVIDER_LETTERS:
            self.before = (self.letters, self.hard, self.policy)
            self.since, self.block = self.block or self.since, now
            self.letters = self.hard = self.policy = 0
        self.letters += letters

    def too_many(self, *, proven: bool) -> bool:
        """Whether so much is refused that the provider must be left alone.

        A provider that is `proven` was left alone of late, and takes mail: short of an outage, it is believed.
        """
        letters, refused = self.sums()
        return self.outage or (not proven and letters >= PROVIDER_LETTERS and refused > PROVIDER_SHARE * letters)

    @property
    def outage(self) -> bool:
        """Whether most is refused: nothing shows then that the provider takes mail at all."""
        letters, refused = self.sums()
        return refused >= OUTAGE_REFUSALS and refused > OUTAGE_SHARE * letters

    def sums(self) -> tuple[int, int]:
        """Letters and refusals of both blocks."""
        letters, hard, policy = self.before
        return self.letters + letters, self.hard + self.policy + hard + policy

    @property
    def mostly_hard(self) -> bool:
        """Whether it refuses mailboxes, more than it refuses us."""
        return self.hard + self.before[1] > self.policy + self.before[2]


@dataclass(slots=True)
class ProviderCounter:
    """Tallies by provider. Readers' domains are among them, so they stay in memory; of some thousands at most."""

    tallies: dict[str, Tally] = field(default_factory=dict)

    def wrote(self, letters: Mapping[str, int], now: dt.datetime) -> None:
        """So many letters were handed over, by provider."""
        for provider, count in letters.items():
            tally = self.tallies.get(provider)
            if tally is None:
                self._make_room()
                tally = self.tallies[provider] = Tally(now)
            tally.wrote(count, now)

    def returned(self, provider: str) -> None:
        """A letter was not sent after all."""
        tally = self.tallies.get(provider)
        if tally is not None and tally.letters:
            tally.letters -= 1

    def refused(self, provider: str, *, hard: bool, proven: bool) -> Tally | None:
        """One letter was refused, for good or by policy; the tally, where that is one too many: it begins anew."""
        tally = self.tallies.get(provider)
        if tally is None:
            return None
        if hard:
            tally.hard += 1
        else:
            tally.policy += 1
        return self.tallies.pop(provider) if tally.too_many(proven=proven) else None

    def _make_room(self) -> None:
        """Forget those that refuse nothing; where that does not help, the smaller half."""
        if len(self.tallies) < _TALLIES:
            return
        kept = {name: tally for name, tally in self.tallies.items() if tally.sums()[1]}
        if len(kept) > _TALLIES // 2:
            kept = dict(sorted(kept.items(), key=lambda item: item[1].sums(), reverse=True)[: _TALLIES // 2])
        self.tallies = kept


@dataclass(slots=True)
class Probe:
    """A few letters that are let through to a provider after a hold."""

    left: int = PROBE_LETTERS
    taken: int = 0
    refused: int = 0

    def verdict(self, *, over: bool) -> bool | None:
        """True where the provider takes mail again, False where it refuses most of it, None where nobody knows yet.

        `over` says that no more letters of the probe come.
        """
        heard = self.taken + self.refused
        if not heard or (heard < PROBE_LETTERS and not over):
            return None
        if 2 * self.refused <= heard:
            return True
        return False if heard >= PROBE_HEARD else None


def hold_of(trips: int) -> dt.timedelta:
    """How long a provider is left alone at its `trips`-th trip: an hour, doubled each time, at most a day."""
    if trips < 1:
        raise ValueError(f"trips must be at least 1, not {trips}")
    return min(FIRST_HOLD * (1 << min(trips - 1, 10)), LONGEST_HOLD)
