"""A folder of an IMAP account, as configured: `imaps://USER:PASSWORD@HOST:993/FOLDER?address=NAME@DOMAIN&ca=FILE`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from service.domain.errors import ConfigurationError
from service.mail.leave_address import FORMS, LeaveAddress, read_leave_address
from service.mail.tls import Tls, chosen_tls, is_loopback

SCHEMES = frozenset({"imap", "imaps"})
_OPTIONS = frozenset({"address", "ca", "tls"})
_PORTS = {Tls.NONE: 143, Tls.STARTTLS: 143, Tls.IMPLICIT: 993}
# Nothing in it may end a command.
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class ImapAccount:
    """Where mails to `leave` are filed. `ca_file` replaces the system's authorities."""

    host: str
    port: int
    tls: Tls
    username: str = field(repr=False)
    password: str = field(repr=False)
    folder: str
    leave: LeaveAddress
    ca_file: str | None = None

    @property
    def name(self) -> str:
        """The mailbox in logs and errors, without its secrets."""
        return f"mailbox {self.host}:{self.port}"


def read_account(url: str) -> ImapAccount:
    """The account of one URL; raises ConfigurationError without repeating its secrets.

    Without `tls=`, `imap://` speaks in clear to a loopback host, with implicit TLS to port 993, and with STARTTLS to
    any other; `imaps://` is implicit TLS.
    """
    # It ends what a URL says of a server; what stands behind it would be dropped, and the rest misread.
    if "#" in url:
        raise ConfigurationError(f"{FORMS} (a # in user, password, folder or options is written as %23)")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        pairs = parse_qsl(parts.query, strict_parsing=bool(parts.query))
    except ValueError:
        raise ConfigurationError(f"{FORMS} (the URL is not well formed)") from None
    options = dict(pairs)
    if parts.scheme not in SCHEMES or not host or "address" not in options or len(options) != len(pairs):
        raise ConfigurationError(FORMS)
    what = f"TYDZEN_INBOUND_URL: mailbox {host}"
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ConfigurationError(f"{what}: unknown option {unknown[0]!r}; known are {', '.join(sorted(_OPTIONS))}")
    tls = _tls(what, parts.scheme, host, port, options.get("tls"))
    username, password = unquote(parts.username or ""), unquote(parts.password or "")
    folder = unquote(parts.path.removeprefix("/")) or "INBOX"
    if not username or not password:
        raise ConfigurationError(f"{FORMS} (there is no user, or no password)")
    if any(map(_CONTROL.search, (username, password, folder))):
        raise ConfigurationError(f"{what}: user, password or folder have a control character")
    if tls is Tls.NONE and not is_loopback(host):
        raise ConfigurationError(f"{what}: a password is never sent in clear: set tls=starttls or implicit")
    leave = read_leave_address(options["address"])
    return ImapAccount(host, port or _PORTS[tls], tls, username, password, folder, leave, options.get("ca"))


def _tls(what: str, scheme: str, host: str, port: int | None, wanted: str | None) -> Tls:
    implied = Tls.IMPLICIT if scheme == "imaps" or port == _PORTS[Tls.IMPLICIT] else None
    tls = chosen_tls(what, host, wanted, implied=implied)
    if scheme == "imaps" and tls is not Tls.IMPLICIT:
        raise ConfigurationError(f"{what}: imaps:// means tls=implicit; for tls={tls.value} write imap://")
    return tls
