"""What one line of a file does to an address, and how it is counted.

Lines count one after another, as if each were a file of its own: where chunks end changes nothing. A word that weighs
more adds to what was known, and a weaker one takes nothing away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import NamedTuple

from service.audience.said import Said
from service.domain.subscriber import SubscriberStatus, SuppressionReason, outranks

# As which a line is stored; who is only asked or blocked is not.
STORED = {
    Said.ACTIVE: SubscriberStatus.ACTIVE,
    Said.UNSUBSCRIBED: SubscriberStatus.UNSUBSCRIBED,
    Said.BOUNCED: SubscriberStatus.BOUNCED,
    Said.COMPLAINED: SubscriberStatus.COMPLAINED,
}
_SUPPRESSES = {
    Said.BOUNCED: SuppressionReason.BOUNCED,
    Said.COMPLAINED: SuppressionReason.COMPLAINED,
    Said.BLOCKED: SuppressionReason.OPERATOR,
}
# Of those who are gone the later weighs more: who left is not mailed again when a mailbox is repaired.
_GONE = (SubscriberStatus.BOUNCED, SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.COMPLAINED)


class Known(NamedTuple):
    """What is known of an address: where its reader stands, if it is one, and why it must not be mailed, if so."""

    status: SubscriberStatus | None
    suppression: SuppressionReason | None


# Few enough that one octet says which.
EVERY = tuple(Known(*both) for both in product((None, *SubscriberStatus), (None, *SuppressionReason)))
CODES = {known: code for code, known in enumerate(EVERY)}


@dataclass(frozen=True, slots=True)
class Effect:
    """What is known before and after a line, under which name it is counted, and whether a reader left by it."""

    before: Known
    after: Known
    counted: str
    left: bool

    @property
    def closes(self) -> bool:
        """Whether what the address was asked before is to confirm nothing any more."""
        departed = self.before.status is not None and self.after.status is not self.before.status
        return departed or self.after.suppression is not self.before.suppression


@cache
def effect(before: Known, said: Said) -> Effect:
    """What a line that says this does. It never brings back who is gone, and never lifts or weakens a suppression."""
    if said in {Said.ACTIVE, Said.PENDING}:
        comes = said is Said.ACTIVE and before == Known(None, None)
        after = Known(SubscriberStatus.ACTIVE, None) if comes else before
        return Effect(before, after, _staying(before, said), left=False)
    counted = "suppressed" if before.suppression is not None or said is Said.BLOCKED else "unsubscribed"
    reason = _SUPPRESSES.get(said)
    if before.suppression is not None and (reason is None or not outranks(reason, before.suppression)):
        # It stays; that its reader is gone is kept all the same, because some day it may be lifted.
        reason = before.suppression
    after = Known(_departed(before, said), reason)
    left = before.suppression is None and before.status is not None and before.status not in _GONE
    return Effect(before, after, counted, left)


def _staying(before: Known, said: Said) -> str:
    """How a line of a reader is counted that has nobody leave."""
    if before.suppression is not None:
        return "suppressed"
    if before.status is None:
        return "new" if said is Said.ACTIVE else "unconfirmed"
    return "unsubscribed" if before.status in _GONE else "known"


def _departed(before: Known, said: Said) -> SubscriberStatus | None:
    if said is Said.BLOCKED:
        # A keyed hash is all that is needed to never mail an address; who was only asked is forgotten.
        return None if before.status is SubscriberStatus.PENDING else before.status
    if before.status in {None, SubscriberStatus.PENDING} and before.suppression is not None:
        # Nobody is a reader there, and nothing but the keyed hash need be kept.
        return None
    status = STORED[said]
    return max(status, before.status, key=_GONE.index) if before.status in _GONE else status
