"""What delivery hands to the wire, and what it gets back."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import NamedTuple

from service.domain.replies import Phase, Reply, ReplyClass
from service.domain.slots import SlotValues
from service.log import cut_addresses
from service.mail.segments import Rendition

# By name, because every letter costs one.
_ACCEPTED, _DOT = ReplyClass.ACCEPTED, Phase.DOT


# One of each is made for every letter: a named tuple is made in a third of the time of a frozen dataclass.
class Letter(NamedTuple):
    """One gated attempt of one delivery.

    `recipient` is the address as typed, empty where it is not known any more; `mail_from` the envelope sender, empty
    for the null sender; `good_until` the end of its gate by `service.clock.suspended_monotonic`, in seconds;
    `provider` who keeps the mailbox (see `domain.providers`), for pacing: a domain says too much to be logged;
    `untried` that no relay has refused or delayed it yet, however often it passed its gate.
    """

    delivery_id: int
    attempt: int
    recipient: str
    mail_from: str
    rendition: Rendition
    values: SlotValues
    good_until: float
    provider: str = ""
    untried: bool = True

    def __repr__(self) -> str:
        # Nothing of the reader's: representations end up in logs.
        return f"Letter(delivery_id={self.delivery_id}, attempt={self.attempt})"


class Outcome(NamedTuple):
    """What became of one attempt; each submitted letter gets exactly one.

    `code` is 0 when no reply was read, `text` then says what happened instead; addresses are cut out of it. `phase` is
    where it was decided, and `past_dot` whether the journal holds a dot record of this attempt. `NOT_SENT` gives the
    letter back: it was no attempt, the reader's or the letter's fault it was not; `due` says when to try it again, if
    not at once. `provider` and `untried` are the letter's; with `busy` its provider had all the sessions that it may
    have, and others' letters can be sent meanwhile. Of a 250 to a letter that was submitted with `regate`, neither text
    nor enhanced code is kept.
    """

    delivery_id: int
    attempt: int
    reply_class: ReplyClass
    code: int
    enhanced: str | None
    text: str
    phase: Phase
    relay: str
    past_dot: bool
    provider: str = ""
    due: dt.datetime | None = None
    busy: bool = False
    untried: bool = True

    @classmethod
    def of(
        cls,
        letter: Letter,
        reply_class: ReplyClass,
        reply: Reply,
        phase: Phase,
        relay: str,
        *,
        past_dot: bool,
        due: dt.datetime | None = None,
        busy: bool = False,
    ) -> Outcome:
        """What `reply` made of the letter; addresses in its words are cut out."""
        text = reply.text
        if text:
            text = cut_addresses(_plain(text, letter.recipient))
        # Of a tuple, by place, because every letter costs one.
        place = (letter.delivery_id, letter.attempt, reply_class, reply.code, reply.enhanced, text, phase, relay)
        return cls._make((*place, past_dot, letter.provider, due, busy, letter.untried))

    @classmethod
    def accepted(cls, letter: Letter, relay: str, past_dot: bool) -> Outcome:
        """Of a plain 250 to its dot, of which neither text nor enhanced code is kept."""
        delivery_id, attempt, _, _, _, _, _, provider, untried = letter
        return cls._make(
            (delivery_id, attempt, _ACCEPTED, 250, None, "", _DOT, relay, past_dot, provider, None, False, untried)
        )

    def __repr__(self) -> str:
        return (
            f"Outcome(delivery_id={self.delivery_id}, attempt={self.attempt}, {self.reply_class}, code={self.code}, "
            f"text={self.text!r}, {self.phase}, past_dot={self.past_dot}, due={self.due}, busy={self.busy})"
        )


def _plain(text: str, recipient: str) -> str:
    """The text with a usual address in place of the reader's, which may not look like one.

    What stands around it belongs to the same word, and is cut out with it.
    """
    if not recipient or recipient.casefold() not in text.casefold():
        return text
    return re.sub(re.escape(recipient), "x@x.invalid", text, flags=re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for each thing; the defaults are the minima of RFC 5321 §4.5.3.2 where it names one.

    `setup` bounds a whole session start, `idle` is how long an unused session is kept, `quit` how long the polite end
    of one may take.
    """

    connect: float = 30
    greeting: float = 300
    command: float = 300
    setup: float = 600
    mail: float = 300
    rcpt: float = 300
    data: float = 300
    body: float = 180
    dot: float = 600
    idle: float = 30
    quit: float = 2

    def reply(self, phase: Phase) -> float:
        """How long the reply to `phase` may take, once a session has started."""
        times = {Phase.RCPT: self.rcpt, Phase.DATA: self.data, Phase.BODY: self.body, Phase.DOT: self.dot}
        return times.get(phase, self.mail)

    def due(self, phase: Phase, *, touched: float, since: float) -> float:
        """When the reply to `phase` is overdue, of a letter that is first in line `since` then.

        `touched` is when something was heard last, or octets of a body went out, be it of one behind: a sign of life,
        too, but not for ever.
        """
        return min(touched + self.reply(phase), since + self.transaction)

    @property
    def transaction(self) -> float:
        """How long a letter may take in all, the sum of what each of its phases may, whatever comes between them."""
        return sum(map(self.reply, (Phase.RSET, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT)))
