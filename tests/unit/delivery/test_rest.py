"""A process that has had no work for a while gives back what others may want."""

import queue
import time

import pytest

from service.delivery.rest import Rest

LONG = 3600.0


class Given:
    """What was given back, and when."""

    def __init__(self, trouble=None):
        self._instants = queue.Queue()
        self._trouble = trouble

    def back(self):
        self._instants.put(time.monotonic())
        if self._trouble is not None:
            raise self._trouble

    def instant(self):
        return self._instants.get(timeout=30)

    @property
    def nothing(self):
        return self._instants.empty()


def long_enough():
    return False


def short():
    return True


def test_a_rest_of_so_many_seconds_gives_back_once():
    given = Given()
    rest = Rest(given.back, 0.3)
    with rest.interrupted(short=long_enough):
        ended = time.monotonic()
    assert given.instant() >= ended + 0.3
    time.sleep(0.5)
    assert given.nothing


def test_nothing_is_given_back_before_there_was_work_while_there_is_or_soon_after_it():
    given = Given()
    rest = Rest(given.back, 0.1)
    time.sleep(0.3)
    with rest.interrupted(short=short):
        time.sleep(0.3)
        assert given.nothing
    given.instant()
    rest = Rest(given.back, LONG)
    with rest.interrupted(short=long_enough):
        pass
    time.sleep(0.3)
    assert given.nothing


def test_who_was_short_of_what_others_want_gives_back_at_once_also_where_the_work_failed():
    given = Given()
    rest = Rest(given.back, LONG)
    with pytest.raises(ZeroDivisionError), rest.interrupted(short=short):
        raise ZeroDivisionError
    given.instant()


def test_where_giving_back_fails_the_next_rest_tries_again(capsys):
    given = Given(trouble=MemoryError())
    rest = Rest(given.back, LONG)
    for _ in range(2):
        with rest.interrupted(short=short):
            pass
        given.instant()
