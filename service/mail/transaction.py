"""A letter under way, and what a conversation asks of the pool that it belongs to."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from service.domain.replies import Phase, Reply, ReplyClass, classify
from service.log import cut_addresses
from service.mail.channel import Channel
from service.mail.dkim import Signed
from service.mail.letter import Letter, Outcome
from service.mail.segments import Segments


class LoginWanted(NamedTuple):
    """The relay wants a login, or another one, before it takes this letter, which is provably unsent.

    `proven` says that letters of the same session were answered before: then that session's login has run out.
    """

    delivery_id: int
    text: str
    proven: bool


Regate = Callable[[Letter], Awaitable[float | None]]
OnOutcome = Callable[[Outcome], None]


@dataclass(slots=True, eq=False)
class Transaction:
    """A letter under way. `settled` means that its outcome is known: what still comes is nobody's."""

    letter: Letter
    on_outcome: OnOutcome
    regate: Regate | None
    good_until: float
    commands: dict[Phase, bytes] | None = None  # in lockstep, by the phase in which each is to be said
    segments: Segments | Signed | None = None
    chunked: bool = False  # its body goes by BDAT
    phase: Phase = Phase.MAIL
    settled: bool = False
    recipient_accepted: bool = False
    past_dot: bool = False
    question: asyncio.Future[float | None] | None = None  # to the gate, anew
    lives: int = 1  # connections this letter may still lose before it counts as an attempt

    @property
    def asking(self) -> bool:
        """Whether the gate is being asked anew."""
        return self.question is not None

    def begin(self, phase: Phase) -> None:
        """Start, or start anew on another session, with nothing accepted and nothing written."""
        self.phase = phase
        self.past_dot = self.recipient_accepted = False
        self.question = None

    def silence(self) -> tuple[str, ReplyClass]:
        """What to say of it, and whose fault it is, when nothing was heard in time."""
        if self.asking:
            return "the gate gave no answer in time", ReplyClass.NOT_SENT
        return f"no reply to {self.phase.value} in time", ReplyClass.TRANSIENT

    def judged(self, reply: Reply, phase: Phase) -> ReplyClass:
        """What a reply that is not the one wanted, read before that to the dot, says of this letter."""
        if 400 <= reply.code < 600:
            return classify(reply, phase)
        # With BDAT the body is gone already, so only a clear refusal says that it was not taken.
        return ReplyClass.UNCERTAIN if self.past_dot else ReplyClass.TRANSIENT

    def login_wanted(self, reply: Reply, phase: Phase, *, proven: bool) -> LoginWanted:
        """What its session ends with when the relay wants a login, in this `reply`."""
        text = f"the relay wants a login: {reply.code} {cut_addresses(reply.text)} ({phase.value})"
        return LoginWanted(self.letter.delivery_id, text, proven)

    def abandoned(self, text: str, farewell: Reply | None) -> tuple[Reply, ReplyClass, Phase]:
        """What became of this letter, past its dot, when its connection broke, after a 421 if there is a `farewell`."""
        if farewell is not None:
            # Commands are executed in order, and none after the 421: RFC 5321 §3.8.
            return farewell, ReplyClass.NOT_SENT, self.phase
        return Reply(0, None, f"{text} after the final dot"), ReplyClass.UNCERTAIN, Phase.DOT

    def ask_gate_again(self, answered: Callable[[], None]) -> None:
        """Ask the caller for a new `good_until`, then call `answered`; a shut or broken gate leaves the old one."""

        def take(answer: asyncio.Future[float | None]) -> None:
            if self.question is not answer:
                return  # the letter has begun anew elsewhere
            self.question = None
            if not answer.cancelled() and answer.exception() is None:
                self.good_until = answer.result() or self.good_until
            answered()

        if self.regate is None:
            answered()
            return
        self.question = asyncio.ensure_future(self.regate(self.letter))
        self.question.add_done_callback(take)


class Pool(Protocol):
    """The owner of conversations."""

    dot_seconds: deque[float]  # how long replies to a dot took, of a sample of letters

    def take(self, under_way: deque[Transaction]) -> Transaction | None:
        """The next letter for the session that has `under_way` under way, with its gate still good, if there is one."""

    def report(
        self, transaction: Transaction, reply: Reply, reply_class: ReplyClass, phase: Phase, *, busy: bool = False
    ) -> None:
        """Settle a transaction; `busy` if nothing was in its way but its own provider."""

    def accepted(self, transaction: Transaction) -> None:
        """As `report`, of a plain 250 to a dot: what nearly all letters get, and the least is done for."""

    def give_back(self, transaction: Transaction, text: str, *, blamed: bool) -> None:
        """Take back a letter that is provably unsent; `blamed` if it was the one being talked about."""

    def free(self) -> None:
        """Learn that a conversation has nothing to do."""

    def farewell(self, channel: Channel) -> None:
        """See a channel off whose conversation is over in good order."""

    def suspects(self, transaction: Transaction) -> bool:
        """Whether it may be this letter alone that wants a login: the last wait for one began with it, and is over."""

    def over(
        self,
        text: str,
        *,
        setback: bool,
        login: LoginWanted | None = None,
        parted: bool = False,
        unused: bool = False,
    ) -> None:
        """Learn that a conversation is `over`; a `setback`, and a `login` that the relay wants, speak against it.

        `parted` says that the relay ended it with a 421 to a letter, `unused` that it ended at once, before any letter.
        """
