"""DKIM signatures (RFC 6376, RFC 8463), one by each key, over exactly the octets that the relay gets.

Of a letter only what differs from reader to reader is hashed anew: the hash of a body's constant beginning is kept.
"""

from __future__ import annotations

import base64
import hashlib
import re
from binascii import b2a_base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from service.domain.errors import ConfigurationError
from service.domain.slots import MARKERS, Slot, SlotValues
from service.mail.address import envelope_domain
from service.mail.segments import Segments

# Signed where they are there. Those who forward mail may add others, but change none of these.
_SIGNED = (
    *("from", "to", "subject", "date", "message-id", "reply-to", "mime-version", "content-type"),
    *("content-transfer-encoding", "content-language", "feedback-id", "auto-submitted", "list-id"),
    *("list-unsubscribe", "list-unsubscribe-post", "list-help", "list-owner", "list-archive"),
)
# Signed once more than they are there, so that nobody can add one.
_SEALED = ("from", "list-unsubscribe", "list-unsubscribe-post")
_SELECTOR = re.compile(r"[a-z0-9](-?[a-z0-9])*(\.[a-z0-9](-?[a-z0-9])*)*", re.IGNORECASE)
_RSA_BITS = 2048
_TXT_OCTETS = 255  # of one string of a TXT record
_SPACE = re.compile(rb"[ \t]+")
_REMEMBERED = 16  # forms of renditions
_EXAMPLE = SlotValues(*(MARKERS[slot].encode() for slot in Slot))


@dataclass(frozen=True, slots=True)
class Key:
    """A private key and the name under which its public half is published."""

    selector: str
    private: RSAPrivateKey | Ed25519PrivateKey = field(repr=False)

    @property
    def algorithm(self) -> str:
        """The value of the tag a=."""
        return "rsa-sha256" if isinstance(self.private, RSAPrivateKey) else "ed25519-sha256"

    @property
    def signature_octets(self) -> int:
        """The length of each signature."""
        return self.private.key_size // 8 if isinstance(self.private, RSAPrivateKey) else 64

    def sign(self, octets: bytes) -> bytes:
        """The signature of `octets`."""
        if isinstance(self.private, RSAPrivateKey):
            return self.private.sign(octets, PKCS1v15(), SHA256())
        return self.private.sign(hashlib.sha256(octets).digest())  # RFC 8463 §3

    def record(self) -> str:
        """The text of the TXT record that publishes this key."""
        public = self.private.public_key()
        if isinstance(self.private, RSAPrivateKey):
            octets = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            return f"v=DKIM1; k=rsa; p={base64.b64encode(octets).decode()}"
        octets = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return f"v=DKIM1; k=ed25519; p={base64.b64encode(octets).decode()}"

    def zone_line(self, domain: str) -> str:
        """The record as a line of a zone file, its text in strings of at most 255 octets."""
        text = self.record()
        strings = [text[at : at + _TXT_OCTETS] for at in range(0, len(text), _TXT_OCTETS)]
        words = " ".join(f'"{string}"' for string in strings)
        return f"{self.selector}._domainkey.{envelope_domain(domain)}. IN TXT ( {words} )"


def read_keys(setting: str) -> tuple[Key, ...]:
    """The keys of `selector=/path/key.pem,…`; raises `ConfigurationError` that names the file and the mend."""
    keys = tuple(_read_key(entry.strip()) for entry in setting.split(",") if entry.strip())
    selectors = [key.selector for key in keys]
    for selector in selectors:
        if selectors.count(selector) > 1:
            raise ConfigurationError(f"TYDZEN_DKIM: selector {selector} is named twice: give each key its own")
    return keys


def _read_key(entry: str) -> Key:
    selector, equals, name = entry.partition("=")
    path = Path(name)
    if not equals or not name or not _SELECTOR.fullmatch(selector):
        raise ConfigurationError("TYDZEN_DKIM has the form selector=/path/key.pem, several separated by commas")
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigurationError(f"TYDZEN_DKIM: {path} cannot be read: {error.strerror}") from None
    except TypeError:
        raise ConfigurationError(f"TYDZEN_DKIM: {path} is protected by a password: store the key without one") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"TYDZEN_DKIM: {path} holds no private key in PEM") from None
    if isinstance(private, RSAPrivateKey) and private.key_size < _RSA_BITS:
        raise ConfigurationError(f"TYDZEN_DKIM: {path} is RSA of {private.key_size} bits: take 2048, or Ed25519")
    if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
        raise ConfigurationError(f"TYDZEN_DKIM: {path} is neither an RSA nor an Ed25519 key")
    return Key(selector, private)


class Signer:
    """Signs letters of `domain` with each of `keys`; `now` is the wall clock in Unix seconds."""

    def __init__(self, keys: Sequence[Key], domain: str, now: Callable[[], float]) -> None:
        self._keys = tuple(keys)
        self._domain = envelope_domain(domain)
        self._now = now
        self._prepared: dict[int, _Prepared] = {}

    def size(self, form: Segments) -> int:
        """The octets that the signatures add to letters of `form`, which is not dot-stuffed."""
        return self._prepare(form).size

    def sign(self, form: Segments, values: SlotValues, letter: bytes | None = None) -> bytes:
        """The header lines to put before the letter; `letter` is `form.join(values)` where that is at hand."""
        prepared = self._prepare(form)
        body_hash = prepared.body_hash(form.join(values) if letter is None else letter)
        header = prepared.header(values)
        at = b"%010d" % self._now()
        lines = b""
        for key, (before, between, after) in zip(self._keys, prepared.skeletons, strict=True):
            tags = before + at + between + body_hash + after
            signature = b2a_base64(key.sign(header + _relaxed(tags)), newline=False)
            lines += tags + signature + b"\r\n"
        return lines

    def signed(self, form: Segments, stuffed: Segments | None = None) -> Signed:
        """What joins letters of `form` with their signatures; with `stuffed`, its dot-stuffed twin, as that."""
        return Signed(self, form, stuffed)

    def _prepare(self, form: Segments) -> _Prepared:
        prepared = self._prepared.get(id(form))
        if prepared is None or prepared.form is not form:
            if len(self._prepared) >= _REMEMBERED:
                self._prepared.clear()
            prepared = self._prepared[id(form)] = _Prepared(form, self._keys, self._domain)
        return prepared


@dataclass(frozen=True, slots=True)
class Signed:
    """Stands in for `Segments` where letters are signed."""

    signer: Signer
    form: Segments
    stuffed: Segments | None

    def parts(self, values: SlotValues) -> list[bytes]:
        """The signed message of one reader in its parts, ending in CRLF, without the final dot."""
        letter = self.form.join(values)
        signature = self.signer.sign(self.form, values, letter)
        # No line of a signature starts with a dot.
        return [signature, letter] if self.stuffed is None else [signature, *self.stuffed.parts(values)]


class _Prepared:
    """What all letters of one form have in common."""

    def __init__(self, form: Segments, keys: Sequence[Key], domain: str) -> None:
        self.form = form
        example = form.join(_EXAMPLE)
        start = example.index(b"\r\n\r\n") + 4
        body = example[start:]
        first = _first_place(form, start) - start
        self._begin = len(body) - first
        # Simple canonicalisation: empty lines at the end do not count (RFC 6376 §3.4.3). No body of ours is empty.
        self._end = len(body) - len(body.rstrip(b"\r\n")) - 2
        self._state = hashlib.sha256(body[:first] if self._begin > self._end else body[: len(body) - self._end])
        fields = _fields(example[: start - 2])
        self._parts, self._slots = _cut(b"".join(fields[name] + b"\r\n" for name in _SIGNED if name in fields))
        names = b":".join(name.encode() for name in (*filter(fields.__contains__, _SIGNED), *_SEALED))
        self.skeletons = [_skeleton(key, domain, names) for key in keys]
        added = (10 + 44 + -(-key.signature_octets // 3) * 4 + 2 for key in keys)
        self.size = sum(sum(map(len, skeleton)) for skeleton in self.skeletons) + sum(added)

    def body_hash(self, letter: bytes) -> bytes:
        """The value of bh= for a letter of this form."""
        state = self._state.copy()
        state.update(memoryview(letter)[len(letter) - self._begin : len(letter) - self._end])
        return b2a_base64(state.digest(), newline=False)

    def header(self, values: SlotValues) -> bytes:
        """The canonical signed header fields."""
        parts = self._parts.copy()
        for at, slot in self._slots:
            value = values[slot]
            parts[at] = _SPACE.sub(b" ", value) if b" " in value else value
        return b"".join(parts)


def _first_place(form: Segments, start: int) -> int:
    """Where the first value that is not before `start` stands in the example; places in the header are plain."""
    at = 0
    for static, place in zip(form.statics, form.places, strict=False):
        at += len(static)
        if at >= start:
            return at
        at += len(_EXAMPLE[place.slot])
    return at + len(form.statics[-1])


def _fields(header: bytes) -> dict[str, bytes]:
    """The fields of a header in relaxed form, by name; each is there once."""
    lines = header.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").removesuffix(b"\r\n").split(b"\r\n")
    canonical = [_relaxed(line) for line in lines]
    return {line.partition(b":")[0].decode("ascii"): line for line in canonical}


def _relaxed(field_line: bytes) -> bytes:
    """A field in relaxed form (RFC 6376 §3.4.2), without its line end."""
    name, _, value = field_line.replace(b"\r\n", b"").partition(b":")
    return name.lower().rstrip() + b":" + _SPACE.sub(b" ", value).strip()


def _cut(header: bytes) -> tuple[list[bytes], list[tuple[int, int]]]:
    """The canonical header as a list to join, and where in it which slot's value belongs."""
    markers = re.compile(b"(" + b"|".join(re.escape(marker) for marker in _EXAMPLE) + b")")
    parts = markers.split(header)
    return parts, [(at, _EXAMPLE.index(part)) for at, part in enumerate(parts) if at % 2]


def _skeleton(key: Key, domain: str, names: bytes) -> tuple[bytes, bytes, bytes]:
    """A signature's field before its time, from there to the hash of the body, and from there to the signature."""
    a, d, s = key.algorithm.encode(), domain.encode(), key.selector.encode()
    listed = b":\r\n  ".join(_lines(names))
    before = b"DKIM-Signature: v=1; a=%b; c=relaxed/simple; d=%b; s=%b;\r\n t=" % (a, d, s)
    return before, b"; h=" + listed + b";\r\n bh=", b";\r\n b="


def _lines(names: bytes) -> list[bytes]:
    """The names in lines of at most 70 octets."""
    lines = [b""]
    for name in names.split(b":"):
        if lines[-1] and len(lines[-1]) + 1 + len(name) > 64:
            lines.append(name)
        else:
            lines[-1] += (b":" if lines[-1] else b"") + name
    return lines
