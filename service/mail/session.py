"""The start of a session: connect, greeting, EHLO, TLS, AUTH; and what the relay says it can."""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from service.domain.replies import Phase, Reply
from service.log import cut_addresses
from service.mail.channel import Channel, SessionError
from service.mail.letter import Timeouts
from service.mail.relay import Relay
from service.mail.tls import Tls

_HIDDEN = "<secret>"
# A part of base64, long enough not to be in it by chance.
_WORD = re.compile(r"[A-Za-z0-9+]{6,}")


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What EHLO promised; valid for one session only, the next may promise less."""

    pipelining: bool = False
    eight_bit: bool = False
    chunking: bool = False
    smtputf8: bool = False
    size: bool = False
    starttls: bool = False
    auth: frozenset[str] = frozenset()


async def open_session(
    relay: Relay, *, helo_name: str, timeouts: Timeouts, tls: ssl.SSLContext | None
) -> tuple[Channel, Capabilities]:
    """A channel on which MAIL may be said, and what the relay can.

    Raises `SessionError` when that cannot be had within `timeouts.setup` seconds, or not as safely as asked for.
    """
    channel = Channel()
    try:
        async with asyncio.timeout(timeouts.setup):
            await _connect(channel, relay, timeouts, tls)
            return channel, await _introduce(channel, relay, helo_name, timeouts, tls)
    except TimeoutError:
        channel.abort("the session took too long to start")
        raise SessionError(Phase.CONNECT, f"the session did not start within {timeouts.setup:g} s") from None
    except BaseException:
        channel.abort("the session did not start")
        raise


async def _connect(channel: Channel, relay: Relay, timeouts: Timeouts, tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    implicit = tls if relay.tls is Tls.IMPLICIT else None
    try:
        async with asyncio.timeout(timeouts.connect):
            await loop.create_connection(
                lambda: channel,
                relay.host,
                relay.port,
                ssl=implicit,
                server_hostname=relay.host if implicit else None,
            )
    except TimeoutError:
        raise SessionError(Phase.CONNECT, f"no connection within {timeouts.connect:g} s") from None
    except ssl.SSLError as error:
        raise SessionError(Phase.TLS, f"TLS failed: {error}") from error
    except (ConnectionResetError, ConnectionAbortedError) as error:
        phase = Phase.CONNECT if implicit is None else Phase.TLS
        raise SessionError(phase, f"the relay closed the connection at once: {error}") from error
    except (OSError, UnicodeError) as error:  # the latter of a host's name that no resolver takes
        raise SessionError(Phase.CONNECT, f"no connection: {error}") from error


async def _introduce(
    channel: Channel, relay: Relay, helo_name: str, timeouts: Timeouts, tls: ssl.SSLContext | None
) -> Capabilities:
    _expect(await channel.ask(None, Phase.GREETING, timeouts.greeting), Phase.GREETING, 220)
    capabilities = await _ehlo(channel, helo_name, timeouts)
    if relay.tls is Tls.STARTTLS:
        if not capabilities.starttls or tls is None:
            raise SessionError(Phase.TLS, "the relay does not offer STARTTLS, and mail is not sent in clear")
        _expect(await channel.ask(b"STARTTLS\r\n", Phase.TLS, timeouts.command), Phase.TLS, 220)
        await channel.start_tls(tls, relay.host, timeouts.connect)
        # RFC 3207 §4.2: what was promised in clear is forgotten.
        capabilities = await _ehlo(channel, helo_name, timeouts)
    if relay.username is not None:
        await _authenticate(channel, relay, capabilities, timeouts)
    return capabilities


def _expect(reply: Reply, phase: Phase, code: int) -> None:
    if reply.code != code:
        raise SessionError(phase, f"the relay answered {reply.code:03} {cut_addresses(reply.text)}", reply)


async def _ehlo(channel: Channel, helo_name: str, timeouts: Timeouts) -> Capabilities:
    reply, lines = await channel.ask_lines(b"EHLO %b\r\n" % helo_name.encode("ascii"), Phase.EHLO, timeouts.command)
    if reply.code in {500, 501, 502, 504}:
        reply = await channel.ask(b"HELO %b\r\n" % helo_name.encode("ascii"), Phase.EHLO, timeouts.command)
        lines = []
    _expect(reply, Phase.EHLO, 250)
    return parse_capabilities(line[4:].decode("ascii", "replace") for line in lines[1:])


def parse_capabilities(lines: Iterable[str]) -> Capabilities:
    """The capabilities in the lines of an EHLO reply, without codes and without the first line."""
    words = [line.replace("=", " ").upper().split() for line in lines]
    named: Mapping[str, list[str]] = {line[0]: line[1:] for line in words if line}
    return Capabilities(
        pipelining="PIPELINING" in named,
        eight_bit="8BITMIME" in named,
        chunking="CHUNKING" in named,
        smtputf8="SMTPUTF8" in named,
        size="SIZE" in named,
        starttls="STARTTLS" in named,
        auth=frozenset(named.get("AUTH", ())),
    )


async def _authenticate(channel: Channel, relay: Relay, capabilities: Capabilities, timeouts: Timeouts) -> None:
    if relay.tls is Tls.NONE and not relay.is_loopback:
        raise SessionError(Phase.AUTH, "a password is never sent in clear: set tls=starttls or tls=implicit")
    username, password = (relay.username or "").encode(), (relay.password or "").encode()
    if "PLAIN" in capabilities.auth:
        said = [base64.b64encode(b"\0" + username + b"\0" + password)]
        reply = await channel.ask(b"AUTH PLAIN " + said[0] + b"\r\n", Phase.AUTH, timeouts.command)
    elif "LOGIN" in capabilities.auth:
        said = [base64.b64encode(username), base64.b64encode(password)]
        reply = await channel.ask(b"AUTH LOGIN\r\n", Phase.AUTH, timeouts.command)
        for secret in said:
            _expect(_cut_secrets(reply, said, password), Phase.AUTH, 334)
            reply = await channel.ask(secret + b"\r\n", Phase.AUTH, timeouts.command)
    else:
        raise SessionError(Phase.AUTH, "the relay offers neither AUTH PLAIN nor AUTH LOGIN", tried=False)
    _expect(_cut_secrets(reply, said, password), Phase.AUTH, 235)


def _cut_secrets(reply: Reply, said: Iterable[bytes], password: bytes) -> Reply:
    """The reply of a relay that may echo what was `said` to it and it did not like, or a part of that, without it."""
    encoded = [secret.decode("ascii") for secret in said]
    text = reply.text
    for secret in (*encoded, password.decode()):
        text = text.replace(secret, _HIDDEN) if secret else text
    text = _WORD.sub(lambda word: _HIDDEN if any(word[0] in secret for secret in encoded) else word[0], text)
    return reply._replace(text=text)
