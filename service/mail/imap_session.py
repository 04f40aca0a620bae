"""One session with the mailbox of an IMAP account (RFC 3501): what the reader of it asks, in its own words.

Nothing that the server says is repeated in an error: it may quote the user, or an address.
"""

from __future__ import annotations

import ssl
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from imapclient import IMAPClient
from imapclient.exceptions import CapabilityError, LoginError

from service.domain.errors import ConfigurationError, UnavailableError
from service.mail.addressees import FIELDS
from service.mail.imap_account import ImapAccount
from service.mail.imap_wire import Client, Halt, Limits
from service.mail.tls import Tls, verifying_context

HEADER_OCTETS = 64 * 1024  # of one mail's fields; what a mail server writes stands on top
_FIRST_STRETCH, _STRETCH = 100, 1000  # mails whose numbers are asked for at once
_DELETED = rb"\Deleted"
_FETCHED = f"BODY.PEEK[HEADER.FIELDS ({' '.join(FIELDS)})]<0.{HEADER_OCTETS}>"


class MailboxAwayError(UnavailableError):
    """The mailbox cannot be had for now: no connection, or no answer, or not the one that was due."""


class LoginRefusedError(MailboxAwayError):
    """The server does not let us in. Accounts get locked by asking again and again."""


@dataclass(frozen=True, slots=True)
class Folder:
    """As it was opened: `validity` is another number once its UIDs mean other mails (RFC 3501, 2.3.1.1)."""

    validity: int
    mails: int


class ImapSession:
    """Logged in. It looks at the folder without the right to change it, and takes that right to remove mails only.

    Every method raises MailboxAwayError, after which the session is good for nothing but `close`, and HaltedError once
    `halt` is set. To begin one raises ConfigurationError for what no waiting will mend, too: a certificate that does
    not verify, a server without STARTTLS, a folder that is not there.
    """

    def __init__(self, account: ImapAccount, halt: Halt, limits: Limits = Limits()) -> None:  # noqa: B008  # frozen
        self._account = account
        context = None if account.tls is Tls.NONE else verifying_context(account.name, account.ca_file)
        with self._translated():
            self._client = Client(account, context, halt, limits)
        try:
            with self._translated():
                self._log_in(context)
                self._idles = self._client.has_capability("IDLE")
                self._expunges_by_uid = self._client.has_capability("UIDPLUS")
                self._open_first()
        except BaseException:
            self.close()
            raise

    def _log_in(self, context: ssl.SSLContext | None) -> None:
        client, account = self._client, self._account
        if account.tls is Tls.STARTTLS:
            try:
                client.starttls(context)
            except CapabilityError:
                raise self._wrong("does not offer STARTTLS: set tls=implicit, or another port") from None
        user, password = account.username, account.password
        try:
            if client.has_capability("AUTH=PLAIN"):
                client.sasl_login("PLAIN", lambda _: b"\0" + user.encode() + b"\0" + password.encode())
            elif client.has_capability("LOGINDISABLED"):
                raise self._wrong("lets nobody log in with a password")
            elif not (user + password).isascii():
                raise self._wrong("takes only ASCII for user and password")
            else:
                escaped = user.replace("\\", "\\\\").replace('"', '\\"')
                client.login(f'"{escaped}"', password)
        except LoginError as error:
            if isinstance(error.__context__, IMAPClient.AbortError):
                raise error.__context__ from None
            # RFC 5530: the server's own trouble, which no other password would mend.
            if "[UNAVAILABLE]" in str(error).upper():
                raise self._away("cannot look at passwords at present") from None
            raise LoginRefusedError(f"the {account.name} refuses the login") from None

    def _open_first(self) -> None:
        try:
            self._open(to_remove=False)
        except IMAPClient.AbortError:
            raise
        except IMAPClient.Error:
            raise self._wrong("does not open that folder: see how the server writes its name") from None

    def _open(self, *, to_remove: bool) -> Folder:
        found = self._client.select_folder(self._account.folder, readonly=not to_remove)
        return Folder(int(found.get(b"UIDVALIDITY", 0)), int(found.get(b"EXISTS", 0)))

    def look(self) -> Folder:
        """The folder as it is now."""
        with self._translated():
            return self._open(to_remove=False)

    def uids(self, folder: Folder, since: int) -> list[int]:
        """The UIDs of its mails from `since` on, rising: those are the later ones (RFC 3501, 2.3.1.1)."""
        found: set[int] = set()
        last, stretch = folder.mails, _FIRST_STRETCH
        while last > 0:
            first = max(1, last - stretch + 1)
            with self._translated():
                # From the end: who expunges a mail meanwhile moves only those that were seen. In stretches, for the
                # numbers of a large folder would make a line that is too long.
                part = self._client.search([f"{first}:{last}"])
            found.update(uid for uid in part if uid >= since)
            if min(part, default=since) < since:
                break
            last, stretch = first - 1, _STRETCH
        return sorted(found)

    def headers(self, uids: Sequence[int]) -> Mapping[int, bytes]:
        """The fields of those mails that name an addressee, cut off at HEADER_OCTETS. No mail counts as read by it.

        Mails that are gone have none.
        """
        with self._translated():
            found = self._client.fetch(uids, [_FETCHED])
        return {uid: _octets(said) for uid, said in found.items()}

    def came_before(self, uids: Sequence[int], instant: float) -> list[int]:
        """Those of the mails that came before then (seconds from 1970) and that nobody has deleted."""
        with self._translated():
            found = self._client.fetch(uids, ["INTERNALDATE", "FLAGS"])
            return [
                uid
                for uid, said in found.items()
                if _DELETED not in said[b"FLAGS"] and said[b"INTERNALDATE"].timestamp() < instant
            ]

    def remove(self, uids: Collection[int], folder: Folder, marked: Collection[int] = ()) -> bool:
        """Delete those mails, and expunge them, and nobody else's; `marked` were deleted before, and are there still.

        False where they are deleted but must stay, because the server can expunge only all that is deleted (it has no
        UIDPLUS, RFC 4315), and there are mails that others have deleted. Afterwards the folder is as after `look`.
        """
        with self._translated():
            if self._open(to_remove=True).validity != folder.validity:
                raise self._away("has made its folder anew")
            ours = {*uids, *marked}
            self._client.add_flags(sorted(uids), [_DELETED], silent=True)
            if self._expunges_by_uid:
                self._client.uid_expunge(sorted(ours))
                gone = True
            else:
                gone = ours.issuperset(self._client.search(["DELETED"]))
                if gone:
                    self._client.expunge()
            self._open(to_remove=False)
        return gone

    def wait(self, seconds: float, between_looks: float) -> None:
        """Until the server tells of mails, or for so long; where it has no IDLE, for the time `between_looks`."""
        with self._translated():
            if self._idles:
                self._client.wire.idle_for(seconds)
            else:
                self._client.wire.rest(between_looks)

    def news(self) -> bool:
        """Whether the server has told of mails since the last look."""
        return self._client.wire.news()

    def close(self) -> None:
        """End the connection."""
        self._client.wire.shutdown()

    def _away(self, why: str) -> MailboxAwayError:
        return MailboxAwayError(f"the {self._account.name} {why}")

    def _wrong(self, why: str) -> ConfigurationError:
        return ConfigurationError(f"TYDZEN_INBOUND_URL: the {self._account.name} {why}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            raise self._wrong(
                f"shows a certificate that does not verify ({error.verify_message}): write its host as the certificate "
                "names it, or name its authority with ca=FILE"
            ) from None
        except OSError as error:
            raise self._away(f"cannot be reached ({error.strerror or error})") from None
        except IMAPClient.ReadOnlyError:
            raise self._away("may only be read: give its user the right to delete mails in that folder") from None
        except IMAPClient.AbortError:
            raise self._away("closed the connection, or says what cannot be understood") from None
        except IMAPClient.Error:
            raise self._away("refuses what was asked of it") from None
        except (ValueError, TypeError, LookupError, AttributeError):
            # The library's way to meet nonsense.
            raise self._away("says what cannot be understood") from None


def _octets(said: Mapping[bytes, object]) -> bytes:
    parts = [value for item, value in said.items() if item.startswith(b"BODY[") and isinstance(value, bytes)]
    return b"\r\n".join(parts)[:HEADER_OCTETS]
