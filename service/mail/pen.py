"""What one conversation writes: octets to its channel, and to the journal before any that end a letter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from service.clock import suspended_monotonic
from service.domain.errors import UnavailableError
from service.domain.replies import Phase, Reply, ReplyClass
from service.mail.channel import Channel
from service.mail.journal import Journal
from service.mail.transaction import Transaction

_LARGE = 1 << 18  # octets: more than that seldom fits into a socket's buffer at once


class Pen:
    """Collects what belongs in one write, so that a body, its dot and the next envelope cost one system call.

    `on_full` is called, and nothing written, for a letter that the journal's disk has no room for. How long replies to
    a dot take is added to `dot_seconds`, of one letter at a time.
    """

    def __init__(
        self,
        channel: Channel,
        journal: Journal,
        *,
        on_full: Callable[[Transaction, str], None],
        dot_seconds: deque[float],
    ) -> None:
        self._channel = channel
        self._journal = journal
        self._on_full = on_full
        self._dot_seconds = dot_seconds
        self._timed: Transaction | None = None
        self._timed_from = 0.0
        self._out: list[bytes] = []
        self._slow = False  # the kernel's buffer was once too small for a write

    def put(self, octets: bytes) -> None:
        """Write `octets` with the next `flush`."""
        self._out.append(octets)

    def put_envelope(
        self, transaction: Transaction, mail: bytes, rcpt: bytes, *, reset: bool, pipelining: bool
    ) -> None:
        """Write what precedes a body with the next `flush`, and by BDAT the body too; in lockstep the first command."""
        if not pipelining:
            transaction.commands = {Phase.MAIL: mail, Phase.RCPT: rcpt, Phase.DATA: b"DATA\r\n"}
            self.put(b"RSET\r\n" if reset else mail)
            return
        self.put((b"RSET\r\n" if reset else b"") + mail + rcpt + (b"" if transaction.chunked else b"DATA\r\n"))
        if transaction.chunked:
            self.put_letter(transaction)

    def put_next(self, transaction: Transaction) -> None:
        """In lockstep, write the command of the transaction's phase with the next `flush`."""
        assert transaction.commands is not None
        self.put(transaction.commands[transaction.phase])

    def put_letter(self, transaction: Transaction) -> None:
        """Write a whole letter with the next `flush`, as BDAT, or as a body with its dot.

        Where the kernel may not take it all at once, the body goes now and alone, and the transaction stays in BODY
        until `put_dot`: a dot that was never handed over is provably unsent.
        """
        assert transaction.segments is not None
        # Joined when they are written: once, with what stands before.
        body = transaction.segments.parts(transaction.letter.values)
        size = sum(map(len, body))
        if transaction.chunked:
            self._end(transaction, b"BDAT %d LAST\r\n" % size, *body)
        elif self._slow or size > _LARGE:
            transaction.phase = Phase.BODY
            self._out += body
            # Draining may have been told, and the dot put, before the flush returned.
            if self.flush() and transaction.phase is Phase.BODY:
                self.put_dot(transaction)
        else:
            transaction.phase = Phase.DOT
            self._end(transaction, *body, b".\r\n")

    def put_dot(self, transaction: Transaction) -> None:
        """Write the dot of a body that is gone."""
        transaction.phase = Phase.DOT
        self._end(transaction, b".\r\n")

    def _end(self, transaction: Transaction, *parts: bytes) -> None:
        if self._channel.is_closing():
            self._channel.abort("the connection broke")
            return
        letter = transaction.letter
        try:
            self._journal.dot(letter.delivery_id, letter.attempt)
        except UnavailableError as error:
            self._out.clear()
            self._on_full(transaction, str(error))
            return
        transaction.past_dot = True
        if self._timed is None:
            self._timed, self._timed_from = transaction, suspended_monotonic()
        self._out += parts

    def record_reply(self, transaction: Transaction, reply: Reply, outcome: ReplyClass) -> None:
        """Record what was said of a letter, if its dot was recorded; nothing where nobody knows what became of it."""
        if outcome is ReplyClass.UNCERTAIN:
            return
        if transaction is self._timed:
            self._stop_timing()
        if transaction.past_dot:
            self._journal.reply(transaction.letter.delivery_id, transaction.letter.attempt, reply, outcome)

    def record_accepted(self, transaction: Transaction) -> None:
        """As `record_reply`, for code 250."""
        if transaction is self._timed:
            self._stop_timing()
        if transaction.past_dot:
            self._journal.accepted(transaction.letter.delivery_id, transaction.letter.attempt)

    def _stop_timing(self) -> None:
        self._timed = None
        self._dot_seconds.append(suspended_monotonic() - self._timed_from)

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
