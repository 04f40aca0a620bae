"""The transactions on one open session: which reply belongs to which letter, and when a body may be written.

A letter's way: [RSET] MAIL RCPT DATA body dot, or [RSET] MAIL RCPT BDAT with the body. With PIPELINING the next
envelope follows a dot in the same write; with CHUNKING too, whole letters follow each other: see `manner`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from service.clock import suspended_monotonic
from service.domain.replies import Phase, Reply, ReplyClass, classify, parse_reply
from service.mail.channel import Channel
from service.mail.envelope import Compose, UnmailableError
from service.mail.journal import Journal
from service.mail.letter import Timeouts
from service.mail.manner import Manner
from service.mail.pen import Pen
from service.mail.replyreader import RawReply
from service.mail.tempo import Tempo
from service.mail.transaction import LoginWanted, Pool, Transaction

_RSET, _MAIL, _RCPT, _DATA, _BODY, _DOT = Phase.RSET, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT
_LONG_IDLE = 1.0  # seconds
_FRESH = 1.0  # seconds after its opening
_FAREWELL = 5.0  # seconds in which a relay that said 421 may still answer what it has already read


class Conversation:
    """Implements `channel.Listener`; its owner calls `start` when it is idle, and `expire` when `due` has passed."""

    def __init__(
        self, channel: Channel, compose: Compose, *, pool: Pool, journal: Journal, timeouts: Timeouts, manner: Manner
    ) -> None:
        self._channel = channel
        self._compose = compose
        self._pool = pool
        self._timeouts = timeouts
        self._manner = manner
        self._pen = Pen(channel, journal, on_full=self._journal_full, dot_seconds=pool.dot_seconds)
        self._pipeline: deque[Transaction] = deque()
        self.under_way = self._pipeline  # for the owner to read
        self._must_reset = self._retiring = False
        self._farewell: Reply | None = None
        self._login: LoginWanted | None = None
        self._fault = False  # something was said or missed that speaks against the relay
        self.leaving = False  # takes no more letters, and ends after those under way
        self.over = False
        self._answered = 0  # replies since the session was last idle
        self._now = asyncio.get_running_loop().time
        self._touched = self._now()
        self._fresh_until = self._touched + _FRESH  # 0 once it has begun a letter
        self.tempo = Tempo(self._now)
        channel.listen(self)

    # For the owner

    @property
    def idle(self) -> bool:
        """Whether it can start with a new letter at once."""
        return not (self._pipeline or self.leaving or self.over)

    @property
    def past_dot(self) -> int:
        """Letters whose fate is the relay's to tell."""
        return sum(1 for transaction in self._pipeline if transaction.past_dot and not transaction.settled)

    def start(self) -> None:
        """Take letters from the pool; only when idle."""
        self._answered = 0
        self.tempo.start()
        if self._now() - self._touched > _LONG_IDLE:
            self._manner.paused()
        self._go_on()

    def due(self) -> float:
        """The time, on the loop's clock, by which something must have happened."""
        if self._farewell is not None:
            return self._touched + _FAREWELL
        if self._pipeline:
            return self._timeouts.due(self._pipeline[0].phase, touched=self._touched, since=self.tempo.since)
        return self._touched + self._timeouts.idle

    def expire(self) -> None:
        """Give up waiting: polite when idle, else by breaking the connection."""
        if not self._pipeline:
            self.quit()
            return
        text, fault = (head := self._pipeline[0]).silence()
        if not head.past_dot and not head.settled:
            self._settle(head, Reply(0, None, text), fault, head.phase)
        self._channel.abort(text)

    def retire(self) -> None:
        """Stop before the next dot: give back what is unsent, and end after the replies to what is past its dot."""
        self._retiring = self.leaving = True
        self._give_up("the worker is stopping")
        self._end_if_retired()

    def leave(self) -> None:
        """Take no more letters, and say goodbye after those under way."""
        self.leaving = True
        if not self._pipeline:
            self.quit()

    def let_go(self, text: str) -> bool:
        """Break off what takes too long, if nothing is past its dot, and give its letters back."""
        if self.over or self.past_dot or not self._pipeline:
            return False
        self._give_up(text, slow=self._pipeline[0].letter.provider)
        self._channel.abort(text)
        return True

    def _give_up(self, text: str, *, slow: str | None = None) -> None:
        for transaction in self._pipeline:
            if not transaction.past_dot and not transaction.settled:
                busy = transaction.letter.provider == slow
                self._pool.report(transaction, Reply(0, None, text), ReplyClass.NOT_SENT, _MAIL, busy=busy)

    def quit(self) -> None:
        """Say goodbye on an idle session."""
        self.over = True
        self._pool.over("", setback=False, login=self._login)
        self._pool.farewell(self._channel)

    def drop_if_stale(self) -> bool:
        """Whether an idle session has ended, or is about to, as far as this machine knows; then it is dropped."""
        if stale := self._channel.is_stale():
            self._channel.abort("the relay ended the idle session")
        return stale

    # For the channel

    def on_replies(self, replies: Sequence[RawReply]) -> None:
        """Give each reply to the oldest unanswered command, then go on."""
        pipeline = self._pipeline
        for code, lines in replies:
            if self.over:
                return
            if not pipeline:
                self._channel.abort(f"the relay said {code:03} on an idle session")
                return
            self._answered += 1
            transaction = pipeline[0]
            if code != 250 or not self._manner.pipelining or not self._as_usual(transaction):
                self._on_reply(transaction, code, lines)
        if self.over:
            return
        self._end_if_retired()
        self._go_on()
        if not pipeline and not self.over:
            self.quit() if self.leaving else self._pool.free()

    def on_drained(self) -> None:
        """The kernel has all of a body that was written without its dot: now the dot."""
        if self.over:
            return
        if self._pipeline and (head := self._pipeline[0]).phase is _BODY and not head.asking:
            self._pen.put_dot(head)
        self._go_on()

    def on_lost(self, text: str) -> None:
        """Settle what is past its dot, give back the rest."""
        if self.over:
            return
        self.over = True
        pipeline = self._pipeline
        if pipeline and self._channel.ended_by_relay:
            self._manner.lost()
        # A session that was good and died idle, before it could answer anything new, accuses nobody.
        blamed = self._farewell is None and self._login is None and (self._answered > 0 or not self._manner.answered)
        unused = self._now() < self._fresh_until
        setback = self._fault or unused or (blamed and any(not transaction.settled for transaction in pipeline))
        while pipeline:
            transaction = pipeline.popleft()
            if not transaction.settled and transaction.past_dot:
                self._settle(transaction, *transaction.abandoned(text, self._farewell))
            elif not transaction.settled:
                transaction.settled = True
                self._pool.give_back(transaction, f"{text} ({transaction.phase.value})", blamed=blamed)
            blamed = False
        self._pen.discard()
        parted = self._farewell is not None
        self._pool.over(text, setback=setback, login=self._login, parted=parted, unused=unused)

    # Replies

    def _as_usual(self, transaction: Transaction) -> bool:
        """Whether a 250 was all that it takes here: a few of these make nearly every letter, and need no more care."""
        phase = transaction.phase
        if phase is _MAIL:
            transaction.phase = _RCPT
        elif phase is _RCPT:
            transaction.recipient_accepted = True
            transaction.phase = _DOT if transaction.chunked and self._manner.window else _DATA
        elif phase is _RSET:
            transaction.phase = _MAIL
        elif phase is _DOT and transaction.regate is not None and not transaction.settled:
            self._manner.answered += 1
            self._pen.record_accepted(transaction)
            self._pool.accepted(transaction)
            self._done(transaction)
        else:
            return False
        return True

    def _on_reply(self, transaction: Transaction, code: int, lines: list[bytes]) -> None:
        phase = transaction.phase
        if phase is _DOT:
            self._on_dot(transaction, lines)
        elif phase is _MAIL:
            transaction.phase = _RCPT
            self._envelope_reply(transaction, code, lines, _MAIL)
        elif phase is _RCPT:
            transaction.recipient_accepted = 200 <= code < 300
            transaction.phase = _DOT if transaction.chunked and self._manner.window else _DATA
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
        if not self._manner.pipelining and not self.over:
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
            self._pen.put(b".\r\n")  # RFC 2920 §3.1: nobody's message
            transaction.phase = _DOT

    def _on_dot(self, transaction: Transaction, lines: list[bytes]) -> None:
        reply = parse_reply(lines)
        if transaction.settled:
            self._done(transaction)
            self._must_reset = transaction.past_dot  # the 503 to a BDAT leaves its transaction open
            self._heed(reply, nonsense=False)
            return
        outcome = classify(reply, _DOT)
        self._manner.answered += 1
        self._settle(transaction, reply, outcome, _DOT)
        self._done(transaction)
        self._heed(reply, nonsense=outcome is ReplyClass.UNCERTAIN)

    def _refuse(self, transaction: Transaction, lines: list[bytes], phase: Phase) -> None:
        """Settle by a reply that is not the one wanted, if nothing settled it before."""
        reply = parse_reply(lines)
        if not transaction.settled:
            outcome = transaction.judged(reply, phase)
            if outcome is ReplyClass.RELAY and not self._pool.suspects(transaction):
                self._want_login(transaction, reply, phase)
                return
            self._settle(transaction, reply, outcome, phase)
        self._heed(reply, nonsense=not 400 <= reply.code < 600)

    def _want_login(self, transaction: Transaction, reply: Reply, phase: Phase) -> None:
        """End a session on which nothing is taken, after the replies to what is past its dot; no letter's fault."""
        self._login = transaction.login_wanted(reply, phase, proven=self._manner.answered > 0)
        if transaction.past_dot:  # by BDAT, which is void after this refusal
            self._settle(transaction, reply, ReplyClass.NOT_SENT, phase)
        self._retiring = self.leaving = True
        self._end_if_retired()

    def _heed(self, reply: Reply, *, nonsense: bool) -> None:
        """End the session on what makes no sense, or where the relay wants it ended."""
        if nonsense:
            self._fault = True
            self._channel.abort("the relay's reply makes no sense")
        elif reply.code == 421:
            self._part(reply)

    def _part(self, farewell: Reply) -> None:
        self._farewell = farewell
        self._fault = self._retiring = self.leaving = True
        self._end_if_retired()

    def _end_if_retired(self) -> None:
        if not self._retiring or self.over or self.past_dot:
            return
        if self._pipeline or self._farewell is not None:
            self._channel.abort(f"the relay said {self._farewell.code}" if self._farewell else "the session had to end")
        else:
            self.quit()

    def _settle(self, transaction: Transaction, reply: Reply, outcome: ReplyClass, phase: Phase) -> None:
        transaction.settled = True
        try:
            self._pen.record_reply(transaction, reply, outcome)
        finally:  # what was read is told even where the journal has no room for it: nobody else ever would
            self._pool.report(transaction, reply, outcome, phase)

    def _done(self, transaction: Transaction) -> None:
        if self._pipeline and self._pipeline[0] is transaction:
            self._pipeline.popleft()
        self.tempo.beat()

    # Commands

    def _go_on(self, gated: Transaction | None = None) -> None:
        """Put the body that was `gated` again and as many envelopes as may go on the wire, or break the connection."""
        try:
            if gated is not None:
                gated.phase = _DOT
                self._pen.put_letter(gated)
            while not (self.leaving or self.over) and self._manner.has_room(
                self._pipeline, blocked=self._channel.paused
            ):
                transaction = self._pool.take(self._pipeline)
                if transaction is None:
                    break
                self._begin(transaction)
            if not self.over:
                self._pen.flush()
            self._touched = self._now()
        except BaseException:
            self._channel.abort("the worker failed at a letter")
            raise

    def _begin(self, transaction: Transaction) -> None:
        chunked = transaction.chunked = self._manner.chunked(self._pipeline)
        # While its reply is outstanding nobody knows whether the relay will still have a refused transaction open.
        reset = self._must_reset or (bool(self._pipeline) and self._pipeline[-1].chunked)
        transaction.begin(_RSET if reset else _MAIL)
        self._fresh_until = 0.0
        self._pipeline.append(transaction)
        try:
            mail, rcpt, transaction.segments = self._compose(transaction.letter, stuffed=not chunked)
        except UnmailableError as error:
            self._pipeline.pop()
            self._settle(transaction, error.reply, error.reply_class, _RCPT)
            return
        self._must_reset = False
        self._pen.put_envelope(transaction, mail, rcpt, reset=reset, pipelining=self._manner.pipelining)

    def _next_command(self, transaction: Transaction) -> None:
        """Go on in lockstep, one command after the reply to the last."""
        if self._manner.pipelining:
            return
        if transaction.settled and transaction.phase is not _MAIL:
            self._must_reset = True
            self._done(transaction)
        elif transaction.chunked and transaction.phase is _DATA:
            self._pass_gate(transaction)
        else:
            self._pen.put_next(transaction)

    # Bodies

    def _pass_gate(self, transaction: Transaction) -> None:
        """Write the body if the letter's gate is still good, else ask for a new one first."""
        if self._retiring:
            self._channel.abort("the worker is stopping")
        elif suspended_monotonic() <= transaction.good_until:
            transaction.phase = _DOT
            self._pen.put_letter(transaction)
        else:
            transaction.phase = _BODY
            transaction.ask_gate_again(lambda: self._gate_answered(transaction))

    def _gate_answered(self, transaction: Transaction) -> None:
        if self.over or transaction.settled:
            return
        if suspended_monotonic() > transaction.good_until:
            self._settle(transaction, Reply(0, None, text := "the gate was refused"), ReplyClass.NOT_SENT, _DATA)
            self._channel.abort(text)
            return
        self._go_on(gated=transaction)

    def _journal_full(self, transaction: Transaction, text: str) -> None:
        self._fault = True
        self._settle(transaction, Reply(0, None, text), ReplyClass.NOT_SENT, _BODY)
        self._channel.abort(text)
