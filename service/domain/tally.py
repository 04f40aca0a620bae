"""Sums for whoever watches the engine, in one process until they are stored: nothing of one reader, no ids."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

# Upper bounds in seconds, from a quick gate to the longest wait for the reply to a dot.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)

# The measures that hold latencies have these parts; a count is stored under its own name.
SECONDS, TIMES, WITHIN = "_sum", "_count", "_bucket"

_BOUNDS = (*(f"le={bound:g}" for bound in BUCKETS), "le=+Inf")

Sums = Mapping[tuple[str, str], float]


def labels_of(labels: Mapping[str, str]) -> str:
    """Labels as they are stored: `class=accepted,provider=gmail`, in the order of their names."""
    return ",".join(f"{name}={labels[name]}" for name in sorted(labels))


def read_labels(text: str) -> dict[str, str]:
    """The labels that `labels_of` wrote."""
    return dict(part.split("=", 1) for part in text.split(",")) if text else {}


class Tally:
    """Counts and latencies by name and labels. Not thread-safe."""

    def __init__(self) -> None:
        self._sums: Counter[tuple[str, str]] = Counter()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add `amount` to a count."""
        self._sums[name, labels_of(labels)] += amount  # type: ignore[assignment]  # a Counter holds decimals as well

    def observe(self, name: str, seconds: float) -> None:
        """Note that something took `seconds`."""
        sums = self._sums
        sums[name + WITHIN, _BOUNDS[bisect_left(BUCKETS, seconds)]] += 1
        sums[name + SECONDS, ""] += seconds  # type: ignore[assignment]
        sums[name + TIMES, ""] += 1

    def sums(self) -> dict[tuple[str, str], float]:
        """What was noted and not yet forgotten."""
        return {key: value for key, value in self._sums.items() if value}

    def forget(self, stored: Sums) -> None:
        """Take off what is stored now; what was noted meanwhile stays."""
        for key, value in stored.items():
            self._sums[key] -= value  # type: ignore[assignment]
