from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ConfigurationError, InvalidInputError
from service.domain.keys import Keyring
from service.store import SpoiledAddressError, UnknownKeyError
from service.store.sealing import Sealer, normalised

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
SEALER = Sealer(Keyring({1: OLD}))
ROTATED = Sealer(Keyring({1: OLD, 2: NEW}))
ROW = b"r" * 16

addresses = st.emails()


@given(st.binary(min_size=16, max_size=16), addresses)
def test_what_is_sealed_opens_as_it_was_typed(row, address):
    assert SEALER.open(row, SEALER.seal(row, address)) == address


def test_the_same_address_is_sealed_differently_each_time():
    assert SEALER.seal(ROW, "a@b.test") != SEALER.seal(ROW, "a@b.test")


def test_a_blob_opens_only_in_its_own_row():
    with pytest.raises(ConfigurationError, match="keyring"):
        SEALER.open(b"x" * 16, SEALER.seal(ROW, "canary@b.test"))


@given(st.integers(1, 36), st.integers(0, 7))
def test_a_blob_with_one_other_bit_does_not_open(place, bit):
    blob = bytearray(SEALER.seal(ROW, "a@b.test"))
    blob[place] ^= 1 << bit
    with pytest.raises(ConfigurationError):
        SEALER.open(ROW, bytes(blob))


@pytest.mark.parametrize("blob", [b"", b"\x01", b"\x01short", bytes([1]) * 40])
def test_what_is_left_of_a_blob_is_said_to_be_damaged(blob):
    with pytest.raises(SpoiledAddressError, match="damaged"):
        SEALER.open(ROW, blob)


def test_after_a_new_key_old_blobs_open_and_new_ones_are_sealed_by_it():
    before, after = SEALER.seal(ROW, "a@b.test"), ROTATED.seal(ROW, "a@b.test")
    assert (before[0], after[0]) == (1, 2)
    assert ROTATED.open(ROW, before) == ROTATED.open(ROW, after) == "a@b.test"
    with pytest.raises(ConfigurationError, match="key 2 is not in the keyring"):
        SEALER.open(ROW, after)


def test_a_key_that_was_added_to_the_keyring_since_opens_at_once_and_seals_only_after_a_restart():
    sealer = Sealer(Keyring({1: OLD}), lambda: Keyring({1: OLD, 2: NEW}))
    assert sealer.open(ROW, ROTATED.seal(ROW, "a@b.test")) == "a@b.test"
    assert sealer.open(ROW, SEALER.seal(ROW, "a@b.test")) == "a@b.test"
    assert sealer.seal(ROW, "a@b.test")[0] == 1


def unreadable():
    raise ConfigurationError("half of it is written")


@pytest.mark.parametrize(
    "reread",
    [lambda: Keyring({1: OLD}), lambda: Keyring({1: NEW, 2: NEW}), unreadable, None],
    ids=["not there", "of another", "unreadable", "nobody asks"],
)
def test_a_key_that_the_file_does_not_have_either_is_unknown(reread):
    with pytest.raises(UnknownKeyError, match="key 2 is not in the keyring"):
        Sealer(Keyring({1: OLD}), reread).open(ROW, ROTATED.seal(ROW, "a@b.test"))


def test_threads_that_need_the_new_key_at_once_read_the_file_once():
    blob, reads = ROTATED.seal(ROW, "a@b.test"), []

    def reread():
        reads.append(1)
        return Keyring({1: OLD, 2: NEW})

    sealer = Sealer(Keyring({1: OLD}), reread)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda _: sealer.open(ROW, blob), range(64))) == {"a@b.test"}
    assert len(reads) == 1


def test_a_new_key_changes_no_hash():
    assert ROTATED.address_hash("a@b.test") == SEALER.address_hash("a@b.test")
    assert ROTATED.fingerprint == SEALER.fingerprint


def test_the_wrong_key_opens_nothing_and_finds_nothing():
    other = Sealer(Keyring({1: NEW}))
    with pytest.raises(ConfigurationError, match="another one's") as caught:
        other.open(ROW, SEALER.seal(ROW, "canary@b.test"))
    assert "canary" not in str(caught.value)
    assert other.address_hash("a@b.test") != SEALER.address_hash("a@b.test")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ann@Reader.TEST", "ann@reader.test"),
        (" ann@reader.test\n", "ann@reader.test"),
        ("fay@пошта.бел", "fay@xn--80a1acn3a.xn--90ais"),
        ("fay@ПОШТА.БЕЛ", "fay@XN--80A1ACN3A.xn--90ais"),
        ("caf\u0065\u0301@reader.test", "caf\u00e9@reader.test"),
    ],
)
def test_spellings_of_one_mailbox_have_one_hash(one, other):
    assert SEALER.address_hash(one) == SEALER.address_hash(other)


@pytest.mark.parametrize(
    ("one", "other"), [("a.b@r.test", "ab@r.test"), ("a+x@r.test", "a@r.test"), ("a@r.test", "a@s.test")]
)
def test_dots_and_tags_are_left_to_the_readers_own_host(one, other):
    assert SEALER.address_hash(one) != SEALER.address_hash(other)


@pytest.mark.parametrize("text", ["", "canary", "@canary.test", "canary@", "canary@\u2026.test"])
def test_what_is_no_address_is_refused_and_not_repeated(text):
    with pytest.raises(InvalidInputError) as caught:
        normalised(text)
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(addresses)
def test_normalising_twice_changes_nothing(address):
    assert normalised(normalised(address)) == normalised(address)


@given(st.text())
def test_a_digest_of_something_else_is_never_that_of_an_address(text):
    try:
        assert SEALER.digest(text) != SEALER.address_hash(text)
    except InvalidInputError:
        assert SEALER.digest(text)
