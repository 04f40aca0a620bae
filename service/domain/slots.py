"""The places of a rendition that are filled in per reader: their markers while it is rendered, and their lengths."""

from __future__ import annotations

from enum import StrEnum

TOKEN_LENGTH = 48


class Slot(StrEnum):
    """One place; the value of a token slot is always TOKEN_LENGTH characters of [A-Za-z0-9_-]."""

    RECIPIENT = "recipient"
    MESSAGE_ID = "message-id"
    DATE = "date"
    UNSUBSCRIBE = "unsubscribe"
    PREFERENCES = "preferences"


# A marker is as long as its value, so that sizes are known before a letter is made, and is a word no text holds.
MARKERS: dict[Slot, str] = {
    Slot.UNSUBSCRIBE: "tYdZeN-uNsUbScRiBe-SlOt_".ljust(TOKEN_LENGTH, "0"),
    Slot.PREFERENCES: "tYdZeN-pReFeReNcEs-SlOt_".ljust(TOKEN_LENGTH, "0"),
}
