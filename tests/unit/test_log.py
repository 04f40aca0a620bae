"""The log of one test is not that of the next."""

import logging
import re

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
    anywhere = re.compile(r"[^\s<>()\[\],;:\"'=]+@[^\s<>()\[\],;:\"']+")
    assert log.cut_addresses(text) == anywhere.sub("<address>", text)


def test_a_long_text_is_looked_at_once():
    # Looked at anew from each of its characters it would take hours, and pytest would end the test.
    text = "@" + "a." * 500_000
    assert log.cut_addresses(text) == text
    assert log.cut_addresses(text + "@b") == "<address>"
