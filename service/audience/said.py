"""What a file of subscribers says of a reader."""

from __future__ import annotations

from enum import StrEnum


class Said(StrEnum):
    """The standing of a reader by the word of the file."""

    ACTIVE = "active"
    PENDING = "pending"
    UNSUBSCRIBED = "unsubscribed"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    BLOCKED = "blocked"
