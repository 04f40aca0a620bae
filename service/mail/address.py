"""Addresses in the form the envelope and the To header take, and the host names beside them."""

from __future__ import annotations

import ipaddress
import re

import idna

from service.domain.errors import InvalidInputError

_ATEXT = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\u0080-\U0010ffff-]"
_LOCAL = re.compile(rf"{_ATEXT}+(\.{_ATEXT}+)*|\"([ !#-\[\]-~\u0080-\U0010ffff]|\\[ -~])+\"")
_DOMAIN = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*"
)
_LITERAL = re.compile(r"\[[0-9A-Za-z:.-]+\]")
# Nearly every address, in one step: it needs no change.
_USUAL = re.compile(
    r"(?=.{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}"
)
# What ends a line, and what shows an address in another order than it is written.
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def envelope_address(address: str) -> str:
    """`address` with its domain as A-labels (RFC 5891), the local part as typed.

    The result holds nothing that could end a command or a header. It is not ASCII only if the local part is not: then
    it needs SMTPUTF8 (RFC 6531). Raises `InvalidInputError` without repeating the address.
    """
    if _USUAL.fullmatch(address) and len(address) <= 254:
        return address
    local, at, domain = address.rpartition("@")
    if not at or len(local.encode("utf-8", "replace")) > 64:
        raise InvalidInputError("an address is not of the form local@domain, with at most 64 octets before the @")
    if not _LOCAL.fullmatch(local) or _CONTROL.search(local) or not _encodable(local):
        raise InvalidInputError("an address has letters before the @ that no mail server takes")
    return f"{local}@{envelope_domain(domain)}"


def envelope_domain(domain: str) -> str:
    """`domain` as A-labels in lower case where it was not ASCII. Raises `InvalidInputError` for what is no domain."""
    if domain.isascii():
        if not (_DOMAIN.fullmatch(domain) or _LITERAL.fullmatch(domain)):
            raise InvalidInputError("an address has a domain that is not well formed")
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        # The library's message quotes the label, which is part of an address.
        raise InvalidInputError("an address has a domain that international domain names do not allow") from error


def ehlo_name(name: str) -> str:
    """`name` as EHLO takes it (RFC 5321 §4.1.1.1): a host name in A-labels, or the literal of an address, `[…]`.

    Raises `InvalidInputError` for what is neither.
    """
    if name.startswith("["):
        literal = name[1:-1].removeprefix("IPv6:")
        version = 6 if name.startswith("[IPv6:") else 4
        try:
            good = name.endswith("]") and ipaddress.ip_address(literal).version == version
        except ValueError:
            good = False
        host = name
    else:
        host = envelope_domain(name)
        good = not host.rpartition(".")[2].isdigit()
    if not good:
        raise InvalidInputError("a host says neither a name nor the literal of an address")
    return host


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
