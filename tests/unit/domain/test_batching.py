"""Batches last about a minute, and slices cover every reader once."""

from hypothesis import given
from hypothesis import strategies as st

from service.domain.batching import LARGEST_BATCH, batch_size, slice_bounds

# A mailing may have been made with more than is taken now.
RATES = st.floats(0, allow_nan=False, allow_infinity=True)


READERS = st.integers(0, 10**8)


@given(RATES, READERS, st.integers(1, LARGEST_BATCH))
def test_a_batch_has_a_letter_at_least_and_never_more_than_its_limit(rate, readers, limit):
    assert 1 <= batch_size(rate, readers, limit=limit) <= limit


@given(st.floats(0.05, 16, allow_nan=False), READERS)
def test_a_batch_lasts_about_a_minute_at_a_slow_rate(rate, readers):
    assert 60 - 0.5 / rate - 1e-6 <= batch_size(rate, readers) / rate <= 60 + 0.5 / rate + 1e-6


@given(READERS)
def test_without_a_rate_a_large_mailing_has_at_least_sixteen_batches_and_none_larger_than_it_may_be(readers):
    size = batch_size(0, readers)
    assert 2000 <= size <= LARGEST_BATCH
    assert size == 2000 or readers / size >= 16
    assert batch_size(1e5, readers) == size


def test_a_mailing_to_a_hundred_thousand_has_batches_as_large_as_they_may_be():
    assert batch_size(0, 100_000) == LARGEST_BATCH


@given(st.binary(min_size=16, max_size=16), st.integers(1, 64))
def test_every_id_is_in_exactly_one_slice(row_id, slices):
    holding = 0
    for number in range(slices):
        low, high = slice_bounds(number, slices)
        holding += low <= row_id and (high is None or row_id < high)
    assert holding == 1


@given(st.integers(1, 200))
def test_slices_join_without_a_gap(slices):
    bounds = [slice_bounds(number, slices) for number in range(slices)]
    assert bounds[0][0] == bytes(16)
    assert bounds[-1][1] is None
    assert [high for _, high in bounds[:-1]] == [low for low, _ in bounds[1:]]
