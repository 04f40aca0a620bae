"""The local inbox: an SMTP listener that files each mail into a Maildir, for trying things out without a relay.

Runs as a process of its own: `python -m service.embedded.inbox HOST PORT FOLDER`. It relays nothing to anyone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

MAIL_OCTETS = 32 * 1024 * 1024
_LINE_OCTETS = 998


class Maildir:
    """A folder with one file a mail: written under `tmp`, then moved to `new` in one step."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(1)
        for name in ("tmp", "new", "cur"):
            (folder / name).mkdir(parents=True, exist_ok=True, mode=0o700)

    def add(self, content: bytes) -> str:
        """File one mail as its octets are; returns its file's name, which sorts by the time of arrival."""
        name = f"{time.time_ns():020d}.{os.getpid()}_{next(self._numbers)}.tydzen"
        temporary = self._folder / "tmp" / name
        with temporary.open("xb") as file:
            file.write(content)
        temporary.rename(self._folder / "new" / name)
        return name


class Listener(SMTP):
    """aiosmtpd's server, with mail data read in blocks: reading it line by line is ten times slower."""

    # The stream's buffer holds what was sent in one go; the length of commands is checked by aiosmtpd apart from it.
    line_length_limit = MAIL_OCTETS

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802  # aiosmtpd's name
        """Take one mail and file it."""
        if await self.check_helo_needed():
            return
        assert self.envelope is not None
        if not self.envelope.rcpt_tos:
            await self.push("503 Error: need RCPT command")
        elif arg:
            await self.push("501 Syntax: DATA")
        else:
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            self.envelope.content = await self._content()
            status = await self._call_handler_hook("DATA")
            self._set_post_data_state()  # type: ignore[no-untyped-call]
            await self.push(status)

    async def _content(self) -> bytes | None:
        """The octets before the final dot, without the stuffed dots; None for a mail that is too long."""
        content = bytearray()
        too_long = False
        while content != b".\r\n" and not content.endswith(b"\r\n.\r\n"):
            content += await self._reader.readuntil(b".\r\n")
            if len(content) > MAIL_OCTETS:
                too_long = True
                # The end is still looked for: the reply comes after the dot.
                del content[:-5]
        if too_long:
            return None
        del content[-3:]
        stuffed = b"\r\n" + content
        return stuffed.replace(b"\r\n.", b"\r\n")[2:]


class Filing:
    """What aiosmtpd asks on the way: the greeting's extensions, and where the mail goes."""

    def __init__(self, maildir: Maildir) -> None:
        self._maildir = maildir

    async def handle_EHLO(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer PIPELINING too: commands are read from a stream, one by one, however they come."""
        session.host_name = hostname
        return [responses[0], "250-PIPELINING", *responses[1:]]

    async def handle_DATA(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """File the mail with its envelope on top, as a delivery agent does (RFC 5321, 4.4)."""
        content = envelope.content
        if content is None:
            return "552 5.3.4 Too much mail data"
        assert isinstance(content, bytes)
        if max(map(len, content.split(b"\r\n"))) > _LINE_OCTETS:
            return "500 5.6.0 A line is longer than 998 octets (RFC 5321, 4.5.3.1.6)"
        recipients = b"".join(b"Delivered-To: %s\r\n" % _octets(address) for address in envelope.rcpt_tos)
        # aiosmtpd gives the null sender with its brackets, every other one without.
        sender = _octets((envelope.mail_from or "").strip("<>"))
        name = self._maildir.add(b"Return-Path: <%s>\r\n%s" % (sender, recipients) + content)
        return f"250 2.0.0 filed as {name}"


def _octets(address: str) -> bytes:
    return address.encode("utf-8", "surrogateescape")


async def serve(host: str, port: int, folder: Path) -> None:
    """Listen until SIGTERM or SIGINT; raises OSError where the port cannot be had."""
    loop = asyncio.get_running_loop()
    filing = Filing(Maildir(folder))

    def listener() -> Any:
        return Listener(filing, data_size_limit=MAIL_OCTETS, enable_SMTPUTF8=True, hostname="localhost", loop=loop)

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(listener, host, port, backlog=200)
    try:
        await stop.wait()
    finally:
        server.close()


def main(arguments: list[str]) -> int:
    """Run one inbox; exit code 1 where the port is taken."""
    # aiosmtpd logs every command with its addresses: nothing of that leaves this process.
    logging.getLogger("mail").setLevel(logging.CRITICAL + 1)
    host, port, folder = arguments
    with contextlib.suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    try:
        asyncio.run(serve(host, int(port), Path(folder)))
    except OSError as error:
        sys.stderr.write(
            f"the local inbox cannot listen on {host}:{port} ({error.strerror}); "
            "free the port or set TYDZEN_INBOX_PORT to another\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
