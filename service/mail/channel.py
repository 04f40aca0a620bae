"""One socket to a relay: octets out, replies in. It knows lines and TLS, but nothing of mail."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

from service.domain.replies import Phase, Reply, parse_reply
from service.mail.replyreader import RawReply, ReplyReader


class SessionError(Exception):
    """A session could not be started; `reply` is what the relay said, if it said anything.

    `tried` is False where it was not asked for what `phase` is about, as it does not offer it.
    """

    def __init__(self, phase: Phase, text: str, reply: Reply | None = None, *, tried: bool = True) -> None:
        super().__init__(text)
        self.tried = tried
        self.phase = phase
        self.text = text
        self.reply = reply


class Listener(Protocol):
    """Who takes over once the session has started."""

    def on_replies(self, replies: Sequence[RawReply]) -> None:
        """Take complete replies, in order."""

    def on_drained(self) -> None:
        """Learn that all that was written has been handed to the kernel."""

    def on_lost(self, text: str) -> None:
        """Learn, once, that nothing more will come, and why."""


class Channel(asyncio.Protocol):
    """The asyncio side of one connection.

    Until `listen`, replies wait for `ask`; afterwards they go to the listener.
    """

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reader = ReplyReader()
        self._replies: deque[RawReply] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._listener: Listener | None = None
        self.lost: str | None = None
        self.paused = False
        self.ended_by_relay = False

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is open."""
        self._attach(cast("asyncio.Transport", transport))

    def _attach(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        # With a limit of zero every write goes to the kernel at once, and `paused` says exactly whether all of it went.
        transport.set_write_buffer_limits(high=0)
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family in {socket.AF_INET, socket.AF_INET6}:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        """Octets came: hand on the replies they complete."""
        try:
            replies = self._reader.feed(data)
            if self._reader.overflown:
                self.abort("the relay's reply has no end")
            elif self._listener is not None:
                if replies:
                    self._listener.on_replies(replies)
            else:
                self._replies.extend(replies)
                self._wake()
        except BaseException:
            # No memory, most likely. What comes next would be taken for another letter's reply, or never come.
            self.abort("the worker failed at a reply")
            raise

    def eof_received(self) -> bool:
        """The relay will say no more; whether it still listens makes no difference."""
        self.ended_by_relay = True
        self.abort("the relay closed the connection")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        if self.lost is None:
            self.ended_by_relay = True
            self._lose(f"the connection broke: {exc}" if exc else "the connection was closed")

    def pause_writing(self) -> None:
        """The kernel did not take all of a write."""
        self.paused = True

    def resume_writing(self) -> None:
        """The kernel has taken all that was written."""
        self.paused = False
        if self._listener is not None:
            try:
                self._listener.on_drained()
            except BaseException:
                self.abort("the worker failed at a letter")
                raise

    # What sessions and conversations call

    def write(self, parts: Sequence[bytes]) -> None:
        """Hand octets over, in one system call where the transport can.

        Joined here and once: by `writelines` some twenty buffers of a letter cost the kernel more than the copy does.
        """
        if self._transport is not None and self.lost is None:
            self._transport.write(b"".join(parts))

    def is_closing(self) -> bool:
        """Whether the transport knows already that what is written now goes nowhere."""
        return self._transport is None or self._transport.is_closing()

    @property
    def handle(self) -> int:
        """The number of its socket in this process; -1 where there is none."""
        raw = self._transport.get_extra_info("socket") if self._transport is not None else None
        return -1 if raw is None else int(raw.fileno())

    def abort(self, text: str) -> None:
        """Break the connection now, without a word to the relay."""
        if self._transport is not None:
            self._transport.abort()
        self._lose(text)

    def _lose(self, text: str) -> None:
        if self.lost is not None:
            return
        self.lost = text
        self._wake()
        if self._listener is not None:
            self._listener.on_lost(text)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def ask(self, command: bytes | None, phase: Phase, seconds: float) -> Reply:
        """Write `command`, if any, and wait for one reply, at most `seconds`. Raises `SessionError`."""
        return (await self.ask_lines(command, phase, seconds))[0]

    async def ask_lines(self, command: bytes | None, phase: Phase, seconds: float) -> tuple[Reply, list[bytes]]:
        """As `ask`, with the reply's lines as they were read."""
        if command is not None:
            self.write([command])
        try:
            async with asyncio.timeout(seconds):
                while not self._replies and self.lost is None:
                    self._waiter = asyncio.get_running_loop().create_future()
                    await self._waiter
        except TimeoutError:
            raise SessionError(phase, f"no reply within {seconds:g} s") from None
        if not self._replies:
            raise SessionError(phase, self.lost or "the connection was closed")
        lines = self._replies.popleft()[1]
        return parse_reply(lines), lines

    async def start_tls(self, context: ssl.SSLContext, host: str, seconds: float) -> None:
        """Encrypt from here on; raises `SessionError` for a bad certificate, and for words said before the handshake.

        Whoever stands in the line could put replies there, to be read as if they came encrypted (CVE-2011-0411).
        """
        if self._replies or self._reader.mid_reply:
            raise SessionError(Phase.TLS, "the relay went on talking in clear after agreeing to STARTTLS")
        if self._transport is None or self.lost is not None:
            raise SessionError(Phase.TLS, self.lost or "the connection was closed")
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport, self, context, server_hostname=host, ssl_handshake_timeout=seconds
            )
        except (OSError, asyncio.IncompleteReadError) as error:
            raise SessionError(Phase.TLS, f"TLS failed: {error}") from error
        if transport is None:
            raise SessionError(Phase.TLS, "TLS failed: the connection was closed")
        self._attach(transport)

    async def say_goodbye(self, seconds: float) -> None:
        """QUIT, wait for its reply at most `seconds`, and close."""
        self._listener = None
        with contextlib.suppress(SessionError):
            await self.ask(b"QUIT\r\n", Phase.EHLO, seconds)
        self.abort("the session is over")

    def listen(self, listener: Listener) -> None:
        """Send all further events to `listener`, its end among them where it has come already.

        Unasked replies that wait already are out of step and break it off.
        """
        self._listener = listener
        if self.lost is not None:
            listener.on_lost(self.lost)
        elif self._replies or self._reader.mid_reply:
            self.abort("the relay sent more replies than it was asked for")

    def is_stale(self) -> bool:
        """Whether something is there to be read on a session that waits for nothing: its end, or a goodbye.

        The loop may not have run since it came, so the socket itself is asked.
        """
        raw = self._transport.get_extra_info("socket") if self._transport is not None else None
        if self.lost is not None or raw is None or raw.fileno() < 0:
            return True
        poll = select.poll()
        poll.register(raw.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return bool(poll.poll(0))
