"""What one conversation writes: octets to its channel, and to the journal before any that end a letter."""

from __future__ import annotations

from service.domain.replies import Reply, ReplyClass
from service.mail.channel import Channel
from service.mail.journal import Journal
from service.mail.transaction import Transaction

_LARGE = 1 << 18  # octets: more than that seldom fits into a socket's buffer at once


class Pen:
    """Collects what belongs in one write, so that a body, its dot and the next envelope cost one system call."""

    def __init__(self, channel: Channel, journal: Journal) -> None:
        self._channel = channel
        self._journal = journal
        self._out: list[bytes] = []
        self._slow = False  # the kernel's buffer was once too small for a write

    def put(self, octets: bytes) -> None:
        """Write `octets` with the next `flush`."""
        self._out.append(octets)

    def end_letter(self, transaction: Transaction, *parts: bytes) -> None:
        """Record the dot, and write `parts`, which hold it, with the next `flush`.

        Raises `UnavailableError`, and writes nothing, when the journal's disk is full.
        """
        letter = transaction.letter
        self._journal.dot(letter.delivery_id, letter.attempt)
        transaction.past_dot = True
        self._out += parts

    def record_reply(self, transaction: Transaction, reply: Reply, outcome: ReplyClass) -> None:
        """Record what became of a letter, if its dot was recorded."""
        if transaction.past_dot:
            self._journal.reply(transaction.letter.delivery_id, transaction.letter.attempt, reply, outcome)

    def may_stall(self, size: int) -> bool:
        """Whether the kernel will perhaps not take so many octets at once.

        Then the body goes first and the dot when it is gone: a dot that was never given away is provably unsent.
        """
        return self._slow or size > _LARGE

    def flush(self) -> bool:
        """Hand everything over; whether the kernel took it all."""
        # Taken away first: a transport may call back, and lead here again, before its write returns.
        out, self._out = self._out, []
        if out:
            self._channel.write(out)
            self._slow = self._slow or self._channel.paused
        return not self._channel.paused

    def discard(self) -> None:
        """Forget what has not been flushed."""
        self._out.clear()
