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
from collections.abc import Callable
from dataclasses import dataclass

from service.domain.keys import Keyring, Purpose, keyed_digest, keyed_mask

_LINK = re.compile(r"[A-Za-z0-9_-]{48}")
_ENVELOPE = re.compile(r"b-([0-9a-f]{32})([0-9a-f]{16})")
_EPOCH_OCTETS = 3
CONFIRMATION_HOURS = 72
REQUEST_HOURS = 24
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a valid link token says: which subscriber (or other row), and at which epoch it was signed."""

    subscriber: bytes
    epoch: int


class LinkSigner:
    """Signs and reads the 48-character tokens of one purpose: key number, epoch, IV, masked subscriber id."""

    def __init__(self, keyring: Keyring, purpose: Purpose) -> None:
        self._digests: dict[int, tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]] = {}
        for number in keyring.secrets:
            key = keyring.derive(purpose, number)
            self._digests[number] = keyed_digest(key), keyed_mask(key[::-1])
        self._number = keyring.current
        self._current = self._digests[self._number]

    def sign(self, subscriber: bytes, epoch: int = 0) -> str:
        """The token for a 16-octet subscriber id; `epoch` (below 2**24) makes older tokens tell themselves apart."""
        return self.sign_octets(subscriber, epoch).decode("ascii")

    def sign_octets(self, subscriber: bytes, epoch: int = 0) -> bytes:
        """As `sign`, as it stands on the wire: two of these are made for every letter."""
        mac, mask = self._current
        head = (self._number << 8 * _EPOCH_OCTETS | epoch).to_bytes(1 + _EPOCH_OCTETS, "big")
        iv = mac(head + subscriber)[:16]
        masked = int.from_bytes(subscriber, "big") ^ int.from_bytes(mask(iv)[:16], "big")
        return binascii.b2a_base64(head + iv + masked.to_bytes(16, "big"), newline=False).translate(_URL_SAFE)

    def read(self, token: str) -> Claim | None:
        """The claim of a token of this purpose; None for any other text. Takes the same time for every forgery."""
        if _LINK.fullmatch(token) is None:
            return None
        raw = base64.urlsafe_b64decode(token)
        digests = self._digests.get(raw[0])
        if digests is None:
            return None
        mac, mask = digests
        head, iv, masked = raw[:4], raw[4:20], raw[20:]
        subscriber = (int.from_bytes(masked, "big") ^ int.from_bytes(mask(iv)[:16], "big")).to_bytes(16, "big")
        if not hmac.compare_digest(mac(head + subscriber)[:16], iv):
            return None
        return Claim(subscriber, int.from_bytes(raw[1:4], "big"))


class TimedSigner:
    """Signs and reads tokens of an id and the hour they were signed in, which is as fine as time gets."""

    def __init__(self, keyring: Keyring, purpose: Purpose, hours: int) -> None:
        self._links = LinkSigner(keyring, purpose)
        self._hours = hours

    def sign(self, row_id: bytes, hour: int) -> str:
        """The token of a 16-octet id; `hour` is counted from 1970, UTC (see `hour_of`)."""
        return self._links.sign(row_id, hour)

    def read(self, token: str, now: dt.datetime) -> bytes | None:
        """The id of a token that still holds: up to the end of its last hour; None for any other text."""
        claim = self._links.read(token)
        # An hour ahead of ours is a host whose clock runs ahead a little; more than that was never signed by us.
        if claim is None or not -1 <= hour_of(now) - claim.epoch <= self._hours:
            return None
        return claim.subscriber


class ConfirmationSigner(TimedSigner):
    """Signs and reads `/c/TOKEN`, of a confirmation; it holds for 72 hours."""

    def __init__(self, keyring: Keyring) -> None:
        super().__init__(keyring, Purpose.CONFIRM, CONFIRMATION_HOURS)


class RequestSigner(TimedSigner):
    """Signs and reads `/r/TOKEN`, of a reader's request; it holds for 24 hours."""

    def __init__(self, keyring: Keyring) -> None:
        super().__init__(keyring, Purpose.REQUEST, REQUEST_HOURS)


def hour_of(now: dt.datetime) -> int:
    """The hour of the aware `now`, counted from 1970, UTC; below 2**24 until the year 3883."""
    return int(now.timestamp()) // 3600


class DeliverySigner:
    """The ids that a delivery shows to the world: its Message-ID and its envelope sender, the same over retries."""

    def __init__(self, keyring: Keyring) -> None:
        # The oldest key: a delivery that is retried after a new key was added must keep its ids.
        key = keyring.derive(Purpose.DELIVERY, keyring.oldest)
        self._mac, self._mask = keyed_digest(key), keyed_mask(key[::-1])

    def ids(self, delivery: int) -> tuple[str, str]:
        """Both `message_id` and `envelope`: the two halves of one HMAC, neither of which tells the other."""
        digest = self._mac(delivery.to_bytes(8, "big"))
        digits = digest.hex()
        masked = delivery ^ int.from_bytes(self._mask(digest[16:])[:8], "big")
        return digits[:32], f"b-{digits[32:]}{masked:016x}"

    def message_id(self, delivery: int) -> str:
        """The left side of the Message-ID: 32 hexadecimal digits that show nothing of the delivery."""
        return self.ids(delivery)[0]

    def envelope(self, delivery: int) -> str:
        """The local part of the envelope sender: `b-` and 48 hexadecimal digits (VERP)."""
        return self.ids(delivery)[1]

    def read_envelope(self, local_part: str) -> int | None:
        """The delivery that an envelope sender names; None for one we never made."""
        match = _ENVELOPE.fullmatch(local_part.lower())
        if match is None:
            return None
        iv = bytes.fromhex(match[1])
        delivery = int(match[2], 16) ^ int.from_bytes(self._mask(iv)[:8], "big")
        return delivery if hmac.compare_digest(self._mac(delivery.to_bytes(8, "big"))[16:], iv) else None
