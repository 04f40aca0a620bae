"""When one session more is one too many for this process."""

import os
import resource

import pytest

from service.mail.opener import short_of_handles


@pytest.fixture
def limit():
    """Sets how many files this process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_sessions_leave_some_handles_to_the_database_and_the_books(limit):
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]
    try:
        newest = max(held)
        limit(newest + 20)
        assert not short_of_handles(newest)
        limit(newest + 10)
        assert short_of_handles(newest)
    finally:
        for one in held:
            os.close(one)


def test_where_there_is_no_limit_there_are_always_some(monkeypatch):
    infinite = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (infinite, infinite))
    assert not short_of_handles(1000)
