"""Addresses at rest: sealed with AES-256-GCM under the row's id, found by a keyed hash. Used in store only."""

from __future__ import annotations

import hashlib
import os
import threading
import unicodedata
from collections.abc import Callable

import idna
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from service.domain.errors import ConfigurationError, InvalidInputError
from service.domain.keys import Keyring, Purpose, keyed_digest
from service.store.errors import SpoiledAddressError, UnknownKeyError

_NONCE_OCTETS = 12


def normalised(address: str) -> str:
    """The one form of an address that is hashed: NFC, lower case, domain as A-label (RFC 5891).

    Dots and tags of the local part are kept: only the reader's own host knows what they mean. Raises InvalidInputError
    without echoing the address.
    """
    local, at, domain = unicodedata.normalize("NFC", address.strip()).rpartition("@")
    if not at or not local or not domain:
        raise InvalidInputError("not a mail address: it needs a part before and after the @")
    if domain.isascii():
        return f"{local}@{domain}".lower()
    try:
        ascii_domain = idna.encode(domain.lower(), uts46=True).decode("ascii")
    except idna.IDNAError:
        raise InvalidInputError("not a mail address: its domain cannot be written in DNS") from None
    return f"{local.lower()}@{ascii_domain.lower()}"


class Sealer:
    """Seals, opens and hashes addresses with the keys of one keyring; for all threads of a process.

    `reread` reads the keyring again where an address has a key that was added since: a process opens what others seal
    with a new key, and seals with its own until it starts anew. It may raise ConfigurationError.
    """

    def __init__(self, keyring: Keyring, reread: Callable[[], Keyring] | None = None) -> None:
        self._reread = reread
        self._rereading = threading.Lock()
        self._number = keyring.current
        self._ciphers = {n: AESGCM(keyring.derive(Purpose.ADDRESS, n)) for n in keyring.secrets}
        # One index key for ever: erased addresses cannot be hashed again under another.
        self._hash = keyed_digest(keyring.derive(Purpose.INDEX, keyring.oldest))
        self.fingerprint = keyring.fingerprint

    def seal(self, row_id: bytes, address: str) -> bytes:
        """Key number, nonce and ciphertext of `address`, bound to the row `row_id`."""
        nonce = os.urandom(_NONCE_OCTETS)
        return bytes((self._number,)) + nonce + self._ciphers[self._number].encrypt(nonce, address.encode(), row_id)

    def open(self, row_id: bytes, sealed: bytes) -> str:
        """The address; raises UnknownKeyError where its key is not in the keyring.

        Raises SpoiledAddressError where the blob is not this row's, or damaged.
        """
        number = sealed[0] if sealed else self._number
        cipher = self._ciphers.get(number) or self._added(number)
        if cipher is None:
            raise UnknownKeyError(f"key {number} is not in the keyring; restore the full keyring file")
        try:
            return cipher.decrypt(sealed[1:13], sealed[13:], row_id).decode()
        except (InvalidTag, ValueError):
            raise SpoiledAddressError(
                "a sealed address does not open with the keyring; is it another one's, or damaged?"
            ) from None

    def _added(self, number: int) -> AESGCM | None:
        """The cipher of a key that was added since the keyring was read; None where it was not, or to another one."""
        with self._rereading:
            if number not in self._ciphers and self._reread is not None:
                try:
                    keyring = self._reread()
                except ConfigurationError:
                    return None
                if keyring.fingerprint == self.fingerprint:
                    added = keyring.secrets.keys() - self._ciphers.keys()
                    # Replaced as a whole: other threads read it without the lock.
                    self._ciphers = self._ciphers | {n: AESGCM(keyring.derive(Purpose.ADDRESS, n)) for n in added}
            return self._ciphers.get(number)

    def address_hash(self, address: str) -> bytes:
        """The keyed hash (32 octets) under which an address is found. Raises InvalidInputError as `normalised` does."""
        return self._hash(normalised(address).encode())

    def digest(self, value: str) -> bytes:
        """A keyed hash of something that is no address (a provider's domain, a token), never equal to one."""
        return self._hash(b"\0" + hashlib.sha256(value.encode()).digest())
