"""The places of a frozen rendition that differ from reader to reader, and the markers that hold them open.

`render` writes the markers of the two tokens into HTML and text; `mail` writes the others into the headers and cuts
the finished message at all of them. A token is exactly as long as its marker and of the same alphabet, so that folding,
transfer encodings and sizes are settled once, when the rendition is frozen.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from service.domain.errors import InvalidInputError

TOKEN_LENGTH = 48  # characters; a multiple of three keeps base64 aligned, and 48 of 64 letters carry 288 bits


class Slot(enum.IntEnum):
    """A place; the number is its position in `SlotValues`."""

    UNSUBSCRIBE = 0
    PREFERENCES = 1
    RECIPIENT = 2
    MESSAGE_ID = 3
    DATE = 4


MARKERS: dict[Slot, str] = {
    # No text holds these by accident: each carries 24 or more letters that were drawn at random.
    Slot.UNSUBSCRIBE: "TYDZEN-UNSUBSCRIBE-Qz7xKp2vJw9mRf4tHb6nLc8sYd3gA",
    Slot.PREFERENCES: "TYDZEN-PREFERENCES-Vk5wZr8qNj3xTm7pGc2hXs9bDf6yE",
    # Header slots vary in length; their markers are valid values, so that the template itself is a valid message.
    Slot.RECIPIENT: "tydzen-recipient-wq4zk9xv7jm2hp6r@slot.invalid",
    Slot.MESSAGE_ID: "<tydzen-message-id-c8nt3yb5kq7zf2dx@slot.invalid>",
    Slot.DATE: "Fri, 13 Dec 1901 20:45:52 +0000",
}
TOKEN_SLOTS = (Slot.UNSUBSCRIBE, Slot.PREFERENCES)
HEADER_SLOTS = (Slot.RECIPIENT, Slot.MESSAGE_ID, Slot.DATE)


class SlotValues(NamedTuple):
    """One reader's values, as they stand on the wire, in the order of `Slot`."""

    unsubscribe: bytes
    preferences: bytes
    recipient: bytes
    message_id: bytes
    date: bytes


_VALUES = re.compile(
    rb"[A-Za-z0-9_-]{48}\n[A-Za-z0-9_-]{48}\n[^\0-\x1f\x7f<>]{3,320}\n<[!-;=?-~]{3,250}>\n[ -~]{20,40}"
)


def check_values(values: SlotValues) -> None:
    """Return if each value fits its slot: token length and alphabet, and nothing that could end a header line.

    Raises `InvalidInputError`, which names no value: one of them is an address.
    """
    if _VALUES.fullmatch(b"\n".join(values)) is None:
        raise InvalidInputError("a letter's values do not fit their slots: a token of another length, or a line end")
