from hypothesis import given
from hypothesis import strategies as st

from service.pace.groups import GROUP_LIMIT, group_size, lowest_rate

RATES = st.floats(0, 1e6, allow_nan=False)


@given(RATES)
def test_a_group_has_one_letter_to_a_hundred_and_never_more_than_a_second_of_the_rate(rate):
    size = group_size(rate)
    assert 1 <= size <= GROUP_LIMIT
    assert size == 1 or rate == 0 or size <= rate


@given(st.lists(st.one_of(st.none(), RATES)))
def test_the_lowest_rate_that_is_set_holds_and_none_means_no_limit(rates):
    lowest = lowest_rate(*rates)
    assert all(lowest <= rate for rate in rates if rate)
    assert (lowest == 0) == (not any(rates))
