"""The octets under an IMAP session: every wait has an end, every answer a bound, and a halt ends all of them at once.

IMAPClient stands on the standard library's imaplib, which waits in blocking reads and takes literals of any size; what
imaplib lets others override (opening, reading, sending, ending) is here.
"""

from __future__ import annotations

import contextlib
import imaplib
import logging
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import imapclient

from service.mail.imap_account import ImapAccount
from service.mail.tls import Tls

_LONGEST = 1024 * 1024  # octets of one line or literal
_MOST = 4 * _LONGEST  # octets of all answers to one command
# A peer that has died without a word is missed within two minutes, in an IDLE too.
_KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}  # seconds, seconds, times

# Both log what they say and hear: users, addresses and passwords among it.
logging.getLogger("imapclient").setLevel(logging.CRITICAL + 1)


class HaltedError(Exception):
    """It was time to end."""


class Halt:
    """Says to all who wait that it is time to end; may be set in a signal handler, and from any thread."""

    def __init__(self) -> None:
        self._said = threading.Event()
        self._reader, self._writer = socket.socketpair()

    def set(self) -> None:
        """End all waits, those to come too."""
        self._said.set()
        with contextlib.suppress(OSError):
            self._writer.send(b".", socket.MSG_DONTWAIT)

    @property
    def is_set(self) -> bool:
        """Whether it is time to end."""
        return self._said.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait so long, or until it is set; whether it is."""
        return self._said.wait(seconds)

    def fileno(self) -> int:
        """A descriptor that can be read from once it is set."""
        return self._reader.fileno()

    def close(self) -> None:
        """Give the descriptors back."""
        self._reader.close()
        self._writer.close()


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds that a connection, and the whole answer to one command, may take."""

    connect: float = 20
    answer: float = 60


class ImapWire(imaplib.IMAP4):
    """One connection, as imaplib uses it."""

    # imaplib would write all that is said into a log, for IMAPClient sets this to 5.
    debug = property(lambda _: 0, lambda _, __: None)

    def __init__(self, account: ImapAccount, context: ssl.SSLContext | None, halt: Halt, limits: Limits) -> None:
        self._implicit = context if account.tls is Tls.IMPLICIT else None
        self._halt = halt
        self._limits = limits
        self._octets = bytearray()
        self._begin_answer()
        super().__init__(account.host, account.port)

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """Connect, with implicit TLS where that was asked for."""
        self.host, self.port = host, port
        self.sock = socket.create_connection((host, port), timeout or self._limits.connect)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                self.sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
        if self._implicit is not None:
            self._protect(self._implicit)
        self._begin_answer()

    def starttls(self, ssl_context: Any = None) -> tuple[Any, list[Any]]:
        """As imaplib's, but whatever was put in before the handshake ends the session (RFC 2595, 2.1)."""
        kind, said = self._simple_command("STARTTLS")
        if kind == "OK":
            if self._octets:
                raise self.abort("octets before the handshake")
            self._protect(ssl_context)
            self._get_capabilities()
        return kind, said

    def _protect(self, context: ssl.SSLContext) -> None:
        self.sock.settimeout(self._limits.connect)
        try:
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host)
        except OSError:
            self.sock.close()
            raise

    def send(self, data: Any) -> None:
        """Say it; the answer's time begins."""
        self.sock.settimeout(self._limits.answer)
        self.sock.sendall(data)
        self._begin_answer()

    def readline(self) -> bytes:
        """One line with its end; nothing at the end of the connection."""
        start = 0
        while (end := self._octets.find(b"\n", start)) < 0:
            start = len(self._octets)
            if start > _LONGEST:
                raise self.abort("a line without end")
            if not self._more():
                return b""
        return self._taken(end + 1)

    def read(self, size: int) -> bytes:
        """So many octets; fewer at the end of the connection."""
        if size > _LONGEST:
            raise self.abort("a literal larger than anything that was asked for")
        while len(self._octets) < size and self._more():
            pass
        return self._taken(size)

    def shutdown(self) -> None:
        """End the connection without a word."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def news(self) -> bool:
        """Whether the server has told of mails since the folder was opened, unasked."""
        return len(self.untagged_responses.get("EXISTS", ())) > 1

    def rest(self, seconds: float) -> None:
        """Ask nothing for so long, or until the server says anything."""
        if not self.news() and not self._octets:
            self._readable(seconds)

    def idle_for(self, seconds: float) -> None:
        """Have the server tell of mails (RFC 2177), until it says anything, or for so long."""
        tag = self._command("IDLE")
        while self._get_response() is not None:
            if self.tagged_commands[tag]:
                raise self.error("IDLE was refused")
        self.rest(seconds)
        self.send(b"DONE\r\n")
        kind, _ = self._command_complete("IDLE", tag)
        if kind != "OK":
            raise self.error("IDLE was refused")

    def _begin_answer(self) -> None:
        self._deadline = time.monotonic() + self._limits.answer
        self._budget = _MOST

    def _taken(self, size: int) -> bytes:
        taken = bytes(self._octets[:size])
        del self._octets[:size]
        return taken

    def _more(self) -> bool:
        """Wait for octets, and keep them; False at the end of the connection."""
        while True:
            left = self._deadline - time.monotonic()
            # Octets that keep coming are no answer, either.
            if left < 0 or not self._readable(left):
                raise TimeoutError(f"no whole answer within {self._limits.answer:g} s")
            self.sock.settimeout(0)
            try:
                octets = self.sock.recv(65536)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue  # part of a TLS record, or one that is none of ours to read
            self._budget -= len(octets)
            if self._budget < 0:
                raise self.abort("more than anything that was asked for")
            self._octets += octets
            return bool(octets)

    def _readable(self, seconds: float) -> bool:
        waiting = select.poll()
        waiting.register(self.sock, select.POLLIN)
        waiting.register(self._halt, select.POLLIN)
        ready = {descriptor for descriptor, _ in waiting.poll(max(seconds, 0) * 1000)}
        if self._halt.fileno() in ready:
            raise HaltedError
        return bool(ready)


class Client(imapclient.IMAPClient):  # type: ignore[misc]
    """IMAPClient on such a wire."""

    def __init__(self, account: ImapAccount, context: ssl.SSLContext | None, halt: Halt, limits: Limits) -> None:
        self._make: Callable[[], ImapWire] = lambda: ImapWire(account, context, halt, limits)
        super().__init__(account.host, account.port, ssl=account.tls is Tls.IMPLICIT)

    def _create_IMAP4(self) -> ImapWire:  # noqa: N802  # IMAPClient's name
        return self._make()

    @property
    def wire(self) -> ImapWire:
        """What is below it."""
        wire: ImapWire = self._imap
        return wire
