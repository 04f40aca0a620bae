"""The states of one delivery, the truth about one mail, and what may follow what."""

from __future__ import annotations

from enum import Enum, IntEnum, StrEnum


class DeliveryState(IntEnum):
    """Where a delivery stands; the numbers are stored."""

    PENDING = 0
    ATTEMPTING = 1
    ACCEPTED = 2
    DEFERRED = 3
    REFUSED = 4
    UNCERTAIN = 5
    SKIPPED = 6
    EXPIRED = 7

    @property
    def label(self) -> str:
        """The word for people, tables and JSON."""
        return self.name.lower()


UNFINISHED = frozenset({DeliveryState.PENDING, DeliveryState.ATTEMPTING, DeliveryState.DEFERRED})
FINAL = frozenset(DeliveryState) - UNFINISHED


# Why a delivery is refused of which nobody but an operator says so.
RESOLVED = "resolved"


# Why an attempt is uncertain that nobody saw end: it was found open later, by up to the life of its process.
HOST_AWAY, WORKER_DIED, JOURNAL_LOST = "host away", "worker died", "journal lost"
FOUND_LATER = frozenset({HOST_AWAY, WORKER_DIED, JOURNAL_LOST})


class SkipReason(StrEnum):
    """Why a planned reader was not mailed."""

    NO_EDITION = "no edition"
    UNSUBSCRIBED = "unsubscribed"
    SUPPRESSED = "suppressed"
    ERASED = "erased"
    CANCELLED = "cancelled"
    INACTIVE = "inactive"
    PAUSED = "paused"


class Hindrance(StrEnum):
    """Why a letter that passed its gate was kept from the wire: no relay was asked, so it says nothing of a mailbox."""

    PROVIDER = "provider left alone"
    KEY = "its key is not in the keyring"


class RetryReason(StrEnum):
    """Why a delivery that was not accepted may be tried again at an operator's word."""

    POLICY = "policy"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    DEFERRED = "deferred"


class DeliveryEvent(Enum):
    """What can happen to a delivery."""

    GATED = "gated"
    SKIPPED = "skipped"
    UNSENT = "unsent"
    ACCEPTED = "accepted"
    DEFERRED = "deferred"
    REFUSED = "refused"
    LOST_TRACK = "lost track"
    DUE = "due"
    GIVEN_UP = "given up"
    CANCELLED = "cancelled"
    RETRIED = "retried"
    RESOLVED_ACCEPTED = "resolved accepted"
    RESOLVED_REFUSED = "resolved refused"
    RESOLVED_RESEND = "resolved resend"


_S, _E = DeliveryState, DeliveryEvent

TRANSITIONS: dict[tuple[DeliveryState, DeliveryEvent], DeliveryState] = {
    (_S.PENDING, _E.GATED): _S.ATTEMPTING,
    (_S.PENDING, _E.SKIPPED): _S.SKIPPED,
    (_S.PENDING, _E.CANCELLED): _S.SKIPPED,
    (_S.PENDING, _E.GIVEN_UP): _S.EXPIRED,
    (_S.ATTEMPTING, _E.UNSENT): _S.PENDING,
    (_S.ATTEMPTING, _E.ACCEPTED): _S.ACCEPTED,
    (_S.ATTEMPTING, _E.DEFERRED): _S.DEFERRED,
    (_S.ATTEMPTING, _E.REFUSED): _S.REFUSED,
    (_S.ATTEMPTING, _E.LOST_TRACK): _S.UNCERTAIN,
    (_S.ATTEMPTING, _E.GIVEN_UP): _S.EXPIRED,
    (_S.DEFERRED, _E.DUE): _S.PENDING,
    (_S.DEFERRED, _E.RETRIED): _S.PENDING,
    (_S.DEFERRED, _E.GIVEN_UP): _S.EXPIRED,
    (_S.DEFERRED, _E.CANCELLED): _S.SKIPPED,
    (_S.DEFERRED, _E.SKIPPED): _S.SKIPPED,
    (_S.SKIPPED, _E.RETRIED): _S.PENDING,
    (_S.EXPIRED, _E.RETRIED): _S.PENDING,
    (_S.REFUSED, _E.RETRIED): _S.PENDING,
    # A journal that comes back later than its host was given up still decides. What it gives back of a cancelled
    # mailing that was taken up for others alone is cancelled in the same statement.
    (_S.UNCERTAIN, _E.ACCEPTED): _S.ACCEPTED,
    (_S.UNCERTAIN, _E.DEFERRED): _S.DEFERRED,
    (_S.UNCERTAIN, _E.REFUSED): _S.REFUSED,
    (_S.UNCERTAIN, _E.UNSENT): _S.PENDING,
    (_S.UNCERTAIN, _E.RESOLVED_ACCEPTED): _S.ACCEPTED,
    (_S.UNCERTAIN, _E.RESOLVED_REFUSED): _S.REFUSED,
    (_S.UNCERTAIN, _E.RESOLVED_RESEND): _S.PENDING,
}


def after(state: DeliveryState, event: DeliveryEvent) -> DeliveryState | None:
    """The state that `event` leads to; None where it changes nothing.

    Two cells of the table hold for some reasons only, and the statements that write them say so: `retry` takes back a
    skipped delivery that was cancelled, or whose missing edition a correction has added, and a refused one that was
    refused by policy, never any other.
    """
    return TRANSITIONS.get((state, event))
