"""The transactions on one open session: which reply belongs to which letter, and when a body may be written.

A letter's way: [RSET] MAIL RCPT DATA body dot, or [RSET] MAIL RCPT BDAT with the body. With PIPELINING the next
envelope follows a dot in the same write; with CHUNKING too, up to `window` whole letters are under way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from service.clock import suspended_monotonic
from service.domain.errors import UnavailableError
from service.domain.replies import Phase, Reply, ReplyClass, classify, parse_reply
from service.mail.channel import Channel
from service.mail.envelope import UnmailableError, compose
from service.mail.journal import Journal
from service.mail.letter import Timeouts
from service.mail.replyreader import RawReply
from service.mail.session import Capabilities
from service.mail.transaction import Pool, Transaction

_RSET, _MAIL, _RCPT, _DATA, _BODY, _DOT = Phase.RSET, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT
_LARGE = 1 << 18  # octets: more than that seldom fits into a socket's buffer at once
_UNKNOWN_PACE = 0.6  # seconds a letter takes on a session that has not sent one: no more than one at first
_FAREWELL = 5.0  # seconds in which a relay that said 421 may still answer what it has already read


class Conversation:
    """Implements `channel.Listener`; its owner calls `start` when it is idle, and `expire` when `due` has passed."""

    def __init__(
        self,
        channel: Channel,
        capabilities: Capabilities,
        *,
        pool: Pool,
        journal: Journal,
        timeouts: Timeouts,
        window: int,
    ) -> None:
        self._channel = channel
        self._can = capabilities
        self._pool = pool
        self._journal = journal
        self._timeouts = timeouts
        self._chunking = capabilities.chunking and window > 0
        self._window = window if self._chunking and capabilities.pipelining else 0
        self._pipeline: deque[Transaction] = deque()
        self._out: list[bytes] = []
        self._must_reset = False
        self._careful = False  # the kernel's buffer was once too small for a letter: body first, dot later
        self._farewell: Reply | None = None
        self._fault = False  # something was said or missed that speaks against the relay
        self._served = False  # a letter has gone through: the session was good once
        self._retiring = False
        self._over = False
        self._answered = 0  # replies since the session was last idle
        self._now = asyncio.get_running_loop().time
        self.touched = self._mark = self._now()
        self._pace = _UNKNOWN_PACE
        channel.listen(self)

    # For the owner

    @property
    def idle(self) -> bool:
        """Whether it can start with a new letter at once."""
        return not self._pipeline and not self._retiring and not self._over

    @property
    def past_dot(self) -> int:
        """Letters whose fate is the relay's to tell."""
        return sum(1 for transaction in self._pipeline if transaction.past_dot and not transaction.settled)

    def letter_time(self) -> float:
        """Seconds that a letter takes here: a running mean, and no less than what the present one has taken so far."""
        return self._pace if not self._pipeline else max(self._pace, self._now() - self._mark)

    def start(self) -> None:
        """Take letters from the pool; only when idle."""
        self._answered = 0
        self._mark = self._now()
        self._fill()
        self._flush()

    def due(self) -> float:
        """The time, on the loop's clock, by which something must have happened."""
        if not self._pipeline:
            return self.touched + self._timeouts.idle
        if self._farewell is not None:
            return self.touched + _FAREWELL
        times, phase = self._timeouts, self._pipeline[0].phase
        seconds = {_RSET: times.mail, _MAIL: times.mail, _RCPT: times.rcpt, _DATA: times.data, _BODY: times.body}
        return self.touched + seconds.get(phase, times.dot)

    def expire(self) -> None:
        """Give up waiting: polite when idle, else by breaking the connection."""
        if not self._pipeline:
            self.quit()
            return
        head = self._pipeline[0]
        text = f"no reply to {head.phase.value} in time" if not head.asking else "the gate gave no answer in time"
        if not head.past_dot and not head.settled:
            fault = ReplyClass.NOT_SENT if head.asking else ReplyClass.TRANSIENT
            self._settle(head, Reply(0, None, text), fault, head.phase)
        self._channel.abort(text)

    def retire(self) -> None:
        """Stop before the next dot: give back what is unsent, and end after the replies to what is past its dot."""
        self._retiring = True
        for transaction in self._pipeline:
            if not transaction.past_dot and not transaction.settled:
                self._settle(transaction, Reply(0, None, "the worker is stopping"), ReplyClass.NOT_SENT, _MAIL)
        if self._pipeline:
            self._end_if_retired()
        else:
            self.quit()

    def quit(self) -> None:
        """Say goodbye on an idle session."""
        self._over = True
        self._pool.over(self, "", setback=False)
        self._pool.farewell(self._channel)

    def drop_if_stale(self) -> bool:
        """Whether an idle session has ended, or is about to, as far as this machine knows; then it is dropped."""
        stale = self._channel.is_stale()
        if stale:
            self._channel.abort("the relay ended the idle session")
        return stale

    # For the channel

    def on_replies(self, replies: Sequence[RawReply]) -> None:
        """Give each reply to the oldest unanswered command, then go on."""
        pipeline = self._pipeline
        for code, lines in replies:
            if self._over:
                return
            if not pipeline:
                self._channel.abort(f"the relay said {code:03} unasked")
                return
            self._answered += 1
            self._on_reply(pipeline[0], code, lines)
        if self._over:
            return
        self._end_if_retired()
        self._fill()
        self._flush()
        if not pipeline and not self._over:
            self._pool.free(self)

    def on_drained(self) -> None:
        """The kernel has all of a body that was written without its dot: now the dot."""
        if self._pipeline and self._pipeline[0].phase is _BODY and not self._pipeline[0].asking:
            self._write_dot(self._pipeline[0])
        self._fill()
        self._flush()

    def on_lost(self, text: str) -> None:
        """Settle what is past its dot, give back the rest."""
        if self._over:
            return
        self._over = True
        pipeline = self._pipeline
        # A session that was good and died idle, before it could answer anything new, accuses nobody.
        blamed = self._farewell is None and (self._answered > 0 or not self._served)
        setback = self._fault or (blamed and any(not transaction.settled for transaction in pipeline))
        while pipeline:
            transaction = pipeline.popleft()
            if not transaction.settled:
                self._abandon(transaction, text, blamed=blamed)
            blamed = False
        self._out.clear()
        self._pool.over(self, text, setback=setback)

    def _abandon(self, transaction: Transaction, text: str, *, blamed: bool) -> None:
        if not transaction.past_dot:
            transaction.settled = True
            self._pool.give_back(transaction, f"{text} ({transaction.phase.value})", blamed=blamed)
        elif self._farewell is not None:
            # Commands are executed in order, and none after the 421: RFC 5321 §3.8.
            self._settle(transaction, self._farewell, ReplyClass.NOT_SENT, transaction.phase)
        else:
            self._settle(transaction, Reply(0, None, f"{text} after the final dot"), ReplyClass.UNCERTAIN, _DOT)

    # Replies

    def _on_reply(self, transaction: Transaction, code: int, lines: list[bytes]) -> None:
        phase = transaction.phase
        if phase is _DOT:
            self._on_dot(transaction, lines)
        elif phase is _MAIL:
            transaction.phase = _RCPT
            self._envelope_reply(transaction, code, lines, _MAIL)
        elif phase is _RCPT:
            transaction.recipient_accepted = 200 <= code < 300
            transaction.phase = _DOT if self._window else _DATA
            self._envelope_reply(transaction, code, lines, _RCPT)
        elif phase is _DATA:
            self._on_data(transaction, code, lines)
        elif phase is _RSET:
            self._on_reset(transaction, code, lines)
        else:
            # An answer before the question was complete: the relay has seen enough of this body.
            self._refuse(transaction, lines, _BODY)
            self._channel.abort("the relay answered in the middle of a body")

    def _on_reset(self, transaction: Transaction, code: int, lines: list[bytes]) -> None:
        transaction.phase = _MAIL
        if 200 <= code < 300:
            self._next_command(transaction)
        elif code == 421:
            self._part(parse_reply(lines))
        else:
            self._fault = True
            self._channel.abort("the relay refused RSET")

    def _envelope_reply(self, transaction: Transaction, code: int, lines: list[bytes], phase: Phase) -> None:
        if not 200 <= code < 300:
            self._refuse(transaction, lines, phase)
        if not self._can.pipelining and not self._over:
            self._next_command(transaction)

    def _on_data(self, transaction: Transaction, code: int, lines: list[bytes]) -> None:
        if code != 354:
            self._refuse(transaction, lines, _DATA)
            self._done(transaction)
            self._must_reset = True
        elif not transaction.settled:
            self._pass_gate(transaction)
        elif transaction.recipient_accepted:
            # It would take the lone dot for an empty letter to a reader.
            self._channel.abort("the relay asks for a body that is not to be sent")
        else:
            self._out.append(b".\r\n")  # RFC 2920 §3.1: nobody's message
            transaction.phase = _DOT

    def _on_dot(self, transaction: Transaction, lines: list[bytes]) -> None:
        reply = parse_reply(lines)
        if transaction.settled:
            self._done(transaction)
            self._must_reset = transaction.past_dot  # the 503 to a BDAT leaves its transaction open
            if reply.code == 421:
                self._part(reply)
            return
        outcome = classify(reply, _DOT)
        self._served = True
        self._settle(transaction, reply, outcome, _DOT)
        self._done(transaction)
        if outcome is ReplyClass.UNCERTAIN:
            self._channel.abort("the relay's reply makes no sense")
        elif reply.code == 421:
            self._part(reply)

    def _refuse(self, transaction: Transaction, lines: list[bytes], phase: Phase) -> None:
        """Settle by a reply that is not the one wanted, if nothing settled it before."""
        reply = parse_reply(lines)
        out_of_step = not 400 <= reply.code < 600
        if not transaction.settled:
            outcome = classify(reply, phase)
            if out_of_step:
                # With BDAT the body is gone already, so only a clear refusal says that it was not taken.
                outcome = ReplyClass.UNCERTAIN if transaction.past_dot else ReplyClass.TRANSIENT
            self._settle(transaction, reply, outcome, phase)
        if out_of_step:
            self._fault = True
            self._channel.abort("the relay's reply makes no sense")
        elif reply.code == 421:
            self._part(reply)

    def _part(self, farewell: Reply) -> None:
        self._fault = True
        self._farewell = farewell
        self._retiring = True
        self._end_if_retired()

    def _end_if_retired(self) -> None:
        if self._retiring and not self._over and not self.past_dot:
            self._channel.abort(f"the relay said {self._farewell.code}" if self._farewell else "the worker is stopping")

    def _settle(self, transaction: Transaction, reply: Reply, outcome: ReplyClass, phase: Phase) -> None:
        transaction.settled = True
        if transaction.past_dot and outcome is not ReplyClass.UNCERTAIN:
            letter = transaction.letter
            self._journal.reply(letter.delivery_id, letter.attempt, reply, outcome)
        self._pool.report(transaction, reply, outcome, phase)

    def _done(self, transaction: Transaction) -> None:
        if self._pipeline and self._pipeline[0] is transaction:
            self._pipeline.popleft()
        now = self._now()
        weight = 1.0 if self._pace == _UNKNOWN_PACE else 0.1
        self._pace += weight * (now - self._mark - self._pace)
        self._mark = now

    # Commands

    def _fill(self) -> None:
        """Put as many envelopes on the wire as the relay allows and the pool has."""
        while self._has_room():
            transaction = self._pool.take()
            if transaction is None:
                return
            self._begin(transaction)

    def _has_room(self) -> bool:
        pipeline = self._pipeline
        if self._retiring or self._over:
            return False
        if not pipeline:
            return True
        if self._window:
            return len(pipeline) < self._window and not self._channel.paused
        return self._can.pipelining and pipeline[-1].phase is _DOT

    def _begin(self, transaction: Transaction) -> None:
        try:
            mail, rcpt, transaction.segments = compose(transaction.letter, self._can, stuffed=not self._chunking)
        except UnmailableError as error:
            self._settle(transaction, error.reply, error.reply_class, _RCPT)
            return
        # While replies are outstanding nobody knows whether the relay will still have a refused transaction open.
        reset = self._must_reset or (self._window > 0 and bool(self._pipeline))
        self._must_reset = False
        transaction.phase = _RSET if reset else _MAIL
        transaction.past_dot = transaction.recipient_accepted = False
        self._pipeline.append(transaction)
        if not self._can.pipelining:
            transaction.commands = (mail, rcpt)
            self._out.append(b"RSET\r\n" if reset else mail)
            return
        self._out.append((b"RSET\r\n" if reset else b"") + mail + rcpt + (b"" if self._window else b"DATA\r\n"))
        if self._window:
            self._write_chunk(transaction)

    def _next_command(self, transaction: Transaction) -> None:
        """Go on in lockstep, one command after the reply to the last."""
        if self._can.pipelining:
            return
        if transaction.phase is _MAIL:
            self._out.append(transaction.commands[0])
        elif transaction.settled:
            self._must_reset = True
            self._done(transaction)
        elif transaction.phase is _RCPT:
            self._out.append(transaction.commands[1])
        elif self._chunking:
            self._pass_gate(transaction)
        else:
            self._out.append(b"DATA\r\n")

    # Bodies

    def _pass_gate(self, transaction: Transaction) -> None:
        """Write the body if the letter's gate is still good, else ask for a new one first."""
        if self._retiring:
            self._channel.abort("the worker is stopping")
        elif suspended_monotonic() <= transaction.good_until:
            self._write_body(transaction)
        elif transaction.regate is None:
            self._close_gate(transaction, "the gate ran out before the body")
        else:
            transaction.phase, transaction.asking = _BODY, True
            asking = asyncio.ensure_future(transaction.regate(transaction.letter))
            asking.add_done_callback(lambda answer: self._gate_answered(transaction, answer))

    def _gate_answered(self, transaction: Transaction, answer: asyncio.Future[float | None]) -> None:
        refused = answer.cancelled() or answer.exception() is not None
        good_until = None if refused else answer.result()
        if self._over or transaction.settled:
            return
        transaction.asking = False
        if good_until is None or suspended_monotonic() > good_until:
            self._close_gate(transaction, "the gate was refused before the body")
            return
        transaction.good_until = good_until
        self._write_body(transaction)
        self._fill()
        self._flush()

    def _close_gate(self, transaction: Transaction, text: str) -> None:
        self._settle(transaction, Reply(0, None, text), ReplyClass.NOT_SENT, _DATA)
        self._channel.abort(text)

    def _write_body(self, transaction: Transaction) -> None:
        if self._chunking:
            self._write_chunk(transaction)
            transaction.phase = _DOT
            return
        assert transaction.segments is not None
        body = transaction.segments.join(transaction.letter.values)
        if not self._careful and len(body) < _LARGE:
            self._write_dot(transaction, body)
            return
        # A dot that the kernel has not taken yet is provably unsent, as long as it has not been given to anyone.
        transaction.phase = _BODY
        self._out.append(body)
        self._flush()
        if not self._channel.paused and not self._over:
            self._write_dot(transaction)

    def _write_dot(self, transaction: Transaction, body: bytes = b"") -> None:
        if self._record_dot(transaction):
            transaction.phase = _DOT
            self._out += (body, b".\r\n") if body else (b".\r\n",)

    def _write_chunk(self, transaction: Transaction) -> None:
        assert transaction.segments is not None
        body = transaction.segments.join(transaction.letter.values)
        if self._record_dot(transaction):
            self._out += (b"BDAT %d LAST\r\n" % len(body), body)

    def _record_dot(self, transaction: Transaction) -> bool:
        """Write the journal's record; False when its disk is full: then the dot must not be sent."""
        letter = transaction.letter
        try:
            self._journal.dot(letter.delivery_id, letter.attempt)
        except UnavailableError as error:
            self._out.clear()
            self._fault = True
            self._settle(transaction, Reply(0, None, str(error)), ReplyClass.NOT_SENT, _BODY)
            self._channel.abort(str(error))
            return False
        transaction.past_dot = True
        return True

    def _flush(self) -> None:
        # Taken away first: a transport may call `on_drained`, and so this, before its write returns.
        out, self._out = self._out, []
        if out and not self._over:
            self._channel.write(out)
            self._careful = self._careful or self._channel.paused
        self.touched = self._now()
