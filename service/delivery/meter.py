"""The meter of one worker process: what it did, in sums, stored every few seconds with a transaction made anyway."""

from __future__ import annotations

import datetime as dt
import threading
from collections import Counter, deque
from collections.abc import Iterable
from operator import attrgetter

from service.clock import suspended_monotonic
from service.domain.providers import KNOWN
from service.domain.replies import ReplyClass
from service.domain.tally import Tally
from service.mail.letter import Outcome
from service.store import Session, measures

REPLIES, GATE, DOT, GATED = "replies", "gate_seconds", "dot_seconds", "gated"
LEASES_LOST, BATCHES = "leases_lost", "batches"
OTHER = "other"  # any provider that is not a known one: a domain may name a reader
_EVERY = 5.0  # seconds
_KIND = attrgetter("reply_class", "provider", "relay")


class Meter:
    """Shared by the loop's thread and the database's."""

    def __init__(self) -> None:
        self._tally = Tally()
        self._lock = threading.Lock()
        self._stored_at = 0.0
        self._moved: set[int] = set()

    def outcomes(self, mailing: int, spoken: Iterable[Outcome]) -> None:
        """Count what the relay said of letters of one mailing, by class, provider and relay."""
        found = Counter(map(_KIND, spoken))
        with self._lock:
            for (reply_class, named, relay), times in found.items():
                provider = named if named in KNOWN else OTHER
                self._tally.count(REPLIES, times, reply=reply_class.value, provider=provider, relay=relay)
                # What is gated and given back, again and again, gets nowhere.
                if reply_class is not ReplyClass.NOT_SENT:
                    self._moved.add(mailing)

    def gate(self, seconds: float, letters: int) -> None:
        """Note how long one gate took, and how many letters it let through."""
        with self._lock:
            self._tally.observe(GATE, seconds)
            self._tally.count(GATED, letters)

    def dots(self, seconds: deque[float]) -> None:
        """Note how long replies to a dot took; `seconds` is empty then."""
        with self._lock:
            while seconds:
                self._tally.observe(DOT, seconds.popleft())

    def count(self, name: str) -> None:
        """Note that something happened once."""
        with self._lock:
            self._tally.count(name)

    @property
    def due(self) -> bool:
        """Whether it is time to store the sums."""
        return suspended_monotonic() >= self._stored_at + _EVERY

    def store(self, session: Session, now: dt.datetime, *, at_once: bool = False) -> None:
        """Add the sums to the stored ones in this transaction, if it is time; they are forgotten once it is durable."""
        if not (at_once or self.due):
            return
        with self._lock:
            sums, moved = self._tally.sums(), set(self._moved)
        measures.add(session, sums)
        for mailing in sorted(moved):
            measures.note_progress(session, mailing, now)

        def forget() -> None:
            with self._lock:
                self._tally.forget(sums)
                self._moved -= moved
            self._stored_at = suspended_monotonic()

        session.after_commit(forget)
