"""Where mails to unsubscribe come in: an LMTP listener of ours, or a folder on somebody's IMAP server."""

from __future__ import annotations

from service.embedded.lmtp import Listener, read_listener
from service.mail.imap_account import SCHEMES, ImapAccount, read_account

Mailbox = Listener | ImapAccount


def read_mailbox(url: str) -> Mailbox:
    """The mailbox of TYDZEN_INBOUND_URL; raises ConfigurationError that says what is wrong, and no secret of it."""
    return read_account(url) if url.partition(":")[0].lower() in SCHEMES else read_listener(url)
