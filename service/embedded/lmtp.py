"""Mails to unsubscribe, handed over to an LMTP listener (RFC 2033) that takes the token of each, and nothing else.

A mail to unsubscribe goes to `name+TOKEN@domain`. Who sent it and what it says is read by nobody: the body is passed
over as it comes, and no header is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import Envelope, Session

from service import log
from service.domain.errors import ConfigurationError, TydzenError
from service.mail.leave_address import FORMS, LeaveAddress, read_leave_address

_MAIL_OCTETS = 1024 * 1024

_log = log.get("inbound")


@dataclass(frozen=True, slots=True)
class Listener:
    """Where it listens, and the address whose mails the relay hands over to it."""

    host: str
    port: int
    leave: LeaveAddress


def read_listener(url: str) -> Listener:
    """The listener of `lmtp://HOST:PORT?address=NAME@DOMAIN`; raises ConfigurationError that says what is wrong."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(FORMS) from None
    addresses = parse_qs(parts.query).get("address", [])
    if parts.scheme != "lmtp" or not parts.hostname or not port or len(addresses) != 1:
        raise ConfigurationError(FORMS)
    return Listener(parts.hostname, port, read_leave_address(addresses[0]))


class Receiver:
    """Calls `take` with each token, in a thread; what it raises has the relay try again later."""

    def __init__(self, leave: LeaveAddress, take: Callable[[str], object]) -> None:
        self._leave = leave
        self._take = take

    async def handle_RCPT(  # noqa: N802  # aiosmtpd's name
        self, _server: LMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """One recipient a mail, at our own mailbox: LMTP owes each of several a reply of its own."""
        if envelope.rcpt_tos:
            return "452 4.5.3 One recipient at a time"
        if self._leave.token(address) is None:
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, _server: LMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """The mail is over: use its token. One that is none of ours gets the same reply, and tells nobody so."""
        token = self._leave.token(envelope.rcpt_tos[0]) or ""
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._take, token)
        except TydzenError as error:
            _log.warning("token-not-taken", kind=type(error).__name__, why=str(error))
            return "451 4.3.0 Try again later"
        return "250 2.0.0 OK"


async def serve(listener: Listener, take: Callable[[str], object], *, until: asyncio.Event) -> None:
    """Listen until the event is set; raises OSError where the port is taken."""

    def factory() -> LMTP:
        return LMTP(Receiver(listener.leave, take), data_size_limit=_MAIL_OCTETS, hostname="tydzen", ident="LMTP")

    loop = asyncio.get_running_loop()
    server: Any = await loop.create_server(factory, listener.host, listener.port)
    async with server:
        await until.wait()
