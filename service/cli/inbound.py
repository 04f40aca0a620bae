"""`tydzen inbound`: take the mails to unsubscribe that the relay hands over."""

from __future__ import annotations

import asyncio
import logging
import signal

import typer

from service.cli.output import say


def register(app: typer.Typer) -> None:
    """Hang the command into the tree."""
    app.command("inbound")(inbound)


def inbound() -> None:
    """Take mails to unsubscribe over LMTP, where TYDZEN_INBOUND_URL says; only the token in their address is read."""
    from service.audience.unsubscribe import unsubscribe
    from service.bootstrap import services
    from service.embedded import lmtp

    parts = services()
    mailbox = parts.mailbox()
    # Wrong keys or an old schema are said here, before the port is opened.
    parts.database.close()
    # aiosmtpd logs every command with its addresses: nothing of that leaves this process.
    logging.getLogger("mail").setLevel(logging.CRITICAL + 1)

    def take(token: str) -> None:
        with parts.database.begin() as session:
            now = parts.now()
            unsubscribe(session, parts.bell, parts.unsubscribe_links, parts.departures, token, now=now)

    async def run() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await lmtp.serve(mailbox, take, until=stop)

    say(f"mails to unsubscribe are taken on {mailbox.host}:{mailbox.port}; Ctrl-C ends it")
    try:
        asyncio.run(run())
    except OSError as error:
        say(f"cannot listen on {mailbox.host}:{mailbox.port} ({error.strerror}); see TYDZEN_INBOUND_URL")
        raise typer.Exit(1) from None
