"""Whether something is a mail address: by its form alone, without asking the DNS."""

from __future__ import annotations

import re

from service.domain.errors import InvalidInputError
from service.mail.address import envelope_address

_LONGEST = 254
_LONGEST_LOCAL = 64
# Nearly every address, in one step: no quotes, at least two labels, and the last is no number.
_USUAL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)


def checked(text: str) -> str:
    """The address in `text` as it was typed, without the blanks around it.

    Raises InvalidInputError that says what is wrong and never repeats the text.
    """
    address = text.strip()
    local, at, domain = address.rpartition("@")
    if not at:
        raise InvalidInputError("not a mail address: it has no @")
    if len(address) > _LONGEST or len(local) > _LONGEST_LOCAL:
        raise InvalidInputError(
            f"not a mail address: longer than {_LONGEST} characters, or {_LONGEST_LOCAL} before the @"
        )
    if _USUAL.fullmatch(address):
        return address
    if "." not in domain or domain.startswith("["):
        raise InvalidInputError("not a mail address: its domain has no dot")
    try:
        sent = envelope_address(address)
    except InvalidInputError as error:
        # Without its cause: a library's message below may quote a part of the address.
        raise InvalidInputError(str(error)) from None
    if len(sent) > _LONGEST or sent.rpartition(".")[2].isdecimal():
        raise InvalidInputError("not a mail address: its domain is not well formed")
    return address
