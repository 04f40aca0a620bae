"""Reads a mailbox on IMAP for mails to unsubscribe: takes the token of each, and deletes the mail.

A mail is deleted only after `take` has returned for each of its tokens, so whoever dies in between takes it once more,
which changes nothing. One that names no token is left alone, unread as it was; that it was looked at is remembered by
its UID, in memory: a keyword would mark a mail that is none of ours, and to look again after a restart costs little.
One whose token is not valid is deleted like any other: it holds a reader's address, and nobody else would ever take it.
One whose token names a key that is not in the keyring stays, and is tried again; it may be forged, so it keeps no other
mail waiting.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from service import log
from service.domain.errors import ConfigurationError, TydzenError, UnavailableError
from service.domain.tokens import LinkKeyMissingError
from service.mail.addressees import tokens
from service.mail.imap_account import ImapAccount
from service.mail.imap_session import Folder, ImapSession, LoginRefusedError, MailboxAwayError
from service.mail.imap_wire import Halt, HaltedError, Limits

_LATEST = 500  # mails among which one who only wants to know looks
_AT_ONCE = 25  # mails whose headers are fetched, and that are removed, together

_log = log.get("inbound")


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds to wait.

    `idle` is how long an IDLE lasts at the most, the first after something came, the second, and so on. The first are
    short because a mail that comes while one begins is told of by no server that misses it then (Dovecot's do, now and
    then); the last is, to see a server again whose IDLE tells nothing, less than the 29 minutes of RFC 2177, section 3.
    `look` is how often a server is asked that has no IDLE. `away` and `refused` are the waits after one failure of the
    mailbox or the database after the other, and after refused logins. `key` is how long a mail waits at the least whose
    key is missing, until its headers are fetched again.
    """

    idle: Sequence[float] = (1, 5, 60)
    look: float = 60
    away: Sequence[float] = (1, 2, 5, 10, 30, 60)
    refused: Sequence[float] = (60, 120, 300, 600)
    key: float = 60


@dataclass(slots=True)
class _Bookmark:
    """What has been read of a folder: all below `next`, but for `unsettled` and, until `keys_due`, for `keyless`.

    `deleted` could not be expunged yet. `keys_due` is in seconds of the monotonic clock.
    """

    validity: int = -1
    next: int = 1
    unsettled: set[int] = field(default_factory=set)
    keyless: set[int] = field(default_factory=set)
    keys_due: float = 0
    deleted: set[int] = field(default_factory=set)


class _Trouble:
    """Something that fails: said in the log when it begins and when it is another, and when it is over."""

    def __init__(self, begins: str, ends: str, waits: Sequence[float]) -> None:
        self._begins, self._ends, self._waits = begins, ends, waits
        self._failures = 0
        self._said = ""

    def seconds(self, error: TydzenError) -> float:
        """Note one more failure; how long to wait."""
        seconds = self._waits[min(self._failures, len(self._waits) - 1)]
        self._failures += 1
        if self._said != str(error):
            self._said = str(error)
            _log.warning(self._begins, kind=type(error).__name__, why=self._said, again_after=seconds)
        return seconds

    def over(self) -> None:
        """It went well."""
        if self._said:
            _log.info(self._ends)
        self._failures, self._said = 0, ""


def lying(session: ImapSession, account: ImapAccount, before: float) -> int:
    """How many mails name a token and have lain there since `before` (seconds from 1970); of the latest `_LATEST`."""
    latest = session.uids(session.look(), 1)[-_LATEST:]
    found = 0
    for start in range(0, len(latest), _AT_ONCE):
        old = session.came_before(latest[start : start + _AT_ONCE], before)
        found += sum(bool(tokens(header, account.leave)) for header in session.headers(old).values()) if old else 0
    return found


class ImapReader:
    """`take` uses a token and says whether it was one of ours; what it raises leaves the mail there, for later."""

    def __init__(
        self,
        account: ImapAccount,
        take: Callable[[str], bool],
        halt: Halt,
        times: Times = Times(),
        limits: Limits = Limits(),  # noqa: B008  # frozen
    ) -> None:
        self._account = account
        self._take = take
        self._halt = halt
        self._times = times
        self._limits = limits
        self._mark = _Bookmark()
        self._was_in = False
        self._away = _Trouble("mailbox-away", "mailbox-back", times.away)
        self._refused = _Trouble("mailbox-refuses", "mailbox-lets-in", times.refused)
        self._untaken = _Trouble("tokens-not-taken", "tokens-taken-again", times.away)
        self._keyless = _Trouble("keys-missing", "keys-found", (times.key,))

    def run(self) -> None:
        """Read until the halt. Whatever becomes of the server, it is tried again.

        Raises ConfigurationError where the setting proves wrong before the mailbox was ever opened.
        """
        while not self._halt.is_set:
            try:
                with closing(ImapSession(self._account, self._halt, self._limits)) as session:
                    self._was_in = True
                    self._attend(session)
            except HaltedError:
                return
            except (ConfigurationError, MailboxAwayError) as error:
                if isinstance(error, ConfigurationError) and not self._was_in:
                    raise
                trouble = self._refused if isinstance(error, LoginRefusedError) else self._away
                self._halt.wait(trouble.seconds(error))

    def _attend(self, session: ImapSession) -> None:
        quiet = 0
        while True:
            again = self._pass(session)
            self._away.over()
            self._refused.over()
            if again:
                quiet = 0
            else:
                session.wait(self._times.idle[min(quiet, len(self._times.idle) - 1)], self._times.look)
                quiet += 1

    def _pass(self, session: ImapSession) -> bool:
        """Read what there is; whether there may be more by now."""
        folder = session.look()
        if folder.validity != self._mark.validity:
            self._mark = _Bookmark(folder.validity)
        mark = self._mark
        fresh = session.uids(folder, mark.next)
        mark.next = max(fresh, default=mark.next - 1) + 1
        mark.unsettled.update(fresh)
        if mark.keyless and time.monotonic() >= mark.keys_due:
            mark.unsettled.update(mark.keyless)
            mark.keyless.clear()
        waiting, removed, failure = sorted(mark.unsettled), False, None
        for start in range(0, len(waiting), _AT_ONCE):
            part = waiting[start : start + _AT_ONCE]
            used, failed = self._use(part, session.headers(part))
            if used:
                self._remove(session, folder, used)
                removed = True
            failure = failed or failure
            if isinstance(failed, UnavailableError):
                break
        if failure is not None:
            self._halt.wait(self._untaken.seconds(failure))
            return True
        self._untaken.over()
        if not mark.keyless:
            self._keyless.over()
        if mark.deleted and not removed:
            self._remove(session, folder, [])
        return removed or session.news()

    def _use(self, uids: Sequence[int], headers: Mapping[int, bytes]) -> tuple[list[int], TydzenError | None]:
        """The mails whose tokens were taken, and why others were not; a mail without a token is settled."""
        used: list[int] = []
        unknown, failure = 0, None
        for uid in uids:
            if self._halt.is_set:
                raise HaltedError
            named = tokens(headers.get(uid, b""), self._account.leave)
            if not named:
                self._mark.unsettled.discard(uid)
                continue
            try:
                ours = self._take_all(named)
            except LinkKeyMissingError as error:
                self._set_aside(uid, error)
                continue
            except TydzenError as error:
                failure = error
                if isinstance(error, UnavailableError):
                    break  # the others would wait for the same
                continue
            used.append(uid)
            unknown += not any(ours)
        if used:
            _log.info("mails-taken", mails=len(used), unknown=unknown)
        return used, failure

    def _take_all(self, named: Sequence[str]) -> list[bool]:
        """What was said of each token. One whose key is missing keeps none beside it waiting."""
        ours: list[bool] = []
        missing: LinkKeyMissingError | None = None
        for token in named:
            try:
                ours.append(self._take(token))
            except LinkKeyMissingError as error:
                missing = error
        if missing is not None:
            raise missing
        return ours

    def _set_aside(self, uid: int, error: LinkKeyMissingError) -> None:
        mark, wait = self._mark, self._keyless.seconds(error)
        if not mark.keyless:
            mark.keys_due = time.monotonic() + wait
        mark.unsettled.discard(uid)
        mark.keyless.add(uid)

    def _remove(self, session: ImapSession, folder: Folder, used: Sequence[int]) -> None:
        mark = self._mark
        if session.remove(used, folder, mark.deleted):
            mark.deleted.clear()
        else:
            if not mark.deleted:
                _log.warning("mails-not-expunged", why="the server has no UIDPLUS, and others have deleted mails there")
            mark.deleted.update(used)
        mark.unsettled.difference_update(used)
