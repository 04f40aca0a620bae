"""How many letters are gated at once: what a rate allows in a moment, never more than a gate's second can use."""

from __future__ import annotations

# What a group costs by itself (a statement, two changes of threads) is a third of a letter at 100, little at 350; the
# wire queues no more than 400.
GROUP_LIMIT = 350
# A quarter of a second's worth keeps the stream smooth, and what two workers reserve stays far below a gate's second.
_GROUP_SECONDS = 0.25


def lowest_rate(*rates: float | None) -> float:
    """The lowest of the rates that are set, in mails per second; 0 where none is (as fast as the relay takes them)."""
    return min((rate for rate in rates if rate), default=0.0)


def group_size(rate: float) -> int:
    """Letters in one group at `rate` mails per second (0 = no limit): 1 to `GROUP_LIMIT`."""
    if rate <= 0:
        return GROUP_LIMIT
    return max(1, min(GROUP_LIMIT, int(rate * _GROUP_SECONDS)))
