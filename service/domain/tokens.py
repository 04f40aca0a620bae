"""Signed links and ids: purpose-bound tokens that name a row without showing its id, and are checked without a look-up.

A token holds a 16-octet synthetic IV, the HMAC-SHA-256 of (epoch, id), and the id masked by it: the construction of SIV
(RFC 5297). Whoever forges one must forge 128 bits of HMAC.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import add

from service.domain.errors import ConfigurationError, UnavailableError
from service.domain.keys import Keyring, Purpose, keyed_digests, keyed_masks
from service.domain.slots import TOKEN_LENGTH

_LINK = re.compile(r"[A-Za-z0-9_-]{48}")
_ENVELOPE = re.compile(r"b-([0-9a-f]{32})([0-9a-f]{16})")
_EPOCH_OCTETS = 3
CONFIRMATION_HOURS = 72
REQUEST_HOURS = 24
_Each = Callable[[Iterable[bytes]], list[bytes]]
_Digests = tuple[_Each, _Each]
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a valid link token says: which subscriber (or other row), and at which epoch it was signed."""

    subscriber: bytes
    epoch: int


class LinkKeyMissingError(UnavailableError):
    """A link names a key that is not in the keyring of this host. It may be forged, or the file here may be old."""


class LinkSigner:
    """Signs and reads the 48-character tokens of one purpose: key number, epoch, IV, masked subscriber id.

    `reread` gives the keyring as it is now, where a token names a key that was added since: a process reads what others
    sign with a new key, and signs with its own until it starts anew. It may raise ConfigurationError. Whoever forges
    tokens has it called, so it must cost little.
    """

    def __init__(self, keyring: Keyring, purpose: Purpose, reread: Callable[[], Keyring] | None = None) -> None:
        self._purpose = purpose
        self._reread = reread
        self._fingerprint = keyring.fingerprint
        self._digests = {number: _digests(keyring, purpose, number) for number in keyring.secrets}
        self._number = keyring.current
        self._current = self._digests[self._number]

    def sign(self, subscriber: bytes, epoch: int = 0) -> str:
        """The token for a 16-octet subscriber id; `epoch` (below 2**24) makes older tokens tell themselves apart."""
        return self.sign_all([subscriber], [epoch])[0].decode("ascii")

    def sign_all(self, subscribers: Sequence[bytes], epochs: Iterable[int]) -> list[bytes]:
        """As `sign`, for each of a group, as it stands on the wire: two of these are made for every letter."""
        macs, masks = self._current
        named = self._number << 8 * _EPOCH_OCTETS
        heads = [(named | epoch).to_bytes(1 + _EPOCH_OCTETS, "big") for epoch in epochs]
        ivs = [mac[:16] for mac in macs(map(add, heads, subscribers))]
        masked = _xor(b"".join(subscribers), b"".join([mask[:16] for mask in masks(ivs)]))
        starts = range(0, len(masked), 16)
        raw = b"".join([head + iv + masked[at : at + 16] for head, iv, at in zip(heads, ivs, starts, strict=True)])
        # Tokens are as long as base64 makes whole groups of three octets, so that all can be written at once.
        text = binascii.b2a_base64(raw, newline=False).translate(_URL_SAFE)
        return [text[at : at + TOKEN_LENGTH] for at in range(0, len(text), TOKEN_LENGTH)]

    def read(self, token: str) -> Claim | None:
        """The claim of a token of this purpose; None for any other text. Takes the same time for every forgery."""
        if _LINK.fullmatch(token) is None:
            return None
        raw = base64.urlsafe_b64decode(token)
        digests = self._digests.get(raw[0]) or self._added(raw[0])
        if digests is None:
            return None
        macs, masks = digests
        head, iv, masked = raw[:4], raw[4:20], raw[20:]
        subscriber = _xor(masked, masks((iv,))[0][:16])
        if not hmac.compare_digest(macs((head + subscriber,))[0][:16], iv):
            return None
        return Claim(subscriber, int.from_bytes(raw[1:4], "big"))

    def require_key(self, token: str) -> None:
        """Raise LinkKeyMissingError where only a key that is not here could tell whether the token is ours.

        For whoever would throw the token away: once the keyring is here, it can be read. Any other text passes.
        """
        if _LINK.fullmatch(token) is None:
            return
        number = base64.urlsafe_b64decode(token)[0]
        if number and number not in self._digests and self._added(number) is None:
            raise LinkKeyMissingError(
                f"a link names key {number}, which is not in the keyring here; where other hosts have that key, put "
                "their keyring file on this one, too"
            )

    def _added(self, number: int) -> _Digests | None:
        """What reads links of a key that was added since; None where it was not, or to another keyring."""
        if not number or self._reread is None:
            return None
        try:
            keyring = self._reread()
        except ConfigurationError:
            return None
        if number not in keyring.secrets or keyring.fingerprint != self._fingerprint:
            return None
        found = _digests(keyring, self._purpose, number)
        # Replaced as a whole, for other threads read it; what one of them overwrites is read once more.
        self._digests = {**self._digests, number: found}
        return found


def _digests(keyring: Keyring, purpose: Purpose, number: int) -> _Digests:
    key = keyring.derive(purpose, number)
    return keyed_digests(key), keyed_masks(key[::-1])


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(len(one), "big")


class TimedSigner:
    """Signs and reads tokens of an id and the hour they were signed in, which is as fine as time gets."""

    def __init__(
        self, keyring: Keyring, purpose: Purpose, hours: int, reread: Callable[[], Keyring] | None = None
    ) -> None:
        self._links = LinkSigner(keyring, purpose, reread)
        self._hours = hours

    def sign(self, row_id: bytes, hour: int) -> str:
        """The token of a 16-octet id; `hour` is counted from 1970, UTC (see `hour_of`)."""
        return self._links.sign(row_id, hour)

    def read(self, token: str, now: dt.datetime) -> bytes | None:
        """The id of a token that still holds: up to the end of its last hour; None for any other text."""
        claim = self._links.read(token)
        return claim.subscriber if claim is not None and still_holds(claim.epoch, self._hours, now) else None


class ConfirmationSigner(TimedSigner):
    """Signs and reads `/c/TOKEN`, of a confirmation; it holds for 72 hours."""

    def __init__(self, keyring: Keyring, reread: Callable[[], Keyring] | None = None) -> None:
        super().__init__(keyring, Purpose.CONFIRM, CONFIRMATION_HOURS, reread)


class RequestSigner(TimedSigner):
    """Signs and reads `/r/TOKEN`, of a reader's request; it holds for 24 hours."""

    def __init__(self, keyring: Keyring, reread: Callable[[], Keyring] | None = None) -> None:
        super().__init__(keyring, Purpose.REQUEST, REQUEST_HOURS, reread)


def hour_of(now: dt.datetime) -> int:
    """The hour of the aware `now`, counted from 1970, UTC; below 2**24 until the year 3883."""
    return int(now.timestamp()) // 3600


def still_holds(hour: int, hours: int, now: dt.datetime) -> bool:
    """Whether a link that was signed in `hour` holds: for `hours`, and up to the end of the last of them."""
    # An hour ahead of ours is a host whose clock runs ahead a little; more than that was never signed by us.
    return -1 <= hour_of(now) - hour <= hours


class DeliverySigner:
    """The ids that a delivery shows to the world: its Message-ID and its envelope sender, the same over retries."""

    def __init__(self, keyring: Keyring) -> None:
        # The oldest key: a delivery that is retried after a new key was added must keep its ids.
        key = keyring.derive(Purpose.DELIVERY, keyring.oldest)
        self._macs, self._masks = keyed_digests(key), keyed_masks(key[::-1])

    def ids(self, deliveries: Sequence[int]) -> list[tuple[str, str]]:
        """`message_id` and `envelope` of each: the two halves of one HMAC, neither of which tells the other."""
        numbers = [delivery.to_bytes(8, "big") for delivery in deliveries]
        macs = self._macs(numbers)
        masks = self._masks([mac[16:] for mac in macs])
        digits = b"".join(macs).hex()
        masked = _xor(b"".join(numbers), b"".join([mask[:8] for mask in masks])).hex()
        return [
            (digits[4 * at : 4 * at + 32], f"b-{digits[4 * at + 32 : 4 * at + 64]}{masked[at : at + 16]}")
            for at in range(0, len(masked), 16)
        ]

    def message_id(self, delivery: int) -> str:
        """The left side of the Message-ID: 32 hexadecimal digits that show nothing of the delivery."""
        return self.ids([delivery])[0][0]

    def envelope(self, delivery: int) -> str:
        """The local part of the envelope sender: `b-` and 48 hexadecimal digits (VERP)."""
        return self.ids([delivery])[0][1]

    def read_envelope(self, local_part: str) -> int | None:
        """The delivery that an envelope sender names; None for one we never made."""
        match = _ENVELOPE.fullmatch(local_part.lower())
        if match is None:
            return None
        iv = bytes.fromhex(match[1])
        delivery = int(match[2], 16) ^ int.from_bytes(self._masks((iv,))[0][:8], "big")
        return delivery if hmac.compare_digest(self._macs((delivery.to_bytes(8, "big"),))[0][16:], iv) else None
