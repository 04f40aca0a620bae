"""How a mailing is cut into batches: about a minute's work each at the set rate, and never more than 1,000 letters."""

from __future__ import annotations

LARGEST_BATCH = 1000
_BATCH_SECONDS = 60


def batch_size(rate: float, *, limit: int = LARGEST_BATCH) -> int:
    """Letters in one batch at `rate` mails per second (0 = no limit): 1 to `limit`."""
    if rate <= 0:
        return limit
    return max(1, round(min(limit, rate * _BATCH_SECONDS)))


def slice_bounds(number: int, slices: int) -> tuple[bytes, bytes | None]:
    """The half-open range of 16-octet ids of slice `number` of `slices`; None ends the last one.

    Ids are random, so equal ranges hold about equally many readers. The slices of a mailing cover every id once.
    """
    whole = 1 << 128
    low = whole * number // slices
    high = whole * (number + 1) // slices
    return low.to_bytes(16, "big"), None if high == whole else high.to_bytes(16, "big")
