from hypothesis import given
from hypothesis import strategies as st

from service.domain.tally import BUCKETS, Tally, labels_of, read_labels

NAMES = st.text("abcxyz_", min_size=1, max_size=8)


@given(st.dictionaries(NAMES, st.text("abc.:-09", max_size=12)))
def test_labels_are_read_as_they_were_written_whatever_their_order(labels):
    assert read_labels(labels_of(labels)) == labels
    assert labels_of(dict(reversed(labels.items()))) == labels_of(labels)


@given(st.lists(st.floats(0, 2000)))
def test_each_latency_is_in_one_bucket_whose_bound_it_does_not_exceed(seconds):
    tally = Tally()
    for one in seconds:
        tally.observe("gate", one)
    sums = tally.sums()
    for at, bound in enumerate(BUCKETS):
        below = BUCKETS[at - 1] if at else -1.0
        assert sums.get(("gate_bucket", f"le={bound:g}"), 0) == sum(below < one <= bound for one in seconds)
    assert sums.get(("gate_bucket", "le=+Inf"), 0) == sum(one > BUCKETS[-1] for one in seconds)
    assert sums.get(("gate_count", ""), 0) == len(seconds)


def test_what_is_noted_while_sums_are_stored_is_not_forgotten():
    tally = Tally()
    tally.count("replies", 3, reply="accepted")
    stored = tally.sums()
    tally.count("replies", 2, reply="accepted")
    tally.forget(stored)
    assert tally.sums() == {("replies", "reply=accepted"): 2}
