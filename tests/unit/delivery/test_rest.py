"""A process that has had no work for a while gives back what others may want."""

import queue
import time

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


def test_a_rest_of_so_many_seconds_gives_back_once():
    given = Given()
    rest = Rest(given.back, 0.3)
    rest.end()
    ended = time.monotonic()
    rest.begin(at_once=False)
    assert given.instant() >= ended + 0.3
    time.sleep(0.5)
    assert given.nothing


def test_nothing_is_given_back_before_there_was_work_while_there_is_or_soon_after_it():
    given = Given()
    rest = Rest(given.back, 0.1)
    time.sleep(0.3)
    rest.end()
    time.sleep(0.3)
    assert given.nothing
    rest = Rest(given.back, LONG)
    rest.begin(at_once=False)
    time.sleep(0.3)
    assert given.nothing


def test_work_ends_a_rest_that_has_given_nothing_back_yet():
    given = Given()
    rest = Rest(given.back, 0.2)
    for _ in range(20):
        rest.begin(at_once=False)
        rest.end()
    time.sleep(0.5)
    assert given.nothing


def test_where_others_are_known_to_want_it_it_is_given_back_at_once():
    given = Given()
    Rest(given.back, LONG).begin(at_once=True)
    given.instant()


def test_where_giving_back_fails_the_next_rest_tries_again():
    given = Given(trouble=MemoryError())
    rest = Rest(given.back, LONG)
    for _ in range(2):
        rest.begin(at_once=True)
        given.instant()
        rest.end()
