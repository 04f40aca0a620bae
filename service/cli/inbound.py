"""`tydzen inbound`: take the mails to unsubscribe that the relay hands over, or that lie in a mailbox."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from service.cli.output import say

if TYPE_CHECKING:
    from service.embedded.lmtp import Listener
    from service.mail.imap_account import ImapAccount

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LAST_SECONDS = 5.0  # for a transaction, or a look-up of a name, that was under way


def register(app: typer.Typer) -> None:
    """Hang the command into the tree."""
    app.command("inbound")(inbound)


def inbound() -> None:
    """Take mails to unsubscribe, over LMTP or from a folder on IMAP; only the token in their address is read.

    TYDZEN_INBOUND_URL says which.
    """
    from service.audience.unsubscribe import Outcome, unsubscribe
    from service.bootstrap import services
    from service.mail.imap_account import ImapAccount

    parts = services()
    mailbox = parts.mailbox()
    # Wrong keys or an old schema are said here, before anything is taken.
    parts.database.close()

    def take(token: str) -> bool:
        links = parts.unsubscribe_links
        # Whoever wrote the mail will not write again: it waits until the key is here.
        links.require_key(token)
        with parts.database.begin() as session:
            now = parts.now()
            outcome = unsubscribe(session, parts.bell, links, parts.departures, token, now=now)
        return outcome is Outcome.DONE

    if isinstance(mailbox, ImapAccount):
        _read(mailbox, take)
    else:
        _listen(mailbox, take)


def _listen(listener: Listener, take: Callable[[str], bool]) -> None:
    from service.embedded import lmtp

    # aiosmtpd logs every command with its addresses: nothing of that leaves this process.
    logging.getLogger("mail").setLevel(logging.CRITICAL + 1)

    async def run() -> None:
        stop = asyncio.Event()
        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await lmtp.serve(listener, take, until=stop)

    say(f"mails to unsubscribe are taken on {listener.host}:{listener.port}; Ctrl-C ends it")
    try:
        asyncio.run(run())
    except OSError as error:
        say(f"cannot listen on {listener.host}:{listener.port} ({error.strerror}); see TYDZEN_INBOUND_URL")
        raise typer.Exit(1) from None


def _read(account: ImapAccount, take: Callable[[str], bool]) -> None:
    from service.mail.imap_reader import ImapReader
    from service.mail.imap_wire import Halt

    failures: list[Exception] = []
    with closing(Halt()) as halt:

        def read() -> None:
            try:
                ImapReader(account, take, halt).run()
            except Exception as error:  # noqa: BLE001  # told below, where it ends the command
                failures.append(error)
            halt.set()

        for number in _SIGNALS:
            signal.signal(number, lambda *_: halt.set())
        say(f"mails to unsubscribe are taken from the {account.name}; Ctrl-C ends it")
        # Beside the signals: a name that is looked up, or a database that is waited for, holds up no halt.
        reader = threading.Thread(target=read, name="inbound", daemon=True)
        reader.start()
        halt.wait()
        reader.join(_LAST_SECONDS)
    if failures:
        raise failures[0]
