"""Cuts a stream of octets into replies, whatever the octets are, in bounded memory."""

from __future__ import annotations

from service.domain.replies import parse_reply

_LINE_KEPT = 1024  # octets of a line; RFC 5321 §4.5.3.1.5 allows 512, and some servers write more
_LINES_KEPT = 32
_REPLY_LIMIT = 4 << 20  # octets; whoever says more in one reply is not worth listening to

# The codes of nearly all replies, so that the usual one is understood with one look.
_USUAL = {b"%d " % code: code for code in (220, 221, 250, 251, 252, 354, 421, 450, 451, 452, 550, 552, 554)}

RawReply = tuple[int, list[bytes]]


class ReplyReader:
    """Feed it what arrives; it gives back the replies that are complete, as code and lines.

    Takes CRLF and bare LF, any slices, any length. Of long lines and long replies it keeps the beginning.
    """

    __slots__ = ("_dropping", "_lines", "_rest", "_seen", "overflown")

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []
        self._dropping = False  # of the line at hand enough is kept in _rest
        self._seen = 0
        self.overflown = False

    @property
    def mid_reply(self) -> bool:
        """Whether octets of an unfinished reply have been read."""
        return bool(self._rest or self._lines)

    def feed(self, data: bytes) -> list[RawReply]:
        """The replies that `data` completes."""
        usual = self._usual(data)
        if usual is not None:
            return usual
        if self._dropping:
            data = self._skip(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        replies: list[RawReply] = []
        for line in lines:
            self._line(line[:-1] if line[-1:] == b"\r" else line, replies)
        if len(self._rest) > _LINE_KEPT and not self._dropping:
            self._rest = self._rest[:_LINE_KEPT]
            self._dropping = True
        self._count(data, done=bool(replies))
        return replies

    def _usual(self, data: bytes) -> list[RawReply] | None:
        """The replies in whole, single, short lines with usual codes; None if there is anything else."""
        if self._rest or self._lines or not data.endswith(b"\r\n") or len(data) > _LINE_KEPT:
            return None
        lines = data[:-2].split(b"\r\n")
        if data.count(b"\n") != len(lines):
            return None
        replies: list[RawReply] = []
        for line in lines:
            code = _USUAL.get(line[:4])
            if code is None:
                return None
            replies.append((code, [line]))
        return replies

    def _skip(self, data: bytes) -> bytes:
        """What is to be read of `data` when it goes on with a line of which enough is kept."""
        end = data.find(b"\n")
        self._seen += end if end >= 0 else len(data)
        self._dropping = end < 0
        return data[end:] if end >= 0 else b""

    def _line(self, line: bytes, replies: list[RawReply]) -> None:
        if line[3:4] == b"-" and line[:3].isdigit():
            if len(self._lines) < _LINES_KEPT:
                self._lines.append(line[:_LINE_KEPT])
            return
        complete = [*self._lines, line[:_LINE_KEPT]]
        self._lines = []
        replies.append((parse_reply(complete).code, complete))

    def _count(self, data: bytes, *, done: bool) -> None:
        self._seen = 0 if done else self._seen + len(data)
        self.overflown = self._seen > _REPLY_LIMIT
