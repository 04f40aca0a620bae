"""The day of one run: whether it ends because a daily cap is used up, and when its batch may go on."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from service import log
from service.delivery.limits import DaySpentError
from service.delivery.line import Line
from service.delivery.routes import Routes
from service.domain.limits import INSTALLATION, provider_scope, relay_scope
from service.store import Session, limits
from service.store.batches import Claim
from service.store.instants import stored

_log = log.get("send")


@dataclass(slots=True)
class Day:
    """Belongs to one run of one batch."""

    routes: Routes
    lines: tuple[Line, ...]
    claim: Claim
    _spent_until: dt.datetime | None = None

    @property
    def not_before(self) -> int:
        """When the batch may be claimed again, in milliseconds since 1970; 0 for at once."""
        return 0 if self._spent_until is None else stored(self._spent_until)

    def end(self, spent: DaySpentError) -> None:
        """As far as this process knows nothing more may be sent today."""
        self._spent_until = spent.until
        _log.info("day-spent", batch=self.claim.batch, reason=str(spent))

    def look_again(self, session: Session) -> None:
        """Ask the database whether that is still so; it stays so until the transaction ends, whose first act this is.

        An operator who raises a cap lets go what is held back by then: what this process knew is 0.7 seconds old.
        """
        if self._spent_until is None:
            return
        now = self.routes.now()
        scopes = (INSTALLATION, *(relay_scope(line.relay) for line in self.lines), provider_scope(self.claim.provider))
        if caps := self.routes.limits.caps(scopes, now):
            limits.left(session, caps, now.astimezone(dt.UTC).date())
        self.routes.limits.read(session, now)
        self._spent_until = self.routes.spent_until(self.lines, self.claim.provider)
