"""How a mailing is cut into batches: about a minute's work each at the set rate, and enough for all processes."""

from __future__ import annotations

LARGEST_BATCH = 4000
# What comes once per batch, three transactions, is a twentieth of the cost of a thousand letters.
_USUAL_BATCH = 2000
# Of a large mailing: enough for a dozen processes to have a part in it, and to end at about the same time.
_FEWEST_BATCHES = 16
_BATCH_SECONDS = 60


def batch_size(rate: float, readers: int, *, limit: int = LARGEST_BATCH) -> int:
    """Letters in one batch, 1 to `limit`, of a mailing to about `readers` at `rate` mails per second (0 = no limit)."""
    most = min(limit, max(_USUAL_BATCH, readers // _FEWEST_BATCHES))
    if rate <= 0:
        return most
    return max(1, round(min(most, rate * _BATCH_SECONDS)))


def slice_bounds(number: int, slices: int) -> tuple[bytes, bytes | None]:
    """The half-open range of 16-octet ids of slice `number` of `slices`; None ends the last one.

    Ids are random, so equal ranges hold about equally many readers. The slices of a mailing cover every id once.
    """
    whole = 1 << 128
    low = whole * number // slices
    high = whole * (number + 1) // slices
    return low.to_bytes(16, "big"), None if high == whole else high.to_bytes(16, "big")
