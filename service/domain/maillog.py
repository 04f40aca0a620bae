"""A Postfix mail log, read for the Message-IDs of letters of which we do not know whether the relay took them.

Postfix names a letter's Message-ID once, in a line of `cleanup`, and everything else by queue id. `cleanup` writes that
line while the letter still comes in, so it alone proves nothing: only a line that the queue manager or a delivery agent
wrote about the same queue id says that the letter was taken. Queue ids are used again; lines may be out of order.

Nothing of an address, and no server's words, leaves this module: facts are codes and classes. Behind one reader's
address there may be several on the relay (an alias); they are told apart by hashes that nothing outlives.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from service.domain.replies import Phase, Reply, ReplyClass, classify

# Facts about queue ids of which no Message-ID is known yet: lines out of order are near each other.
_RECENT = 30_000
# How long after its removal a line about a letter may still come.
_LATE = dt.timedelta(seconds=5)
# So long a relay may have nothing to log, as between a file's last line and the first of the next.
_SILENCE = dt.timedelta(minutes=5)
# Longer lines than any syslog writes are not worth reading to their end.
_LINE_LIMIT = 16_384

_MONTHS = {name: number for number, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_STAMP = rb"(?P<iso>\d{4}-\d\d-\d\dT\S{8,32})|(?P<month>[A-Z][a-z]{2}) +(?P<day>\d{1,2}) (?P<time>\d\d:\d\d:\d\d)"
_TRADITIONAL = re.compile(
    rb"(?:<\d{1,3}>)?(?:"
    + _STAMP
    + rb") (?P<host>\S+) (?P<tag>[^\s\[:]+)(?:\[\d+\])?: (?:\[ID \d+ \S+\] )?(?P<text>.*)"
)
# RFC 5424: version, time, host, program, process, message id, structured data, text with or without a BOM.
_RFC5424 = re.compile(
    rb"(?:<\d{1,3}>)?1 (?P<iso>\d{4}-\d\d-\d\dT\S{8,32}) (?P<host>\S+) (?P<tag>\S+) \S+ \S+ "
    rb'(?:-|(?:\[(?:[^\]"\\]|"(?:[^"\\]|\\.)*"|\\.)*\])+) (?:\xef\xbb\xbf)?(?P<text>.*)'
)
_QUEUED = re.compile(rb"([0-9A-Za-z]{5,30}): (.*)")
_MESSAGE_ID = re.compile(rb"message-id=<?([0-9A-Fa-f]{32})@")
# An address is quoted where it holds what ends one; the words of the other server come last, and may hold anything.
# What stands between relay and dsn grows with Postfix (3.11 tells of TLS there): the first dsn is its own word.
_ADDRESS = rb'<(?:"(?:[^"\\]|\\.)*"|[^">])*>'
_STATUS = re.compile(
    rb"to=(" + _ADDRESS + rb")(?:, orig_to=" + _ADDRESS + rb")?, relay=[^,]*(?:, (?!dsn=)[a-z][a-z0-9_]*=[^,]*)*, "
    rb"dsn=([245]\.\d{1,3}\.\d{1,3}), status=(sent|bounced|deferred|expired)\b(?: \((.*))?"
)
_RETURNED = re.compile(rb"from=" + _ADDRESS + rb", status=(?:force-)?expired\b")
_AT_END = re.compile(rb"milter-(reject|discard): END-OF-MESSAGE from \S+\[[^\]]*\]: ([245]\.\d{1,3}\.\d{1,3})?")
_BY_CONTENT = re.compile(rb"reject: (?:header|body|mime) .*: ([45]\.\d{1,3}\.\d{1,3})\b")
_SAID = re.compile(rb"said: ([2-5]\d\d)[ -]")


class Fate(enum.Enum):
    """What a log says of one letter."""

    TAKEN = "taken"  # it was in the relay's queue: accepted, whatever came later
    REFUSED = "refused"  # the relay read it to its end and said no
    BEGUN = "begun"  # it began to come in, and nothing says that it was taken
    UNKNOWN = "unknown"  # its Message-ID is not in the log


class _Kind(enum.IntEnum):
    """What a line says of a queue id; the order is that of events within one second."""

    BEGUN = 0
    REFUSED = 1
    TAKEN = 2
    DELIVERY = 3
    GIVEN_UP = 4
    REMOVED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of a letter, by the log.

    `status` is the last word on its delivery beyond the relay (`sent`, `bounced`, `deferred`, `expired`), of several
    addresses behind the reader's the best; `code` and `enhanced` belong to it or to the refusal, and `reply_class` says
    what they mean for the mailbox.
    """

    fate: Fate
    status: str | None = None
    code: int | None = None
    enhanced: str | None = None
    reply_class: ReplyClass | None = None
    at: dt.datetime | None = None


@dataclass(frozen=True, slots=True)
class Coverage:
    """What was read: `lines` of which `unreadable` had no time, and the `spans` of time of the files, joined."""

    lines: int
    unreadable: int
    spans: Sequence[Span]

    def covers(self, since: dt.datetime, until: dt.datetime) -> bool:
        """Whether what was logged from `since` to `until` has been read."""
        return any(first <= since and until <= last for first, last in self.spans)


@dataclass(frozen=True, slots=True)
class _Fact:
    at: dt.datetime
    kind: _Kind
    message: bytes | None = None
    recipient: bytes | None = None
    status: str | None = None
    code: int | None = None
    enhanced: str | None = None
    reply_class: ReplyClass | None = None


# From the first line of a file to its last.
Span = tuple[dt.datetime, dt.datetime]

_NOTHING = Finding(Fate.UNKNOWN)
# A relay and a queue id on it.
_Queue = tuple[bytes, bytes]


class MailLog:
    """Reads log lines, in any order, for some Message-IDs; memory does not grow with the length of the log.

    `wanted` are left sides of Message-IDs: 32 hexadecimal digits. `now` and `zone` give a year and a time zone to the
    stamps that have none; no zone is this machine's, by its rules for each date. Where lines about one letter are far
    apart and out of order (several files), a second reading of the same lines finds what the first could not know to
    keep; reading a line twice changes nothing.
    """

    def __init__(self, wanted: Collection[str], *, now: dt.datetime, zone: dt.tzinfo | None) -> None:
        self._wanted = {one.lower().encode("ascii") for one in wanted}
        self._now = now
        self._zone = zone
        self._salt = secrets.token_bytes(16)
        self._facts: dict[_Queue, set[_Fact]] = {}
        self._recent: OrderedDict[_Queue, list[_Fact]] = OrderedDict()
        self._lines = self._unreadable = 0
        self._span: Span | None = None
        self._spans: list[Span] = []
        # Stamps repeat within a second, and years need arithmetic: the last one is nearly always the present one.
        self._stamp: tuple[tuple[bytes | None, ...], dt.datetime | None] = ((), None)

    def read(self, lines: Iterable[bytes], *, again: bool = False) -> None:
        """Read the lines of one file, with or without their ends; `again` where they are known, and not counted."""
        counted = self._lines, self._unreadable
        for line in lines:
            self._line(line[:_LINE_LIMIT].rstrip(b"\r\n"))
        if again:
            self._lines, self._unreadable = counted
        elif self._span is not None:
            self._spans.append(self._span)
        self._span = None

    def coverage(self) -> Coverage:
        """What has been read so far."""
        return Coverage(self._lines, self._unreadable, _joined(self._spans))

    def finding(self, wanted: str) -> Finding:
        """What became of the letter with that Message-ID."""
        message = wanted.lower().encode("ascii")
        lives = [life for facts in self._facts.values() for life in _lives(facts) if life[0].message == message]
        if not lives:
            return _NOTHING
        # A letter may pass a relay's queue more than once (content filters do that): one that took it is enough, and
        # a bounce in any of them is one.
        found = [_judge(life) for life in lives]
        return max(found, key=_weight)

    def _line(self, line: bytes) -> None:
        if not line:
            return
        self._lines += 1
        match = _TRADITIONAL.match(line) or _RFC5424.match(line)
        at = self._time(match.groupdict()) if match else None
        if match is None or at is None:
            self._unreadable += 1
            return
        first, last = self._span or (at, at)
        self._span = min(first, at), max(last, at)
        queued = _QUEUED.match(match["text"])
        if queued is not None and queued[1] != b"NOQUEUE":
            fact = _fact(at, match["tag"].rpartition(b"/")[2], queued[2], self._salt)
            if fact is not None:
                self._keep((match["host"], queued[1]), fact)

    def _keep(self, queue: _Queue, fact: _Fact) -> None:
        known = self._facts.get(queue)
        if known is None and fact.message in self._wanted:
            known = self._facts[queue] = set(self._recent.pop(queue, ()))
        if known is not None:
            known.add(fact)
            return
        self._recent.setdefault(queue, []).append(fact)
        self._recent.move_to_end(queue)
        # A queue id in use for weeks has few lines; a log made to fill memory has many.
        del self._recent[queue][:-50]
        if len(self._recent) > _RECENT:
            self._recent.popitem(last=False)

    def _time(self, parts: dict[str, bytes | None]) -> dt.datetime | None:
        stamp = (parts["iso"], parts.get("month"), parts.get("day"), parts.get("time"))
        if self._stamp[0] != stamp:
            self._stamp = stamp, self._parsed(*stamp)
        return self._stamp[1]

    def _parsed(
        self, iso: bytes | None, month: bytes | None, day: bytes | None, time: bytes | None
    ) -> dt.datetime | None:
        try:
            if iso is not None:
                read = dt.datetime.fromisoformat(iso.decode("ascii"))
                return (read if read.tzinfo else read.replace(tzinfo=self._zone)).astimezone(dt.UTC)
            hour, minute, second = map(int, (time or b"").split(b":"))
            return self._with_year(_MONTHS[month or b""], int(day or b""), hour, minute, min(second, 59))
        except (ValueError, KeyError, OverflowError):
            return None

    def _with_year(self, month: int, day: int, hour: int, minute: int, second: int) -> dt.datetime | None:
        """The latest instant of that date and time that is not in the future; a day's grace for clocks."""
        latest = self._now + dt.timedelta(days=1)
        for year in range(latest.astimezone(self._zone).year, self._now.year - 9, -1):
            if day == 29 and month == 2 and not _is_leap(year):
                continue
            found = dt.datetime(year, month, day, hour, minute, second, tzinfo=self._zone).astimezone(dt.UTC)
            if found <= latest:
                return found
        return None


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _fact(at: dt.datetime, service: bytes, text: bytes, salt: bytes) -> _Fact | None:
    """What one line says of its queue id; None where it says nothing of interest."""
    if service == b"cleanup":
        return _of_cleanup(at, text)
    if text == b"removed":
        return _Fact(at, _Kind.REMOVED)
    if text.startswith(b"from=<"):
        if text.endswith(b"(queue active)"):
            return _Fact(at, _Kind.TAKEN)
        return _Fact(at, _Kind.GIVEN_UP, status="expired") if _RETURNED.match(text) else None
    status = _STATUS.match(text) if text.startswith(b"to=<") else None
    return _of_delivery(at, status, salt) if status else None


def _of_cleanup(at: dt.datetime, text: bytes) -> _Fact | None:
    if text.startswith(b"message-id="):
        # That of a stranger's letter counts, too: there another one's use of the queue id begins.
        found = _MESSAGE_ID.match(text)
        return _Fact(at, _Kind.BEGUN, message=found[1].lower() if found else b"")
    at_end = _AT_END.match(text)
    if at_end is not None and at_end[1] == b"discard":
        return _Fact(at, _Kind.TAKEN)  # the relay said 250, and then threw the letter away
    refused = at_end[2] if at_end else None
    by_content = _BY_CONTENT.match(text) if at_end is None else None
    enhanced = refused or (by_content[1] if by_content else None)
    if enhanced is None or enhanced.startswith(b"2"):
        return None
    code = 550 if enhanced.startswith(b"5") else 451
    reply_class = _class(code, enhanced.decode(), "", Phase.DOT)
    return _Fact(at, _Kind.REFUSED, code=code, enhanced=enhanced.decode(), reply_class=reply_class)


def _of_delivery(at: dt.datetime, status: re.Match[bytes], salt: bytes) -> _Fact:
    recipient = hashlib.sha256(salt + status[1]).digest()[:16]
    enhanced, word, words = status[2].decode(), status[3].decode(), status[4] or b""
    said = _SAID.search(words)
    usual = {"2": 250, "4": 450, "5": 550}[enhanced[0]]
    code = int(said[1]) if said and said[1][:1] == enhanced[:1].encode() else usual
    reply_class = _class(code, enhanced, words.decode("utf-8", "replace"), Phase.RCPT)
    return _Fact(at, _Kind.DELIVERY, None, recipient, word, code, enhanced, reply_class)


def _class(code: int, enhanced: str, words: str, phase: Phase) -> ReplyClass:
    # Postfix writes x.0.0 where the other server gave no enhanced code: then its words decide.
    named = None if enhanced.endswith(".0.0") else enhanced
    return classify(Reply(code, named, words), phase)


def _lives(facts: Iterable[_Fact]) -> Iterator[list[_Fact]]:
    """The letters that used a queue id, one after the other, each beginning with the line that names it."""
    life: list[_Fact] = []
    removed: dt.datetime | None = None
    # By whole seconds: several programs wrote these lines, and a relay uses no queue id twice in one.
    for fact in sorted(facts, key=lambda one: (one.at.replace(microsecond=0), one.kind)):
        if fact.kind is _Kind.BEGUN:
            if life:
                yield life
            life, removed = [fact], None
        elif life and (removed is None or fact.at - removed <= _LATE):
            life.append(fact)
            removed = fact.at if fact.kind is _Kind.REMOVED else removed
    if life:
        yield life


def _judge(life: list[_Fact]) -> Finding:
    delivered = [fact for fact in life if fact.kind in {_Kind.DELIVERY, _Kind.GIVEN_UP}]
    if delivered or any(fact.kind in {_Kind.TAKEN, _Kind.REMOVED} for fact in life):
        return _of_taken(life[0], delivered)
    refused = [fact for fact in life if fact.kind is _Kind.REFUSED]
    if refused:
        one = refused[-1]
        return Finding(Fate.REFUSED, None, one.code, one.enhanced, one.reply_class, one.at)
    return Finding(Fate.BEGUN, at=life[0].at)


def _of_taken(begun: _Fact, delivered: list[_Fact]) -> Finding:
    last: dict[bytes | None, _Fact] = {}
    for fact in delivered:
        if fact.kind is _Kind.DELIVERY:
            last[fact.recipient] = fact
            continue
        # A letter that was given up says no more than that, of whoever still waited; why, the deferral before it said.
        waited = {to: replace(one, status=fact.status) for to, one in last.items() if one.status == "deferred"}
        last |= waited or ({} if last else {None: fact})
    if not last:
        return Finding(Fate.TAKEN, at=begun.at)
    # Who got it at one of several addresses has it, and a mailbox is not gone while another one behind it is only full.
    best = min(last.values(), key=lambda one: (_STATUSES.index(one.status), one.reply_class is ReplyClass.HARD))
    return Finding(Fate.TAKEN, best.status, best.code, best.enhanced, best.reply_class, begun.at)


def _joined(spans: Iterable[Span]) -> Sequence[Span]:
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first - found[-1][1] <= _SILENCE:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


_FATES = (Fate.UNKNOWN, Fate.BEGUN, Fate.REFUSED, Fate.TAKEN)
_STATUSES = (None, "sent", "deferred", "expired", "bounced")


def _weight(finding: Finding) -> tuple[int, int]:
    return _FATES.index(finding.fate), _STATUSES.index(finding.status)
