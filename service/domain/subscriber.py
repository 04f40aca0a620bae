"""Who gets the mail: the states of a subscriber, why an address must not be mailed, and what lifts that."""

from __future__ import annotations

from enum import StrEnum


class SubscriberStatus(StrEnum):
    """Where a subscriber stands; only an active one is mailed."""

    PENDING = "pending"
    ACTIVE = "active"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"


class SuppressionReason(StrEnum):
    """Why an address must not be mailed."""

    ERASED = "erased"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    OPERATOR = "operator"


# A newly confirmed sign-up shows that the reader wants the mail again; a complaint or an operator's word outlives it.
LIFTED_BY_CONFIRMATION = frozenset({SuppressionReason.ERASED, SuppressionReason.BOUNCED})


def outranks(reason: SuppressionReason, known: SuppressionReason) -> bool:
    """Whether `reason` takes the place of the `known` one: an operator must lift it, and a sign-up lifted the other."""
    return known in LIFTED_BY_CONFIRMATION and reason not in LIFTED_BY_CONFIRMATION


def public_id(subscriber: bytes) -> str:
    """The id operators see, in tables, logs and JSON: `s_` and 32 hexadecimal digits."""
    return "s_" + subscriber.hex()


def read_public_id(text: str) -> bytes | None:
    """The id written as `s_…`; None for any other text."""
    digits = text.removeprefix("s_")
    if not text.startswith("s_") or len(digits) != 32:
        return None
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return None


class RequestPurpose(StrEnum):
    """What a reader may ask for that takes a fresh link to the present address, because mails get forwarded."""

    ADDRESS = "address"
    DATA = "data"
    ERASE = "erase"


# What is left to ask for to a reader who has left: no mails come that could come to another address.
OF_WHO_LEFT = (RequestPurpose.DATA, RequestPurpose.ERASE)
# Others have no mailbox that a mail would reach, or have said that they want none.
_REQUESTS = {SubscriberStatus.ACTIVE: tuple(RequestPurpose), SubscriberStatus.UNSUBSCRIBED: OF_WHO_LEFT}


def may_request(status: SubscriberStatus, purpose: RequestPurpose) -> bool:
    """Whether a reader of that status may have a link for that purpose mailed."""
    return purpose in _REQUESTS.get(status, ())
