import hashlib
import hmac
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring, Purpose, keyed_digest

OLD, NEW = bytes(range(32)), bytes(range(1, 33))
KEYRING = Keyring({1: OLD, 2: NEW})


@given(st.dictionaries(st.integers(1, 255), st.binary(min_size=32, max_size=32), min_size=1))
def test_a_keyring_that_is_written_is_read_as_it_was(secrets):
    assert Keyring.parse(Keyring(secrets).render(), "file") == Keyring(secrets)


def test_the_newest_key_seals_and_the_oldest_hashes():
    assert (KEYRING.current, KEYRING.oldest) == (2, 1)
    assert KEYRING.fingerprint == Keyring({1: OLD}).fingerprint != Keyring({1: NEW}).fingerprint


def test_each_purpose_and_each_secret_has_a_key_of_its_own():
    keys = [KEYRING.derive(purpose, number) for purpose in Purpose for number in (1, 2)]
    assert all(one != other for one, other in combinations(keys, 2))
    assert all(len(key) == 32 for key in keys)


def test_a_key_is_derived_as_rfc_5869_says():
    extracted = hmac.new(b"tydzen", OLD, hashlib.sha256).digest()
    assert KEYRING.derive(Purpose.INDEX, 1) == hmac.new(extracted, b"index\x01", hashlib.sha256).digest()


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=300))
def test_the_quick_digest_is_hmac(key, message):
    assert keyed_digest(key)(message) == hmac.new(key, message, hashlib.sha256).digest()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "file:1"),
        ("something else\n", "file:1"),
        ("tydzen-keyring-1\n", "file: "),
        ("tydzen-keyring-1\n1 short\n", "file:2"),
        ("tydzen-keyring-1\n# a remark\n0 " + "A" * 43 + "=\n", "file:3"),
        ("tydzen-keyring-1\n256 " + "A" * 43 + "=\n", "file:2"),
        ("tydzen-keyring-1\n1 " + "!" * 44 + "\n", "file:2"),
    ],
)
def test_a_broken_keyring_names_file_and_line_and_no_secret(text, place):
    with pytest.raises(ConfigurationError, match=place) as caught:
        Keyring.parse(text, "file")
    assert "AAAA" not in str(caught.value)


def test_secrets_are_not_shown_in_a_representation():
    assert OLD.hex() not in repr(KEYRING)
    assert "secrets" not in repr(KEYRING)


def test_a_new_keyring_has_one_random_secret():
    made = Keyring.create(lambda octets: b"r" * octets)
    assert made.secrets == {1: b"r" * 32}
