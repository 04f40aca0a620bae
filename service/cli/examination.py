"""What `tydzen doctor` looks at, one function a part; none changes anything."""

from __future__ import annotations

import shutil
import socket
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.audience import departures
from service.cli import engine_examination
from service.domain.errors import CheckFailedError, InvalidInputError, TydzenError
from service.embedded.programs import reachable
from service.mail.address import envelope_address
from service.mail.imap_account import ImapAccount
from service.mail.imap_reader import lying
from service.mail.imap_session import ImapSession
from service.mail.imap_wire import Halt
from service.mail.tls import Tls
from service.store import publication, schema

if TYPE_CHECKING:
    from service.bootstrap import Services

_FREE_OCTETS = 500 * 1024 * 1024
_CLOCK_SECONDS = 2.0
_LYING_SECONDS = 15 * 60  # longer than `tydzen inbound` waits after anything that failed


@dataclass(frozen=True, slots=True)
class Finding:
    """One part, whether it is well, and in words what was found or how to mend it."""

    what: str
    ok: bool
    words: str

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {"what": self.what, "ok": self.ok, "found": self.words}


def examine(parts: Services) -> Iterator[Finding]:
    """Every finding, in the order in which a mend makes sense."""
    checks: dict[str, Callable[[Services], str]] = {
        "settings": _settings,
        "data directory": _data_directory,
        "keyring": _keyring,
        "database": _database,
        "clock": _clock,
        "redis": _redis,
        "relay": _relay,
        "sender": _sender,
        "dkim": _dkim,
        "inbound": _inbound,
        "workers": engine_examination.workers,
        "progress": engine_examination.progress,
        "queues": engine_examination.queues,
        "leases": engine_examination.leases,
        "journals": engine_examination.journals,
        "departures": _departures,
        "counts": engine_examination.counts,
        "uncertain": engine_examination.uncertain,
        "left alone": engine_examination.left_alone,
    }
    for what, check in checks.items():
        try:
            yield Finding(what, True, check(parts))
        except TydzenError as error:
            yield Finding(what, False, str(error))
        except Exception as error:  # noqa: BLE001  # what one check meets must not hide what the others found
            yield Finding(what, False, _unforeseen(error))


def _unforeseen(error: Exception) -> str:
    """The kind of the error and where it was met; not its words, which may repeat an address or a password."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"{type(error).__name__}, which this check did not foresee ({Path(place.filename).name}:{place.lineno}); "
        "the commands that use this part say more"
    )


def _settings(parts: Services) -> str:
    unknown = parts.settings.unknown()
    if unknown:
        raise CheckFailedError(f"{', '.join(unknown)}: no such setting; see how it is spelt with: tydzen config show")
    return "every TYDZEN_ variable is known"


def _data_directory(parts: Services) -> str:
    folder = parts.settings.data_dir
    if not folder.is_dir():
        raise CheckFailedError(f"{folder} does not exist; make it with: tydzen db upgrade")
    if folder.stat().st_mode & 0o007:
        raise CheckFailedError(f"everybody on this machine may read {folder}; run: chmod 700 {folder}")
    free = shutil.disk_usage(folder).free
    if free < _FREE_OCTETS:
        raise CheckFailedError(f"only {free // 2**20} MB are free on the disk of {folder}; make room")
    return f"{folder}, {free // 2**30} GB free"


def _keyring(parts: Services) -> str:
    path = parts.settings.keyring_path
    count = len(parts.keyring.secrets)
    if path.stat().st_mode & 0o077:
        raise CheckFailedError(f"others may read {path}; run: chmod 600 {path}")
    return f"{path}, {count} key{'s' if count > 1 else ''}; keep a copy off this machine"


def _database(parts: Services) -> str:
    with parts.database.read() as session:
        if not schema.may_plan(session):
            url = parts.database.engine.url
            raise CheckFailedError(
                "its user may make no temporary tables, and without them no issue is planned; as its owner, run: "
                f"GRANT TEMPORARY ON DATABASE {url.database} TO {url.username}"
            )
        cache = schema.cache(session)
    return "SQLite, schema current" if cache is None else f"PostgreSQL, schema current{_cramped(*cache)}"


def _cramped(memory: int, table: int) -> str:
    """What to say of too small a cache, in octets, for the readers' table; it costs nothing but time."""
    if table <= memory:
        return ""
    megabytes, readers = -(-memory // 2**20), -(-table // 2**20)
    return f"; its shared_buffers of {megabytes} MB do not hold the {readers} MB of the readers: larger is quicker"


def _clock(parts: Services) -> str:
    with parts.database.read() as session:
        skew = abs((session.now() - parts.clock.now()).total_seconds())
    if skew > _CLOCK_SECONDS:
        raise CheckFailedError(f"this machine's clock and the database's differ by {skew:.0f} s; set both by NTP")
    return "in step with the database's"


def _redis(parts: Services) -> str:
    parts.require_redis()
    return "answers"


def _relay(parts: Services) -> str:
    for relay in parts.relays:
        relay.tls_context()
        try:
            with socket.create_connection((relay.host, relay.port), timeout=5) as connection:
                connection.settimeout(5)
                greeting = connection.recv(3) if relay.tls is not Tls.IMPLICIT else b"220"
        except OSError as error:
            mend = "start it with: tydzen up" if parts.settings.smtp_url is None else "see TYDZEN_SMTP_URL"
            raise CheckFailedError(f"{relay.name} cannot be reached ({error.strerror or error}); {mend}") from None
        except UnicodeError:
            raise CheckFailedError(f"{relay.host} is no name of a host; see TYDZEN_SMTP_URL") from None
        if greeting != b"220":
            raise CheckFailedError(f"{relay.name} does not greet like a mail relay; see TYDZEN_SMTP_URL")
    return "greets" if len(parts.relays) == 1 else f"all {len(parts.relays)} greet"


def _sender(parts: Services) -> str:
    with parts.database.read() as session:
        found = publication.find(session)
    if found is None:
        return "there is no publication yet; import one: tydzen publication import DIR"
    try:
        domain = envelope_address(found.sender).rpartition("@")[2]
    except InvalidInputError as error:
        mend = "correct the sender in publication.toml, then: tydzen publication import DIR"
        raise CheckFailedError(f"nothing can be mailed from the publication's sender: {error}; {mend}") from None
    return f"mails come from {domain}; EHLO says {parts.settings.helo_name or domain}"


def _dkim(parts: Services) -> str:
    if not parts.dkim_keys:
        return "mails are not signed here; the relay may do it"
    for path in (entry.partition("=")[2].strip() for entry in (parts.settings.dkim or "").split(",")):
        if path and Path(path).stat().st_mode & 0o007:
            raise CheckFailedError(f"everybody on this machine may read {path}; run: chmod 640 {path}")
    signed = " and ".join(f"{key.algorithm} ({key.selector})" for key in parts.dkim_keys)
    return f"mails are signed with {signed}; publish what this prints: tydzen config dkim"


def _inbound(parts: Services) -> str:
    if parts.settings.inbound_url is None:
        return "mails have no address to unsubscribe by mail"
    mailbox = parts.mailbox()
    if not isinstance(mailbox, ImapAccount):
        _lmtp_greets(mailbox.host, mailbox.port)
        return f"mails to {mailbox.leave.text} unsubscribe; {mailbox.host}:{mailbox.port} takes them"
    with closing(Halt()) as halt, closing(ImapSession(mailbox, halt)) as session:
        waiting = lying(session, mailbox, parts.clock.now().timestamp() - _LYING_SECONDS)
    if waiting:
        raise CheckFailedError(
            f"mails to unsubscribe ({waiting}) have lain in the {mailbox.name} for more than "
            f"{_LYING_SECONDS // 60} min; start tydzen inbound, or see in its log why they wait"
        )
    return (
        f"mails to {mailbox.leave.text} unsubscribe as long as tydzen inbound runs; the {mailbox.name} lets us in, and "
        "none has lain there for long"
    )


def _lmtp_greets(host: str, port: int) -> None:
    """Raise CheckFailedError unless `tydzen inbound` listens there (RFC 2033, 4.1)."""
    try:
        with socket.create_connection((reachable(host), port), timeout=5) as connection:
            connection.settimeout(5)
            greets, why = connection.recv(3) == b"220", "no greeting"
    except OSError as error:
        greets, why = False, error.strerror or str(error)
    except UnicodeError:
        raise CheckFailedError(f"{host} is no name of a host; see TYDZEN_INBOUND_URL") from None
    if not greets:
        raise CheckFailedError(
            f"nobody takes mails to unsubscribe at {host}:{port} ({why}); start tydzen inbound there. Where another "
            "host or container takes them, this can be left so: ask the doctor there"
        )


def _departures(parts: Services) -> str:
    with parts.database.read() as session:
        found = departures.astray(session, parts.departures)
    if not found:
        return "nobody is mailed of whom this host's log says that they have left"
    return (
        f"{found} are mailed though this host's log says that they have left. After a restored backup run: tydzen "
        "subscriber reapply --log FILE, with the departures.log of every other host; else they came back by another"
    )
