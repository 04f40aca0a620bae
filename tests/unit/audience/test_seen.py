import hashlib

from hypothesis import given
from hypothesis import strategies as st

from service.audience.seen import Seen

# Few octets, so that a hash begins within another and across two.
hashes = st.tuples(st.sampled_from([b"ab", b"aa"]), st.text("ab\t", min_size=8, max_size=8)).map(
    lambda parts: parts[0] + parts[1].encode() + b"rest"
)


def test_many_hashes_keep_their_octets():
    seen = Seen()
    values = [hashlib.sha256(str(number).encode()).digest() for number in range(20_000)]
    for number, value in enumerate(values):
        seen.put(value, number % 30)
    assert [seen.get(value) for value in values] == [number % 30 for number in range(20_000)]
    assert seen.get(hashlib.sha256(b"another").digest()) is None


@given(st.lists(st.tuples(hashes, st.sampled_from([0, 9, *b"ab", 255]))), st.lists(hashes))
def test_it_keeps_what_a_dictionary_keeps(puts, others):
    seen, kept = Seen(), {}
    for value, octet in puts:
        seen.put(value, octet)
        kept[value] = octet
    assert [seen.get(value) for value in (*kept, *others)] == [kept.get(value) for value in (*kept, *others)]
