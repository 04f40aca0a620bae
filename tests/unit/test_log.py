"""The log of one test is not that of the next."""

import logging

import structlog

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
