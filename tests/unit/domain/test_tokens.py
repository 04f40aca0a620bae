import datetime as dt
import re
import string

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.domain.errors import ConfigurationError, UnavailableError
from service.domain.keys import Keyring, Purpose
from service.domain.tokens import Claim, ConfirmationSigner, DeliverySigner, LinkSigner, RequestSigner, hour_of

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
KEYRING = Keyring({1: OLD})
ROTATED = Keyring({1: OLD, 2: NEW})
LINKS = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE)
IDS = DeliverySigner(KEYRING)
ALPHABET = string.ascii_letters + string.digits + "-_"
LINK_PURPOSES = (Purpose.UNSUBSCRIBE, Purpose.PREFERENCES, Purpose.CONFIRM)

readers = st.binary(min_size=16, max_size=16)
epochs = st.integers(0, 2**24 - 1)
deliveries = st.integers(0, 2**63 - 1)


@given(readers, epochs)
def test_a_token_says_whom_it_was_signed_for_and_when(reader, epoch):
    token = LINKS.sign(reader, epoch)
    assert re.fullmatch(r"[A-Za-z0-9_-]{48}", token)
    assert LINKS.read(token) == Claim(reader, epoch)


@given(st.lists(st.tuples(readers, epochs, deliveries)))
def test_what_is_signed_for_a_group_is_what_is_signed_for_each(group):
    subscribers, epochs_of, numbers = [one[0] for one in group], [one[1] for one in group], [one[2] for one in group]
    singly = [LINKS.sign(subscriber, epoch).encode() for subscriber, epoch, _ in group]
    assert LINKS.sign_all(subscribers, epochs_of) == singly
    assert IDS.ids(numbers) == [(IDS.message_id(number), IDS.envelope(number)) for number in numbers]


def test_links_and_ids_in_mails_that_were_sent_are_made_in_the_same_way_for_ever():
    token = LinkSigner(ROTATED, Purpose.PREFERENCES).sign(bytes(range(100, 116)), 77)
    assert token == "AgAATTlUBSOmjO6n47GDNA0l8CKP_dDIaXcev8PZjwsdVLdP"
    assert DeliverySigner(ROTATED).ids([123456789]) == [
        ("143de7a952687d415167bc98a570d99f", "b-e26ffde96a866801f899d328a6c4b78f12e78544ade5064d")
    ]


@given(readers, epochs, st.integers(0, 47), st.sampled_from(ALPHABET))
def test_a_token_with_one_other_character_is_never_accepted(reader, epoch, place, other):
    token = LINKS.sign(reader, epoch)
    assume(token[place] != other)
    assert LINKS.read(token[:place] + other + token[place + 1 :]) is None


@given(readers, st.integers(0, 287))
def test_a_token_with_one_other_bit_is_never_accepted(reader, bit):
    import base64

    raw = bytearray(base64.urlsafe_b64decode(LINKS.sign(reader)))
    raw[bit // 8] ^= 1 << bit % 8
    assert LINKS.read(base64.urlsafe_b64encode(raw).decode()) is None


@given(st.one_of(st.text(), st.text(ALPHABET, min_size=48, max_size=48)))
def test_any_other_text_is_no_token(text):
    assert LINKS.read(text) is None


@given(readers, readers, epochs, epochs)
def test_parts_of_two_tokens_make_no_third(one, other, first, second):
    assume((one, first) != (other, second))
    left, right = LINKS.sign(one, first), LINKS.sign(other, second)
    for cut in range(4, 48, 4):
        spliced = left[:cut] + right[cut:]
        assert spliced in {left, right} or LINKS.read(spliced) is None


@given(readers, epochs, st.sampled_from(LINK_PURPOSES), st.sampled_from(LINK_PURPOSES))
def test_a_token_of_one_purpose_is_none_of_another(reader, epoch, made_for, read_for):
    token = LinkSigner(KEYRING, made_for).sign(reader, epoch)
    claim = LinkSigner(KEYRING, read_for).read(token)
    assert (claim is not None) == (made_for is read_for)


@given(readers)
def test_a_token_shows_nothing_of_the_id(reader):
    assume(len(set(reader)) > 4)
    import base64

    raw = base64.urlsafe_b64decode(LINKS.sign(reader))
    assert reader not in raw
    assert all(reader[place : place + 6] not in raw for place in range(11))


def test_links_in_old_mails_live_after_a_new_key_and_new_ones_name_it():
    before, after = LINKS.sign(b"r" * 16), LinkSigner(ROTATED, Purpose.UNSUBSCRIBE)
    assert after.read(before) == Claim(b"r" * 16, 0)
    assert LINKS.read(after.sign(b"r" * 16)) is None
    assert after.read(after.sign(b"r" * 16)) == Claim(b"r" * 16, 0)


@given(deliveries)
def test_an_envelope_sender_names_its_delivery_in_any_case(delivery):
    local_part = IDS.envelope(delivery)
    assert len(local_part) <= 64
    assert re.fullmatch(r"b-[a-z0-9]+", local_part)
    assert IDS.read_envelope(local_part) == delivery
    assert IDS.read_envelope(local_part.upper()) == delivery


@given(deliveries, st.data())
def test_a_changed_envelope_sender_names_nothing(delivery, data):
    local_part = IDS.envelope(delivery)
    place = data.draw(st.integers(0, len(local_part) - 1))
    other = data.draw(st.sampled_from(string.ascii_lowercase + string.digits + "-"))
    assume(local_part[place] != other)
    assert IDS.read_envelope(local_part[:place] + other + local_part[place + 1 :]) is None


@given(st.text())
def test_any_other_local_part_names_nothing(text):
    assert IDS.read_envelope(text) is None


@given(deliveries)
def test_the_ids_of_a_delivery_stay_when_a_key_is_added(delivery):
    rotated = DeliverySigner(ROTATED)
    assert rotated.message_id(delivery) == IDS.message_id(delivery)
    assert rotated.read_envelope(IDS.envelope(delivery)) == delivery


@given(deliveries, deliveries)
def test_two_deliveries_never_share_an_id(one, other):
    assume(one != other)
    assert IDS.message_id(one) != IDS.message_id(other)
    assert IDS.envelope(one) != IDS.envelope(other)


def test_a_link_of_a_key_that_was_added_since_is_read_at_once_and_signed_with_only_after_a_restart():
    links = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE, lambda: ROTATED)
    token = LinkSigner(ROTATED, Purpose.UNSUBSCRIBE).sign(b"r" * 16, 7)
    links.require_key(token)
    assert links.read(token) == Claim(b"r" * 16, 7)
    assert links.sign(b"r" * 16) == LINKS.sign(b"r" * 16)


@pytest.mark.parametrize("made", [ConfirmationSigner, RequestSigner])
def test_so_is_one_that_holds_for_hours(made):
    now = dt.datetime(2019, 6, 3, tzinfo=dt.UTC)
    token = made(ROTATED).sign(b"r" * 16, hour_of(now))
    assert made(KEYRING).read(token, now) is None
    assert made(KEYRING, lambda: ROTATED).read(token, now) == b"r" * 16


def unreadable():
    raise ConfigurationError("half of it is written")


@pytest.mark.parametrize(
    "reread",
    [lambda: KEYRING, lambda: Keyring({1: NEW, 2: NEW}), unreadable, None],
    ids=["not there", "of another", "unreadable", "nobody asks"],
)
def test_a_link_whose_key_is_missing_is_no_link_and_may_be_one_later(reread):
    links = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE, reread)
    token = LinkSigner(ROTATED, Purpose.UNSUBSCRIBE).sign(b"r" * 16)
    assert links.read(token) is None
    with pytest.raises(UnavailableError, match="key 2, which is not in the keyring") as caught:
        links.require_key(token)
    assert token not in str(caught.value)


@pytest.mark.parametrize("token", ["", "A" * 48, "A" * 47, "_" * 49, LINKS.sign(b"r" * 16), "AQ" + "x" * 46])
def test_what_no_key_could_make_a_link_of_misses_none_and_has_nothing_read(token):
    LinkSigner(KEYRING, Purpose.UNSUBSCRIBE, lambda: pytest.fail("the keyring was read")).require_key(token)
