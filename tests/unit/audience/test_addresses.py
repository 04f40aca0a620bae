import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.audience.addresses import checked
from service.domain.errors import InvalidInputError
from service.mail.address import envelope_address
from service.store.sealing import normalised


@pytest.mark.parametrize(
    "address",
    [
        "ann@reader.test", "Ann.B+tag@Reader.TEST", "o'hara@reader.example", "a@b.co", "x_y-z@sub.dom.reader.test",
        "=cmd@reader.test", "fay@пошта.бел", "fay@xn--80a1acn3a.xn--90ais", "жанна@пошта.бел", '"ann b"@reader.test',
        "a@1and1.example", "l" * 64 + "@reader.test",
    ],
)  # fmt: skip
def test_an_address_is_taken_as_it_was_typed(address):
    assert checked(f"  {address}\t") == address


@pytest.mark.parametrize(
    "text",
    [
        "", "canary", "canary@", "@canary.test", "canary@localhost", "canary@@reader.test", "can ary@reader.test",
        "canary@reader..test", "canary@.test", "canary@reader.test.", ".canary@reader.test", "canary.@reader.test",
        "ca..nary@reader.test", "canary@-reader.test", "canary@reader-.test", "canary@reader.123", "canary@1.2.3.4",
        "canary@[1.2.3.4]", "canary@reader.test\r\nBcc: x@y.test", "can\0ary@reader.test", "canary\u2028@reader.test",
        "<canary@reader.test>", "Canary <canary@reader.test>", "canary@reader.test,other@reader.test",
        "canary" * 11 + "@reader.test", "canary@" + "reader." * 36 + "test", "canary@re\u2026ader.test", "canary@\ud800.test",
        "canary@" + "r" * 64 + ".test", "cana\ud800ry@reader.test",
    ],
)  # fmt: skip
def test_what_no_server_takes_is_refused_and_not_repeated(text):
    with pytest.raises(InvalidInputError) as caught:
        checked(text)
    assert "canary" not in str(caught.value).lower()
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@given(st.one_of(st.emails(), st.text(), st.from_regex(r"[^@]{1,20}@[^@]{1,20}\.[^@]{2,9}", fullmatch=True)))
def test_what_is_taken_can_be_mailed_and_hashed(text):
    try:
        address = checked(text)
    except InvalidInputError:
        return
    assert envelope_address(address)
    assert normalised(address) == normalised(normalised(address))
    assert not any(letter in address for letter in "\r\n\0")
