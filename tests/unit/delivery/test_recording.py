"""When a letter that is sent again has all its time before it, and when it has not."""

from __future__ import annotations

import datetime as dt
import random

import pytest

from service.delivery.recording import _series
from service.domain.retries import next_attempt
from service.store.instants import stored
from tests.unit.delivery.parts import NOW


def until_given_up(draw):
    """The attempts of a letter that is put off each time, with waits as they come, until it is given up."""
    at, attempts = NOW, []
    while at is not None:
        attempts.append((stored(at), "transient"))
        at = next_attempt(NOW, len(attempts), at, draw())
    return attempts


@pytest.mark.parametrize("seed", range(200))
def test_a_letter_that_was_given_up_is_begun_anew_days_later(seed):
    attempts = until_given_up(random.Random(seed).random)
    assert _series(attempts, NOW + dt.timedelta(days=3)) == (0, None)
    # And the time of what was begun anew is counted from there.
    again = NOW + dt.timedelta(days=3)
    assert _series([*attempts, (stored(again), "transient")], again + dt.timedelta(hours=1)) == (1, again)


@pytest.mark.parametrize("seed", range(50))
def test_a_letter_that_is_under_way_goes_on(seed):
    attempts = until_given_up(random.Random(seed).random)
    for count in range(1, len(attempts) - 1):
        known = attempts[:count]
        following = NOW + (dt.timedelta(milliseconds=attempts[count][0] - attempts[0][0]))
        assert _series(known, following) == (count, NOW)
