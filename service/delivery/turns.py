"""Slices that are worked on side by side are begun in the order of their numbers, and committed in that order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class OvertakenError(Exception):
    """A slice before this one came to nothing, so this one must not be committed."""


class Turns:
    """Whose turn it is, among the threads of one process; from slice `first` up to `end`.

    What is committed is then all slices below some number, which is all that a planner that goes on has to know.
    """

    def __init__(self, first: int, end: int) -> None:
        self._begun = self._committed = first
        # Nothing from here on is committed any more.
        self._end = end
        self._changed = threading.Condition()

    @contextmanager
    def next(self) -> Iterator[int | None]:
        """The number of the slice to be worked on in the block, None where no more is left.

        When the block ends the next slice may be committed; where it raises, no later one is.
        """
        with self._changed:
            number = self._begun if self._begun < self._end else None
            self._begun += 1
        try:
            yield number
        except BaseException:
            self._break_off(number)
            raise
        self._pass_on(number)

    def wait(self, number: int) -> None:
        """Return when all slices before this one are committed; raises OvertakenError where that never comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._committed == number or self._end <= number)
            if self._end <= number:
                raise OvertakenError

    def stop(self) -> None:
        """Have no further slice begun; what is under way may be committed."""
        with self._changed:
            self._end = min(self._end, self._begun)

    def _pass_on(self, number: int | None) -> None:
        with self._changed:
            if number is not None:
                self._committed = number + 1
            self._changed.notify_all()

    def _break_off(self, number: int | None) -> None:
        with self._changed:
            if number is not None:
                self._end = min(self._end, number)
            self._changed.notify_all()
