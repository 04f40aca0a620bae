import pytest

from service.audience.consent import evidence
from service.domain.errors import InvalidInputError
from tests.canary import assert_no_trace, canary


def test_words_are_kept_in_one_line():
    assert evidence("  form\n of\t2019-05,\x00 at the fair ") == "form of 2019-05, at the fair"


def test_addresses_are_cut_out():
    reader = canary()
    kept = evidence(f"double opt-in by {reader} <{reader}>")
    assert kept.startswith("double opt-in by <address>")
    assert_no_trace([reader], text=kept)


@pytest.mark.parametrize("number", ["192.0.2.17", "2001:db8::1", "::1", "2001:db8:85a3:0:0:8a2e:370:7334", "fe80::1:2"])
def test_the_numbers_of_machines_are_cut_out(number):
    assert evidence(f"form, {number}, 2019-05-01 12:30:59") == "form, <ip>, 2019-05-01 12:30:59"


def test_a_long_story_is_refused():
    with pytest.raises(InvalidInputError, match="200"):
        evidence("x" * 201)
