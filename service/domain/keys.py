"""The keyring: numbered secrets from which each purpose derives a key of its own. Reading its file is bootstrap's."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from service.domain.errors import ConfigurationError

_HEADER = "tydzen-keyring-1"
SECRET_OCTETS = 32


class Purpose(StrEnum):
    """What a derived key is for; a key of one purpose never serves another."""

    ADDRESS = "address"
    INDEX = "index"
    UNSUBSCRIBE = "unsubscribe"
    PREFERENCES = "preferences"
    CONFIRM = "confirm"
    REQUEST = "request"
    FORM = "form"
    DELIVERY = "delivery"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Secrets by number (1 to 255); the highest seals and signs, all open and verify."""

    secrets: dict[int, bytes] = field(repr=False)

    @property
    def current(self) -> int:
        """The number of the key that seals and signs now."""
        return max(self.secrets)

    @property
    def oldest(self) -> int:
        """The number of the key that hashes addresses: index keys never change, erased addresses cannot be rehashed."""
        return min(self.secrets)

    def derive(self, purpose: Purpose, number: int) -> bytes:
        """The 32-octet key of `purpose` under secret `number` (HKDF-SHA-256, RFC 5869, one block)."""
        extracted = hmac.new(b"tydzen", self.secrets[number], hashlib.sha256).digest()
        return hmac.new(extracted, purpose.encode() + b"\x01", hashlib.sha256).digest()

    @property
    def fingerprint(self) -> str:
        """What the database remembers of the oldest secret, so that a wrong keyring is noticed before it does harm."""
        return hmac.new(self.secrets[self.oldest], b"fingerprint", hashlib.sha256).hexdigest()[:32]

    def render(self) -> str:
        """The keyring file's text."""
        lines = [f"{number} {base64.b64encode(secret).decode()}" for number, secret in sorted(self.secrets.items())]
        return "\n".join([_HEADER, *lines, ""])

    @classmethod
    def parse(cls, text: str, source: str) -> Keyring:
        """The keyring written in `text`; raises ConfigurationError naming `source` and the line."""
        lines = text.splitlines()
        if not lines or lines[0].strip() != _HEADER:
            raise ConfigurationError(f'{source}:1: not a keyring (its first line is "{_HEADER}"); restore your backup')
        secrets: dict[int, bytes] = {}
        for number, line in enumerate(lines[1:], start=2):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, encoded = line.strip().partition(" ")
            try:
                secret = base64.b64decode(encoded, validate=True)
            except ValueError:
                secret = b""
            if not name.isdecimal() or not 1 <= int(name) <= 255 or len(secret) != SECRET_OCTETS:
                raise ConfigurationError(f"{source}:{number}: a key is a number from 1 to 255 and 32 octets in base64")
            secrets[int(name)] = secret
        if not secrets:
            raise ConfigurationError(f"{source}: the keyring holds no key; restore your backup")
        return cls(secrets)

    @classmethod
    def create(cls, random_octets: Callable[[int], bytes]) -> Keyring:
        """A keyring with one new secret."""
        return cls({1: random_octets(SECRET_OCTETS)})


def keyed_digests(key: bytes) -> Callable[[Iterable[bytes]], list[bytes]]:
    """HMAC-SHA-256 under `key` of each message: the padded key is hashed once, at half the cost of `hmac.digest`."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(octet ^ 0x36 for octet in block))
    outer = hashlib.sha256(bytes(octet ^ 0x5C for octet in block))

    def digests(messages: Iterable[bytes]) -> list[bytes]:
        found = []
        for message in messages:
            first, second = inner.copy(), outer.copy()
            first.update(message)
            second.update(first.digest())
            found.append(second.digest())
        return found

    return digests


def keyed_digest(key: bytes) -> Callable[[bytes], bytes]:
    """As `keyed_digests`, of one message at a time."""
    digests = keyed_digests(key)
    return lambda message: digests((message,))[0]


def keyed_masks(key: bytes) -> Callable[[Iterable[bytes]], list[bytes]]:
    """A pseudo-random 32 octets for each 16-octet IV: SHA-256 over the key and it, at half the cost of an HMAC.

    Only for inputs of one fixed length: then there is nothing that a length extension could extend.
    """
    started = hashlib.sha256(key.ljust(64, b"\0"))

    def masks(ivs: Iterable[bytes]) -> list[bytes]:
        found = []
        for iv in ivs:
            digest = started.copy()
            digest.update(iv)
            found.append(digest.digest())
        return found

    return masks
