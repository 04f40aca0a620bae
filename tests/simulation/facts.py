"""What is known of a seed from outside the engine: what its people did, and what became of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

FOR_EVER = float("inf")


@dataclass
class Course:
    """One mailing as its operator knows it."""

    week: str
    audience: frozenset[str]  # addresses
    title: str  # of the issue's only article, which each letter has as its subject
    planned: bool = False  # before the seed began
    shut: list[tuple[float, float]] = field(default_factory=list)  # when it was paused or cancelled, and until
    titles: list[tuple[float, str]] = field(default_factory=list)  # since when letters are to have which

    def __post_init__(self) -> None:
        """The first title is that of all letters, whenever planning comes to it."""
        self.titles.append((-FOR_EVER, self.title))

    @property
    def issue(self) -> str:
        """The word that each of its titles begins with."""
        return self.titles[0][1]

    def stop(self, now: float) -> None:
        """Nothing may be sent from now on."""
        self.shut.append((now, FOR_EVER))

    def go_on(self, now: float, title: str) -> None:
        """It may again, and whoever was not mailed yet gets the issue as it is now."""
        self.shut = [(since, min(until, now)) for since, until in self.shut]
        self.titles.append((now, title))

    def titles_within(self, since: float, until: float) -> list[str]:
        """Those that a letter may have which was gated after `since` and written at `until`."""
        before = [title for at, title in self.titles if at <= since]
        return [before[-1], *(title for at, title in self.titles if since < at <= until)]


@dataclass
class Facts:
    """What the simulated people did, for the oracle."""

    gone: dict[str, float] = field(default_factory=dict)  # when the departure of each address was committed
    courses: dict[int, Course] = field(default_factory=dict)  # by mailing, in the order of their beginnings
    power_cuts: dict[str, list[float]] = field(default_factory=dict)  # by host


@dataclass
class Result:
    """What became of one seed."""

    seed: int
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    story: list[tuple[float, str, str]] = field(default_factory=list)
