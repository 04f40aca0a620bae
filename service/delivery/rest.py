"""The rest of one process: when it has had no work for some seconds, it gives back what others may want."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic

from service import log

_log = log.get("process")


class Rest:
    """Calls `give_back` once there has been no work for `seconds`; for a process that stands still between two tasks.

    Its thread is there from the beginning: to begin one for each rest fails where memory is short, or never returns.
    """

    def __init__(self, give_back: Callable[[], None], seconds: float) -> None:
        self._give_back = give_back
        self._seconds = seconds
        self._begins_at: float | None = None
        self._changed = threading.Condition()
        threading.Thread(target=self._watch, name="rest", daemon=True).start()

    def end(self) -> None:
        """There is work, and nothing is given back any more; waits where something is being given back just now."""
        with self._changed:
            self._begins_at = None

    def begin(self, *, at_once: bool) -> None:
        """The work is done; `at_once` where others are known to want what is given back."""
        with self._changed:
            self._begins_at = monotonic() + (0.0 if at_once else self._seconds)
            self._changed.notify()

    def _watch(self) -> None:
        with self._changed:
            while True:
                if self._begins_at is None:
                    self._changed.wait()
                elif (left := self._begins_at - monotonic()) > 0:
                    self._changed.wait(left)
                else:
                    self._begins_at = None
                    self._give_back_now()

    def _give_back_now(self) -> None:
        try:
            self._give_back()
        except Exception as error:  # noqa: BLE001  # memory, say: then it is kept, and the next rest tries again
            _log.warning("nothing-given-back", error=type(error).__name__)
