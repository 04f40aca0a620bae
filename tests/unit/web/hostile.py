"""What strangers send: tokens that are forged or changed by a little, and forms that no browser would fill in so."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from urllib.parse import quote_plus, urlencode

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_PAYLOADS = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "{% raw %}", "'; DROP TABLE signups; --",
    "\r\nBcc: victim@example.test", "a@b.test\r\nRCPT TO:<c@d.test>", "=?utf-8?q?a=0D=0ABcc:_v@x?=", "\x00", "\x1b[2J",
    "${jndi:ldap://x}", "../../etc/passwd", "%0d%0aSet-Cookie:x=1", "\u2028", "\ud7ff\uffff", "𝕒@𝕓.𝕔", "a" * 5000,
    "@", "a@", "@b.test", "a@b", "a@@b.test", '"a b"@c.test', "a@[127.0.0.1]", "a@xn--.test", "a@" + "b." * 120 + "test",
)  # fmt: skip


def tokens(valid: list[str], count: int, seed: int = 1) -> Iterator[str]:
    """So many tokens that nobody signed: random ones, and valid ones with something changed, moved, cut or added."""
    chance = random.Random(seed)
    good = set(valid)
    made = 0
    while made < count:
        token = _mutated(chance, chance.choice(valid)) if chance.random() < 0.8 else _random(chance)
        if token not in good:
            made += 1
            yield token


def _random(chance: random.Random) -> str:
    if chance.random() < 0.5:
        # The number of a key that there is, an epoch that may be: only the HMAC is missing.
        octets = bytes([1]) + chance.randbytes(2) + bytes([chance.randrange(4)]) + chance.randbytes(32)
        return base64.urlsafe_b64encode(octets).decode()
    return "".join(chance.choice(_ALPHABET) for _ in range(chance.choice((48, 48, 48, 47, 49, 64, 0, 1))))


def _mutated(chance: random.Random, token: str) -> str:
    place = chance.randrange(len(token))
    match chance.randrange(6):
        case 0:
            return token[:place] + chance.choice(_ALPHABET) + token[place + 1 :]
        case 1:
            octets = bytearray(base64.urlsafe_b64decode(token))
            octets[chance.randrange(len(octets))] ^= 1 << chance.randrange(8)
            return base64.urlsafe_b64encode(octets).decode()
        case 2:
            other = chance.randrange(len(token))
            letters = list(token)
            letters[place], letters[other] = letters[other], letters[place]
            return "".join(letters)
        case 3:
            return token[:place]
        case 4:
            return token + chance.choice(("=", "\n", "A", "%00", "/", "."))
        case _:
            return token.swapcase()


def bodies(count: int, seed: int = 1) -> Iterator[tuple[bytes, str]]:
    """So many bodies of a form, each with its Content-Type."""
    chance = random.Random(seed)
    for _ in range(count):
        yield _body(chance)


def _body(chance: random.Random) -> tuple[bytes, str]:
    names = ("address", "language", "website", "newest", "stamp", "change", "until", "purpose", "x")
    fields = [(chance.choice(names), chance.choice(_PAYLOADS)) for _ in range(chance.randrange(8))]
    match chance.randrange(6):
        case 0:
            return chance.randbytes(chance.randrange(300)), "application/x-www-form-urlencoded"
        case 1:
            return chance.randbytes(chance.randrange(300)), "multipart/form-data; boundary=x"
        case 2:
            return b'{"address": ["' + chance.randbytes(9).hex().encode() + b'"]}', "application/json"
        case 3:
            parts = "".join(f'--x\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields)
            return (parts + "--x--\r\n").encode(), "multipart/form-data; boundary=x"
        case 4:
            cut = urlencode(fields, quote_via=quote_plus).encode()
            return cut[: chance.randrange(len(cut) + 1)] + b"%zz&=&&%", "application/x-www-form-urlencoded"
        case _:
            return urlencode(fields).encode(), "application/x-www-form-urlencoded"
