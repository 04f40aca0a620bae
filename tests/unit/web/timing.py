"""Whether an answer's time tells the class of an address: classes take turns in random order, and only ranks count.

A busy machine makes any of them slow, but none more often than the others; a difference of a few microseconds shows once
there are rounds enough (Friedman's test: within a round, which class was faster than which).
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

# Of chance alone, more than this comes once in ten million times, for up to seven classes.
NOTHING = 45.0


def friedman(rounds: Sequence[Sequence[float]]) -> float:
    """Friedman's statistic of the times in each round, one for each class: chi squared, with classes - 1 freedoms."""
    count, classes = len(rounds), len(rounds[0])
    sums = [0.0] * classes
    for times in rounds:
        for rank, place in enumerate(sorted(range(classes), key=times.__getitem__), start=1):
            sums[place] += rank
    return 12 / (count * classes * (classes + 1)) * sum(one * one for one in sums) - 3 * count * (classes + 1)


async def measured(classes: Mapping[str, Callable[[int], Awaitable[object]]], rounds: int, *, seed: int = 1) -> float:
    """Friedman's statistic of these calls, each made once a round; what a call returns must be the same for all.

    A call is prepared, and an address that was never seen before made up, before its time begins.
    """
    names, order = list(classes), list(classes)
    shuffle = random.Random(seed).shuffle
    taken, said = [], set()
    for number in range(rounds):
        shuffle(order)
        times = {}
        for name in order:
            call = classes[name](number)
            began = time.perf_counter_ns()
            answer = await call
            times[name] = time.perf_counter_ns() - began
            said.add(answer)
        taken.append([times[name] for name in names])
    assert len(said) == 1, "the answers differ"
    return friedman(taken)
