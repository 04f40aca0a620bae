"""One group before the gate: how many of it the daily caps allow, counted in the gate's own transaction."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service import faults
from service.delivery.account import Answer
from service.store import Database, Session, gate, limits
from service.store.batches import Claim
from service.store.gate import Acceptances, Gated
from service.store.instants import stored


@dataclass(slots=True)
class Passage:
    """Made for one group and one sender; `caps` are the daily caps that hold for it, by scope."""

    claim: Claim
    group: Sequence[int]
    sender: int
    caps: Mapping[str, int]
    lease_seconds: float
    now: dt.datetime
    # What each cap leaves; filled by `look`.
    left: dict[str, int] = field(default_factory=dict)

    @property
    def day(self) -> dt.date:
        """The day for which the letters count."""
        return self.now.astimezone(dt.UTC).date()

    @property
    def allowed(self) -> Sequence[int]:
        """Those of the group whom the caps allow."""
        return self.group[: min(self.left.values())] if self.left else self.group

    def look(self, session: Session) -> None:
        """See what the caps leave; nobody else counts until the transaction ends, whose first act this is to be."""
        if self.caps:
            self.left = limits.left(session, self.caps, self.day)

    def gate(self, session: Session) -> Gated | None:
        """Pass the gate, as `store.gate.pass_gate` does, and count whom it let through."""
        gated = gate.pass_gate(
            session,
            self.claim,
            self.allowed,
            sender=self.sender,
            lease_seconds=self.lease_seconds,
            now_ms=stored(self.now),
        )
        if self.caps and gated is not None and gated.recipients:
            # Of the locked ones no letter is written.
            limits.count(session, self.caps, self.day, len(gated.recipients))
        _before_commit()
        return gated

    async def gate_alone(self, database: Database, accepted: Acceptances) -> Answer[Gated | None] | None:
        """The same where no cap counts, in a transaction of one statement, as `store.gate.pass_alone` does."""
        _before_commit()
        now_ms = stored(self.now)
        passed = await gate.pass_alone(
            database,
            self.claim,
            self.group,
            accepted,
            sender=self.sender,
            lease_seconds=self.lease_seconds,
            now_ms=now_ms,
        )
        if passed is None:
            return None
        missing = passed.missing
        rest = (lambda session: gate.sort_out(session, self.claim, missing, now_ms)) if missing else None
        return Answer(passed.gated, passed.all_recorded, rest)


def _before_commit() -> None:
    """Where one statement is the whole transaction nothing stands between its work and its commit: before both."""
    faults.point("gate-commit")
