"""All sessions of one worker process with one relay, and the short queue of gated letters before them.

The caller's loop: `n = await wire.room(want)`, gate n letters, `wire.submit(…)`, again; at last `await wire.drain()`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial

from service.clock import suspended_monotonic
from service.domain.errors import UnavailableError
from service.domain.replies import Phase, Reply, ReplyClass
from service.mail.changes import Changes
from service.mail.channel import Channel
from service.mail.conversation import Conversation
from service.mail.dkim import Signer
from service.mail.envelope import compose
from service.mail.journal import Journal
from service.mail.letter import Letter, Outcome, Timeouts
from service.mail.manner import TRIAL, Endings, Manner
from service.mail.opener import Opener
from service.mail.relay import Relay
from service.mail.session import Capabilities
from service.mail.shares import Shares
from service.mail.tempo import patience
from service.mail.transaction import LoginWanted, OnOutcome, Regate, Transaction

_TAKEN = Reply(250, None, "")
_QUEUE_LIMIT = 400  # letters
_TICK = 0.5  # seconds
_EARLY = 0.6  # seconds before the end of its gate at which a letter is given back that found no session: over a tick
_NAMED = frozenset({Phase.RCPT, Phase.DATA, Phase.DOT})  # where a refusal may speak of the recipient's provider
_NO_ANSWER = frozenset({ReplyClass.RELAY, ReplyClass.NOT_SENT})  # to a letter, as a relay should give one


class Wire:
    """The way to one relay. Every submitted letter gets exactly one outcome, whatever happens.

    Belongs to one event loop, which may stand still between batches: a session that died meanwhile is noticed before
    it is used. `trouble` says why nothing can be sent at present, None when it can; letters are then given back.
    `shares` says which provider may be busy on how many sessions; letters that find none in their gate's second are
    given back as busy.
    """

    def __init__(
        self,
        relay: Relay,
        *,
        journal: Journal,
        helo_name: str,
        timeouts: Timeouts | None = None,
        signer: Signer | None = None,
        trial: int = TRIAL,
    ) -> None:
        self.relay = relay
        self.in_flight = 0  # letters submitted whose outcome is not known yet
        self.dot_seconds: deque[float] = deque(maxlen=500)  # see Pool; for who takes them away
        self._relay_name = relay.name
        self._journal = journal
        self._timeouts = timeouts or Timeouts()
        self._opener = Opener(
            relay,
            helo_name=helo_name,
            timeouts=self._timeouts,
            present=lambda: len(self._conversations),
            opened=self._opened,
            ended=self._try_ended,
        )
        self._queue: deque[Transaction] = deque()
        self._shares = Shares(relay.connections)
        self._manner = partial(Manner, window=relay.window, endings=Endings(), trial=trial)
        self._compose = partial(compose, signer=signer)
        self._conversations: set[Conversation] = set()
        self._leaving: set[asyncio.Task[None]] = set()
        self._changes = Changes()
        self._wake_below = 0
        self._disk_trouble: str | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._stopping = False

    @property
    def trouble(self) -> str | None:
        """Why nothing can be sent at present, for a person to read; without addresses and secrets."""
        return self._disk_trouble or self._opener.trouble

    @property
    def trouble_kind(self) -> str:
        """Of `trouble`, in a word: disk, auth, tls or down."""
        return "disk" if self._disk_trouble else self._opener.trouble_kind

    @property
    def connected(self) -> bool:
        """Whether the relay has let it in."""
        return bool(self._conversations)

    @property
    def past_dot(self) -> int:
        """Letters whose dot is written and whose reply is awaited."""
        return sum(conversation.past_dot for conversation in self._conversations)

    # For the caller

    def limit(self, connections: int) -> None:
        """Have at most `connections` sessions from now on, at least one; those too many end after their letters."""
        self._shares.connections = connections = max(1, connections)
        staying = sorted((each for each in self._conversations if not each.leaving), key=lambda each: not each.idle)
        for conversation in staying[: max(0, len(staying) - connections)]:
            conversation.leave()
        self._dispatch()
        self._changes.tell()

    def hold(self, provider: str, most: int | None) -> None:
        """Let letters of `provider` be under way on `most` sessions at once, at least one; None: on all."""
        self._shares.hold(provider, most)
        self._dispatch()

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
        shares = self._shares
        for letter in letters:
            if letter.provider != shares.latest:
                shares.meet(letter.provider)
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
        self._changes.tell()

    def call_off(self, text: str) -> None:
        """Give back the letters that no session has begun with; those under way go on."""
        self._flush_queue(text)
        self._changes.tell()

    async def close(self) -> None:
        """Stop, wait for the replies to what is past its dot, and say QUIT everywhere."""
        self.stop()
        await self.drain()
        await self._opener.close()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        if self._ticking is not None:
            self._ticking.cancel()

    # For conversations (conversation.Pool)

    def take(self, under_way: deque[Transaction]) -> Transaction | None:
        """The next letter whose gate is still good; the others are given back."""
        queue, shares = self._queue, self._shares
        now = suspended_monotonic()
        while queue or shares.careful:
            transaction = shares.choose(queue, under_way) if shares.careful else queue.popleft()
            if self._changes.waiters and len(queue) <= self._wake_below:
                self._changes.tell()
            if transaction is None:
                break
            if now <= transaction.good_until:
                return transaction
            self._return(transaction, "the gate ran out in the queue")
        self._turn_away(shares.turned_away)
        return None

    def report(
        self, transaction: Transaction, reply: Reply, reply_class: ReplyClass, phase: Phase, *, busy: bool = False
    ) -> None:
        """Tell the caller."""
        if self._shares.watched or reply_class is ReplyClass.TRANSIENT:
            self._learn(transaction.letter.provider, reply, reply_class, phase)
        if 200 <= reply.code < 600 and reply.code != 421 and reply_class not in _NO_ANSWER:
            self._opener.answered()
        letter, past_dot = transaction.letter, transaction.past_dot
        outcome = Outcome.of(letter, reply_class, reply, phase, self._relay_name, past_dot=past_dot, busy=busy)
        self._tell(transaction, outcome)

    def accepted(self, transaction: Transaction) -> None:
        """Tell the caller of a plain 250."""
        if self._shares.watched:
            self._learn(transaction.letter.provider, _TAKEN, ReplyClass.ACCEPTED, Phase.DOT)
        self._opener.answered()
        self._tell(transaction, Outcome.accepted(transaction.letter, self._relay_name, transaction.past_dot))

    def _tell(self, transaction: Transaction, outcome: Outcome) -> None:
        self.in_flight -= 1
        transaction.settled = True
        if not self.in_flight:
            self._changes.tell()
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
        self._changes.tell()

    def farewell(self, channel: Channel) -> None:
        """Wait for the reply to QUIT beside everything else."""
        task = asyncio.get_running_loop().create_task(channel.say_goodbye(self._timeouts.quit))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def suspects(self, transaction: Transaction) -> bool:
        """Whether a login was wanted for this very letter before, and the relay has had time since."""
        return self._opener.suspects(transaction.letter.delivery_id)

    def over(
        self,
        text: str,
        *,
        setback: bool,
        login: LoginWanted | None = None,
        parted: bool = False,
        unused: bool = False,
    ) -> None:
        """A conversation has ended: go on with the others, or a new one."""
        self._conversations = {conversation for conversation in self._conversations if not conversation.over}
        if login is not None:
            self._opener.login_wanted(login)
        elif setback:
            self._opener.set_back(Phase.MAIL, text, parted=parted, unused=unused)
        self._shares.sessions = [conversation.under_way for conversation in self._conversations]
        if self._queue or self._shares.waiting:
            self._open_sessions(len(self._queue))
            asyncio.get_running_loop().call_soon(self._dispatch)
        self._changes.tell()

    # Letters

    def _dispatch(self) -> None:
        """Start idle conversations while there are letters; without any hope of one, give the letters back."""
        for conversation in list(self._conversations):
            if not (self._queue or self._shares.waiting):
                return
            if conversation.idle and not conversation.drop_if_stale():
                conversation.start()
        if not (self._queue or self._shares.waiting):
            return
        self._open_sessions(len(self._queue))
        if not self._conversations and not self._opener.tries:
            self._flush_queue(self.trouble or "no session with the relay")

    def _flush_queue(self, text: str) -> None:
        self._queue.extend(self._shares.overdue(float("inf")))
        while self._queue:
            self._return(self._queue.popleft(), text)

    def _return(self, transaction: Transaction, text: str, *, busy: bool = False) -> None:
        self.report(transaction, Reply(0, None, text), ReplyClass.NOT_SENT, Phase.MAIL, busy=busy)

    def _turn_away(self, transactions: list[Transaction]) -> None:
        while transactions:
            self._return(transactions.pop(0), "the provider's sessions are busy", busy=True)

    def _learn(self, provider: str, reply: Reply, reply_class: ReplyClass, phase: Phase) -> None:
        accepted = reply_class is ReplyClass.ACCEPTED
        if accepted or (reply_class is ReplyClass.TRANSIENT and phase in _NAMED):
            loop = asyncio.get_running_loop()
            if self._shares.learn(provider, reply, loop.time(), accepted=accepted):
                loop.call_soon(self._dispatch)

    def _journal_has_room(self, letters: int) -> bool:
        """Whether letters can be recorded; asked before they are gated, so that a full disk costs no attempts."""
        self._disk_trouble = None
        try:
            self._journal.prepare(letters)
        except UnavailableError as error:
            self._disk_trouble = str(error)
        return self._disk_trouble is None

    def _depth(self) -> int:
        """How many letters the present sessions will take up soon enough."""
        depth = 0
        for each in self._conversations:
            soon = each.tempo.letters_soon(busy=bool(each.under_way))
            depth += max(1, soon) if each.idle else soon
        return min(depth, _QUEUE_LIMIT)

    # Sessions

    def _open_sessions(self, want: int) -> None:
        self._tick_soon()
        if not self._stopping:
            self._opener.open(want - sum(each.idle for each in self._conversations), most=self._shares.connections)

    def _opened(self, channel: Channel, capabilities: Capabilities) -> None:
        if self._stopping or len(self._conversations) >= self._shares.connections:
            self.farewell(channel)
            return
        conversation = Conversation(
            channel,
            partial(self._compose, can=capabilities),
            pool=self,
            journal=self._journal,
            timeouts=self._timeouts,
            manner=self._manner(capabilities),
        )
        if conversation.over:
            return  # it was lost, or out of step, before it could begin
        self._conversations.add(conversation)
        self._shares.sessions.append(conversation.under_way)

    def _try_ended(self) -> None:
        self._dispatch()
        self._changes.tell()

    # Time

    def _tick_soon(self) -> None:
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().call_later(_TICK, self._tick)

    def _tick(self) -> None:
        """Look for time-outs; expire what is still due a moment later, when replies that wait have been read.

        After a SIGSTOP a loop may run its timers before it looks at its sockets.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        stood_still = self._ticking is not None and now > self._ticking.when() + _TICK / 2
        self._ticking = None
        for conversation in self._conversations:
            due = conversation.due()
            if due <= now + _TICK:
                loop.call_at(max(due, now) + 0.02, self._expire, conversation)
        if not stood_still:  # or it was not the relay that took so long
            self._look_for_the_slow()
        self._shares.tick()
        gate_now = suspended_monotonic()
        self._turn_away(self._shares.overdue(gate_now + _EARLY))
        while self._queue and self._queue[0].good_until < gate_now:
            self._return(self._queue.popleft(), "the gate ran out in the queue")
        self._dispatch()
        self._changes.tell()
        if self._conversations or self._opener.tries or self._changes.waiters:
            self._tick_soon()

    def _look_for_the_slow(self) -> None:
        """Notice providers whose letters take long; if they have taken every session, get one back from them."""
        limit = patience(conversation.tempo for conversation in self._conversations)
        busy = [each for each in self._conversations if each.under_way and not each.under_way[0].asking]
        stuck = [each for each in busy if each.tempo.waited() > limit]
        for conversation in stuck:
            self._shares.sighted(conversation.under_way[0].letter.provider)
        others = any(not self._shares.is_slow(each.letter.provider) for each in self._queue)
        if others and len(stuck) == len(self._conversations) > 1 and not self._opener.tries:
            next((each for each in stuck if each.let_go("it took long, and letters of other providers waited")), None)

    def _expire(self, conversation: Conversation) -> None:
        if conversation in self._conversations and conversation.due() <= asyncio.get_running_loop().time():
            conversation.expire()

    async def _change(self) -> None:
        """Wait for anything to happen."""
        self._tick_soon()
        await self._changes.wait()
