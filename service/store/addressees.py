"""Whether a notice may still go to its address: what was asked when it was made, asked anew by its gate.

A notice may wait for days for a worker or a relay. Meanwhile its reader may have left, moved or been suppressed, and
what it asks may have been withdrawn.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from service.domain.delivery import SkipReason
from service.domain.reader_notices import CONFIRM, GOODBYE, MOVE, MOVED, REMINDER, REQUEST
from service.domain.signup import NEWEST_ISSUE, WELCOME, may_confirm, may_move_to
from service.domain.subscriber import SubscriberStatus, SuppressionReason, may_request
from service.domain.tokens import CONFIRMATION_HOURS, REQUEST_HOURS, still_holds
from service.store import confirmations, requests, subscribers, suppressions
from service.store.database import Session
from service.store.subscribers import Subscriber

# The parameter that says whose notice it is; it goes with the others.
READER = "reader"
_HOURS = {"confirm": CONFIRMATION_HOURS, "request": REQUEST_HOURS}


@dataclass(frozen=True, slots=True)
class _Addressee:
    """An address as it is known at the gate, and what the notice to it says of itself."""

    session: Session
    parameters: Mapping[str, Any] = field(repr=False)
    reader: Subscriber | None
    suppression: SuppressionReason | None
    now: dt.datetime

    @property
    def status(self) -> SubscriberStatus | None:
        return None if self.reader is None else self.reader.status

    def linked(self, purpose: str) -> bytes:
        """The id of the row that the notice's link is of; where it holds no more the empty one, which none has."""
        row_id, hour = self.parameters.get("links", {}).get(purpose, ("", 0))
        return bytes.fromhex(row_id) if still_holds(hour, _HOURS[purpose], self.now) else b""


def hindrance(
    session: Session, kind: str, parameters: Mapping[str, Any], address: str, now: dt.datetime
) -> SkipReason | None:
    """Why a notice must not go to that address any more; None where it may, as any may that is no reader's."""
    ask = _ASK.get(kind)
    if ask is None:
        return None
    address_hash = session.sealer.address_hash(address)
    suppression = suppressions.find(session, address_hash)
    reason = None if suppression is None else suppression.reason
    return ask(_Addressee(session, parameters, subscribers.find_hash(session, address_hash), reason, now))


def _subscribed(to: _Addressee) -> SkipReason | None:
    """As the gate of a delivery asks; a reader who has moved is none at the address that was left."""
    if to.reader is None or to.reader.id.hex() != to.parameters.get(READER):
        return SkipReason.ERASED
    return SkipReason.SUPPRESSED if to.suppression is not None else _inactive(to.reader)


def _inactive(reader: Subscriber) -> SkipReason | None:
    if reader.status is SubscriberStatus.ACTIVE:
        return None
    return SkipReason.UNSUBSCRIBED if reader.status is SubscriberStatus.UNSUBSCRIBED else SkipReason.INACTIVE


def _closed(to: _Addressee) -> SkipReason | None:
    """What a complaint or an operator's word closes, it closes for a goodbye, too; what readers did does not."""
    return None if may_confirm(to.status, to.suppression) else SkipReason.SUPPRESSED


def _asked(to: _Addressee) -> SkipReason | None:
    if confirmations.unused(to.session, to.linked("confirm")) is None:
        return _closed(to) or SkipReason.CANCELLED
    return _closed(to)


def _reminded(to: _Addressee) -> SkipReason | None:
    return _asked(to) or (None if to.status is SubscriberStatus.PENDING else SkipReason.CANCELLED)


def _moving(to: _Addressee) -> SkipReason | None:
    asked = confirmations.unused(to.session, to.linked("confirm"))
    if asked is None or asked.mover is None:
        return _closed(to) or SkipReason.CANCELLED
    row_id, epoch = asked.mover
    mover = subscribers.get(to.session, row_id)
    if mover is None:
        return SkipReason.ERASED
    if not may_move_to(to.status, to.suppression):
        return _closed(to) or SkipReason.CANCELLED
    if mover.epoch == epoch and suppressions.is_suppressed(to.session, mover.address_hash):
        return SkipReason.SUPPRESSED
    return _inactive(mover) or (None if mover.epoch == epoch else SkipReason.CANCELLED)


def _requested(to: _Addressee) -> SkipReason | None:
    found = requests.find(to.session, to.linked("request"))
    if found is None:
        return SkipReason.CANCELLED
    if to.suppression is not None:
        return SkipReason.SUPPRESSED
    if to.reader is None or to.reader.id != found.subscriber or to.reader.epoch != found.epoch:
        return SkipReason.CANCELLED
    return None if may_request(to.reader.status, found.purpose) else _inactive(to.reader)


# By kind; notices to operators have no reader.
_ASK: dict[str, Callable[[_Addressee], SkipReason | None]] = {
    WELCOME: _subscribed,
    NEWEST_ISSUE: _subscribed,
    CONFIRM: _asked,
    REMINDER: _reminded,
    MOVE: _moving,
    REQUEST: _requested,
    GOODBYE: _closed,
    MOVED: _closed,
}
