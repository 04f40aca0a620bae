"""A flag that a worker shares with the processes it forks: stop after the letters in hand."""

from __future__ import annotations

import mmap


class StopFlag:
    """Made before the fork; set once.

    One octet of shared memory without any lock: a child that is killed while it looks must not stop the others from
    looking, which the semaphore of `multiprocessing.Event` would.
    """

    def __init__(self) -> None:
        self._octet = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Ask everybody to stop; safe in a signal handler."""
        self._octet[0] = 1

    def is_set(self) -> bool:
        """Whether it is time to stop."""
        return self._octet[0] != 0
