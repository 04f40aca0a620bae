"""The log of one test is not that of the next."""

import logging
import re

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service import log
from tests.conftest import log_kept


def state():
    root = logging.getLogger()
    return structlog.get_config(), root.level, set(root.handlers)


def test_a_log_that_was_set_up_ends_with_its_test():
    before = state()
    with log_kept():
        log.configure(json=True, level="DEBUG")
        during = state()
    after = state()
    assert [one == other for one, other in zip(before, during, strict=True)] == [False] * 3
    assert after[:2] == before[:2]
    # What logged to the stream of this test is gone; pytest's own handlers are its own affair.
    assert after[2] <= before[2]


@given(st.text("ab@=<>,.; \t'\""))
def test_what_looks_like_an_address_is_cut_out_wherever_it_begins(text):
    local_part = r"""(?:[^\s<>()\[\],;:"'=]+|"(?:[^"\\]|\\.){1,64}")"""
    anywhere = re.compile(local_part + r"""@(?:\[[^\]\s]{1,64}\]|[^\s<>()\[\],;:"']+)""")
    assert log.cut_addresses(text) == anywhere.sub("<address>", text)


def test_a_long_text_is_looked_at_once():
    # Looked at anew from each of its characters it would take hours, and pytest would end the test.
    text = "@" + "a." * 500_000
    assert log.cut_addresses(text) == text
    assert log.cut_addresses(text + "@b") == "<address>"


@pytest.mark.parametrize(
    "address", ['"jane doe"@example.net', '"a\\"b"@example.net', "jane@[192.0.2.7]", "jane@[IPv6:::1]"]
)
def test_addresses_of_rare_forms_are_cut_out_whole(address):
    assert log.cut_addresses(f"5.1.1 <{address}>: user unknown") == "5.1.1 <<address>>: user unknown"
