"""All sessions of one worker process with one relay, and the short queue of gated letters before them.

The caller's loop: `n = await wire.room(want)`, gate n letters, `wire.submit(…)`, again; at last `await wire.drain()`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from service.clock import suspended_monotonic
from service.domain.errors import UnavailableError
from service.domain.replies import Phase, Reply, ReplyClass
from service.log import cut_addresses
from service.mail.channel import Channel, SessionError
from service.mail.conversation import Conversation
from service.mail.journal import Journal
from service.mail.letter import Letter, Outcome, Timeouts
from service.mail.relay import Relay
from service.mail.session import open_session
from service.mail.transaction import OnOutcome, Regate, Transaction

_TAKE_UP = 0.5  # seconds within which a letter should leave the queue: half the life of its gate
_QUEUE_LIMIT = 400  # letters
_BACK_OFF = (0.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # seconds; the last repeats
_LOCKED_OUT = (60.0, 120.0, 300.0, 600.0)  # seconds after a login that was refused: accounts get locked
_ENOUGH = 30.0  # seconds for which a relay that refuses one session more is not asked for it again
_TICK = 0.5  # seconds


class Wire:
    """The way to one relay. Every submitted letter gets exactly one outcome, whatever happens.

    Belongs to one event loop, which may stand still between batches: a session that died meanwhile is noticed before
    it is used. `trouble` says why nothing can be sent at present, None when it can; letters are then given back.
    """

    def __init__(self, relay: Relay, *, journal: Journal, helo_name: str, timeouts: Timeouts | None = None) -> None:
        self.relay = relay
        self.in_flight = 0  # letters submitted whose outcome is not known yet
        self._relay_name = relay.name
        self._journal = journal
        self._helo_name = helo_name
        self._timeouts = timeouts or Timeouts()
        self._tls = relay.tls_context()
        self._queue: deque[Transaction] = deque()
        self._conversations: set[Conversation] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._waiters: set[asyncio.Future[None]] = set()
        self._wake_below = 0
        self._relay_trouble: str | None = None
        self._disk_trouble: str | None = None
        self._trouble_phase = Phase.CONNECT
        self._setbacks = 0
        self._refused_logins = 0
        self._retry_at = 0.0
        self._enough_until = 0.0
        self._ticking: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def trouble(self) -> str | None:
        """Why nothing can be sent at present, for a person to read; without addresses and secrets."""
        return self._disk_trouble or self._relay_trouble

    @property
    def trouble_kind(self) -> str:
        """Of `trouble`, in a word: disk, auth, tls or down."""
        if self._disk_trouble:
            return "disk"
        return {Phase.AUTH: "auth", Phase.TLS: "tls"}.get(self._trouble_phase, "down")

    @property
    def connected(self) -> bool:
        """Whether the relay has let it in."""
        return bool(self._conversations)

    @property
    def past_dot(self) -> int:
        """Letters whose dot is written and whose reply is awaited."""
        return sum(conversation.past_dot for conversation in self._conversations)

    # For the caller

    async def room(self, want: int = 100) -> int:
        """How many letters, 1 to `want`, will be taken up within their gate's second; waits until there is room.

        Opens sessions first, so that no gate is spent on connecting; after setbacks it tries again twice at once, then
        after 1, 2, 5 … 30 s. Safe to cancel, for a heartbeat. Raises `UnavailableError` after `stop`.
        """
        while not (room := self.room_now(want)):
            await self._change()
        return room

    def room_now(self, want: int = 100) -> int:
        """As `room`, without waiting: 0 where there is no room at present. Opens sessions, too, and raises the same."""
        if self._stopping:
            raise UnavailableError(f"relay {self.relay.name}: this worker is stopping and takes no more letters")
        self._open_sessions(want)
        depth = self._depth() if self._journal_has_room(want) else 0
        if depth and 2 * len(self._queue) <= depth:
            return min(want, depth - len(self._queue))
        self._wake_below = depth // 2
        return 0

    def submit(self, letters: Iterable[Letter], on_outcome: OnOutcome, *, regate: Regate | None = None) -> None:
        """Send `letters` in order; `on_outcome`, which must not raise, is called once for each, from the event loop.

        `regate` is asked when a relay wants a body after its letter's gate has run out: it gates again and returns the
        new `good_until`, or None, and then the connection is dropped without a dot.
        """
        for letter in letters:
            self._queue.append(Transaction(letter, on_outcome, regate, letter.good_until))
            self.in_flight += 1
        self._dispatch()

    async def drain(self) -> None:
        """Wait until each submitted letter has its outcome; bounded by the time-outs."""
        while self.in_flight:
            await self._change()

    def stop(self) -> None:
        """Give back at once whatever is not past its dot; `drain` then waits for the rest alone."""
        self._stopping = True
        for conversation in list(self._conversations):
            conversation.retire()
        self._flush_queue("the worker is stopping")
        self._changed()

    def call_off(self, text: str) -> None:
        """Give back the letters that no session has begun with; those under way go on."""
        self._flush_queue(text)
        self._changed()

    async def close(self) -> None:
        """Stop, wait for the replies to what is past its dot, and say QUIT everywhere."""
        self.stop()
        await self.drain()
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, *self._leaving, return_exceptions=True)
        if self._ticking is not None:
            self._ticking.cancel()

    # For conversations (conversation.Pool)

    def take(self) -> Transaction | None:
        """The next letter whose gate is still good; the others are given back."""
        queue = self._queue
        now = suspended_monotonic()
        while queue:
            transaction = queue.popleft()
            if self._waiters and len(queue) <= self._wake_below:
                self._changed()
            if now <= transaction.good_until:
                return transaction
            self._return(transaction, "the gate ran out in the queue")
        return None

    def report(self, transaction: Transaction, reply: Reply, reply_class: ReplyClass, phase: Phase) -> None:
        """Tell the caller."""
        if 200 <= reply.code < 600 and reply.code != 421:
            self._setbacks = 0
        letter = transaction.letter
        self.in_flight -= 1
        outcome = Outcome(
            letter.delivery_id,
            letter.attempt,
            reply_class,
            reply.code,
            reply.enhanced,
            cut_addresses(reply.text),
            phase,
            self._relay_name,
            transaction.past_dot,
            letter.provider,
        )
        transaction.settled = True
        if not self.in_flight:
            self._changed()
        transaction.on_outcome(outcome)

    def give_back(self, transaction: Transaction, text: str, *, blamed: bool) -> None:
        """Queue an unsent letter again, in front; one that has cost two connections counts as an attempt."""
        if blamed and not transaction.lives:
            self.report(transaction, Reply(0, None, text), ReplyClass.TRANSIENT, transaction.phase)
            return
        transaction.lives -= blamed
        transaction.settled = False
        self._queue.appendleft(transaction)

    def free(self) -> None:
        """A conversation waits for letters: so may the caller's next group."""
        self._changed()

    def farewell(self, channel: Channel) -> None:
        """Wait for the reply to QUIT beside everything else."""
        task = asyncio.get_running_loop().create_task(channel.say_goodbye(self._timeouts.quit))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def over(self, text: str, *, setback: bool) -> None:
        """A conversation has ended: go on with the others, or a new one."""
        self._conversations = {conversation for conversation in self._conversations if not conversation.over}
        if setback:
            self._trouble_phase = Phase.MAIL
            self._set_back(text)
        if self._queue:
            self._open_sessions(len(self._queue))
            asyncio.get_running_loop().call_soon(self._dispatch)
        self._changed()

    # Letters

    def _dispatch(self) -> None:
        """Start idle conversations while there are letters; without any hope of one, give the letters back."""
        for conversation in list(self._conversations):
            if not self._queue:
                return
            if conversation.idle and not conversation.drop_if_stale():
                conversation.start()
        if not self._queue:
            return
        self._open_sessions(len(self._queue))
        if not self._conversations and not self._opening:
            self._flush_queue(self.trouble or "no session with the relay")

    def _flush_queue(self, text: str) -> None:
        while self._queue:
            self._return(self._queue.popleft(), text)

    def _return(self, transaction: Transaction, text: str) -> None:
        self.report(transaction, Reply(0, None, text), ReplyClass.NOT_SENT, Phase.MAIL)

    def _journal_has_room(self, letters: int) -> bool:
        """Whether letters can be recorded; asked before they are gated, so that a full disk costs no attempts."""
        try:
            self._journal.prepare(letters)
        except UnavailableError as error:
            self._disk_trouble = str(error)
        else:
            self._disk_trouble = None
        return self._disk_trouble is None

    def _depth(self) -> int:
        """How many letters the present sessions will take up soon enough."""
        depth = 0
        for conversation in self._conversations:
            soon = int(_TAKE_UP / max(conversation.letter_time(), 1e-6))
            depth += max(1, soon) if conversation.idle else soon
        return min(depth, _QUEUE_LIMIT)

    # Sessions

    def _open_sessions(self, want: int) -> None:
        now = asyncio.get_running_loop().time()
        self._tick_soon()
        if self._stopping or now < self._retry_at or (self._conversations and now < self._enough_until):
            return
        idle = sum(1 for conversation in self._conversations if conversation.idle)
        allowed = 1 if self._relay_trouble else self.relay.connections
        present = len(self._conversations) + len(self._opening)
        for _ in range(min(want - idle - len(self._opening), allowed - present)):
            task = asyncio.get_running_loop().create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    async def _open(self) -> None:
        try:
            channel, capabilities = await open_session(
                self.relay, helo_name=self._helo_name, timeouts=self._timeouts, tls=self._tls
            )
        except SessionError as error:
            self._not_let_in(error)
            return
        self._relay_trouble = None
        self._refused_logins = 0
        if self._stopping:
            self.farewell(channel)
            return
        self._conversations.add(
            Conversation(
                channel,
                capabilities,
                pool=self,
                journal=self._journal,
                timeouts=self._timeouts,
                window=self.relay.window,
            )
        )

    def _not_let_in(self, error: SessionError) -> None:
        """Wait before the next session: longer where a login was refused."""
        now = asyncio.get_running_loop().time()
        wait = 0.0
        if error.phase is Phase.AUTH:
            wait = _LOCKED_OUT[min(self._refused_logins, len(_LOCKED_OUT) - 1)]
            self._refused_logins += 1
        if self._conversations:
            self._enough_until = now + max(_ENOUGH, wait)
        else:
            self._trouble_phase = error.phase
            self._set_back(f"{self.relay.name}: {cut_addresses(error.text)} ({error.phase.value})")
        self._retry_at = max(self._retry_at, now + wait)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if not task.cancelled():
            task.result()
        self._dispatch()
        self._changed()

    def _set_back(self, text: str) -> None:
        """Wait before the next session; a relay that lets in but takes nothing counts like one that is away."""
        self._setbacks += 1
        now = asyncio.get_running_loop().time()
        self._retry_at = now + _BACK_OFF[min(self._setbacks, len(_BACK_OFF)) - 1]
        if not self._conversations:
            self._relay_trouble = text

    # Time

    def _tick_soon(self) -> None:
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(_TICK, self._tick)

    def _tick(self) -> None:
        """Look for time-outs; expire what is still due a moment later, when replies that wait have been read.

        After a SIGSTOP a loop may run its timers before it looks at its sockets.
        """
        self._ticking = None
        loop = asyncio.get_running_loop()
        now = loop.time()
        for conversation in self._conversations:
            due = conversation.due()
            if due <= now + _TICK:
                loop.call_at(max(due, now) + 0.02, self._expire, conversation)
        self._changed()
        if self._conversations or self._opening or self._waiters:
            self._tick_soon()

    def _expire(self, conversation: Conversation) -> None:
        if conversation in self._conversations and conversation.due() <= asyncio.get_running_loop().time():
            conversation.expire()

    async def _change(self) -> None:
        """Wait for anything to happen."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        self._tick_soon()
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _changed(self) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
