"""The address that takes mails to unsubscribe: `name@domain`, and `name+TOKEN@domain` for each reader's token."""

from __future__ import annotations

from dataclasses import dataclass

from service.domain.errors import ConfigurationError, TydzenError
from service.domain.slots import TOKEN_LENGTH
from service.mail.address import envelope_address

FORMS = (
    "TYDZEN_INBOUND_URL: write lmtp://127.0.0.1:8024?address=leave@weekly.example.org, or "
    "imaps://USER:PASSWORD@HOST/INBOX?address=leave@weekly.example.org"
)
_LONGEST_LOCAL = 64


@dataclass(frozen=True, slots=True)
class LeaveAddress:
    """`text` is the address without a token, as mails name it."""

    text: str

    def token(self, recipient: str) -> str | None:
        """The token in such an address; None for any other one. Whether it is one of ours is not asked."""
        local, _, domain = recipient.rpartition("@")
        own_local, _, own_domain = self.text.rpartition("@")
        name, plus, token = local.partition("+")
        if not plus or (name.lower(), domain.lower()) != (own_local.lower(), own_domain.lower()):
            return None
        return token


def read_leave_address(text: str) -> LeaveAddress:
    """The address of the option `address=`; raises ConfigurationError that says what is wrong."""
    try:
        address = envelope_address(text)
    except TydzenError as error:
        raise ConfigurationError(f"{FORMS} ({error})") from None
    local = address.rpartition("@")[0]
    # With a + and the token it must not be longer than 64 characters (RFC 5321, 4.5.3.1.1).
    if "+" in local or not address.isascii() or len(local) + 1 + TOKEN_LENGTH > _LONGEST_LOCAL:
        raise ConfigurationError(f"{FORMS} (at most 15 characters before the @, and no +)")
    return LeaveAddress(address)
