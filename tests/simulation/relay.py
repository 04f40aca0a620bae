"""The simulated relay: as much of SMTP as workers speak, whims, and a ledger that is written before the reply.

`Dot` is the truth about one letter that was written to its end: when its body left the worker, whether the relay took
it, whether what the relay said of it could be understood, and whether that reached the worker alive.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.simulation.whims import DATA_TROUBLE, DOT_TROUBLE, MAIL_TROUBLE, RCPT_TROUBLE, Whims

if TYPE_CHECKING:
    from tests.simulation.network import Link
    from tests.simulation.world import World

END_OF_LETTER = b"\r\nEnd.\r\n"
_PATH = re.compile(rb"(?:FROM|TO):<([^>]*)>")
_TO = re.compile(rb"^To: ([^\r]*)\r$", re.MULTILINE)
_EDITION = re.compile(rb"^Subject: ([^\r]*)\r\nEdition: ([^\r]*)\r$", re.MULTILINE)

_ENDLESS = b"250-\xff\xfe"


@dataclass(eq=False)
class Dot:
    """One letter whose final dot, or last chunk, the worker handed over."""

    delivery: int
    recipient: str
    link: int
    sender: str  # the name of the process
    body_at: float
    dot_at: float
    taken_at: float | None = None
    refused: bool = False  # the relay said so, in words that mean it
    said: bytes = b""
    answered_at: float | None = None  # the worker read all of what was said
    astray: bool = False  # a reply before this one's never ended, so each is taken for that to an earlier command
    title: str = ""  # of the issue, as the letter's subject has it
    edition: str = ""
    lost: bool = False


@dataclass
class Relay:
    """The machine behind all connections."""

    world: World
    read_envelope: Any
    whims: Whims = field(default_factory=Whims)
    dots: list[Dot] = field(default_factory=list)
    voided: set[tuple[int, int]] = field(default_factory=set)  # delivery and link: written though nobody was named
    faults: list[str] = field(default_factory=list)  # things no client may ever do
    away: bool = False
    unknown: set[str] = field(default_factory=set)  # addresses that it said it does not know
    on_letter: Callable[[], None] = lambda: None  # whom each letter concerns that comes in whole

    def travel(self) -> float:
        return self.whims.travel * self.world.rng.uniform(0.5, 1.5)

    def buffer_is_full(self) -> bool:
        return self.whims.full_buffer > 0 and self.world.rng.random() < self.whims.full_buffer

    def refuses_connection(self) -> str | None:
        if self.away:
            return self.world.rng.choice(("refused", "hang"))
        if self.whims.refusal and self.world.rng.random() < self.whims.refusal:
            return self.world.rng.choice(("refused", "refused", "hang"))
        return None

    def whim(self, choices: tuple[bytes, ...]) -> bytes | None:
        likely = self.whims.at_dot if choices is DOT_TROUBLE else self.whims.trouble
        if likely and self.world.rng.random() < likely:
            return self.world.rng.choice(choices)
        return None


class SmtpSession:
    """The relay's end of one connection."""

    def __init__(self, relay: Relay, link: Link) -> None:
        self.relay = relay
        self.link = link
        self.world = relay.world
        self.over = False
        self.deaf = False
        self._buffer = b""
        self._base = 0  # the offset of the buffer's first octet in all that was written
        self._in_data = False
        self._chunk: tuple[int, int] | None = None  # octets to come, and where the letter began
        self._chunks = b""
        self._sender: bytes | None = None
        self._named = b""  # the sender of the last MAIL, whatever was said to it
        self._recipient: bytes | None = None
        self._shadow = False  # reads what never arrived
        self._delay = 0.0
        self._logged_out = False
        self._endless = False  # a reply was begun that goes on with whatever is said next

    # The connection

    def greet(self) -> None:
        if self.over:
            return
        if self.relay.away:
            self._drop()
            return
        whim = self.relay.whim((b"421 4.3.2 busy", b"554 5.7.1 go away", b"drop", b"hang", b"garble", b"slow"))
        self._reply(b"220 relay.test", whim)

    def take(self, data: bytes) -> None:
        """Octets have arrived."""
        self._buffer += data
        while not (self.over or self.deaf) and self._step():
            pass

    def hear_the_end(self) -> None:
        """The worker is gone, or the line."""
        self.over = True
        self.link.cut = True

    def read_what_was_lost(self) -> None:
        """Account for the dots among octets that were written and never understood, here or on the way."""
        self._shadow, self.over, self.deaf = True, False, False
        self._buffer += self.link.unsent()
        while self._step():
            pass

    def _drop(self, *, reset: bool = False) -> None:
        self.over = True
        self.link.hang_up(reset=reset)

    # Replies

    def _reply(self, usual: bytes, whim: bytes | None = None, dot: Dot | None = None) -> bool:
        """Say what is usual, or do what the whim is; whether it was the usual reply."""
        if self._shadow:
            return True
        delay = self.relay.travel()
        if whim == b"slow":
            self._say(usual, self.relay.whims.patience * self.world.rng.uniform(0.2, 1.5), dot)
            return True
        if whim == b"late":
            self._say(usual, self.world.rng.uniform(0.8, 4.0), dot)
            return True
        if whim == b"slices":
            self._slices(usual, dot)
            return True
        if whim is None:
            self._say(usual, delay, dot)
            return True
        if whim == b"hang":
            self.deaf = True
        elif whim in {b"drop", b"reset"}:
            self._drop(reset=whim == b"reset")
        elif whim == b"half":
            self.link.say(usual[: self.world.rng.randrange(len(usual))], delay)
            self._drop()
        elif whim == b"garble":
            text = self.world.rng.choice((b"hello?", _ENDLESS, b"999 what", b"2500 ok"))
            self._say(text, delay)
            self._endless = self._endless or text == _ENDLESS
        else:
            self._say(whim, delay, dot, farewell=whim.startswith(b"421"))
            if whim.startswith(b"421"):
                # Nothing after a 421 is executed: RFC 5321 §3.8.
                self._drop()
        return False

    def _say(self, text: bytes, delay: float, dot: Dot | None = None, *, farewell: bool = False) -> None:
        if dot is not None:
            dot.said, dot.astray = text, self._endless
        self.link.say(text + b"\r\n", delay, dot, farewell=farewell)

    def _slices(self, text: bytes, dot: Dot | None) -> None:
        whole = text + b"\r\n"
        at = self.world.rng.randrange(1, len(whole))
        self.link.say(whole[:at], self.relay.travel())
        self.link.say(whole[at:], self.world.rng.uniform(0, 0.5), dot)

    # Commands

    def _step(self) -> bool:
        """Take one command, or one body, from the buffer; whether there was a whole one."""
        if self._chunk is not None:
            return self._read_chunk()
        if self._in_data:
            return self._read_body()
        line, end, _ = self._buffer.partition(b"\r\n")
        if not end:
            return False
        at = self._base
        self._consume(len(line) + 2)
        verb = line[:4].upper()
        if verb == b"EHLO":
            self._ehlo()
        elif verb == b"MAIL":
            self._mail(line)
        elif verb == b"RCPT":
            self._rcpt(line)
        elif verb == b"DATA":
            self._data()
        elif verb == b"BDAT":
            self._bdat(line, at)
        elif verb == b"RSET":
            self._sender = self._recipient = None
            self._reply(b"250 flushed", self.relay.whim((b"421 4.3.2 closing", b"drop", b"slow")))
        elif verb == b"QUIT":
            self._reply(b"221 bye")
            self._drop_unless_shadow()
        elif not self._shadow:
            self.relay.faults.append(f"no command: {line[:40]!r}")
            self._reply(b"500 what")
        return True

    def _drop_unless_shadow(self) -> None:
        if not self._shadow:
            self._drop()

    def _consume(self, octets: int) -> None:
        self._buffer = self._buffer[octets:]
        self._base += octets

    def _ehlo(self) -> None:
        lines = [b"relay.test", *self.relay.whims.extensions]
        said = b"\r\n".join(b"250-" + line for line in lines[:-1])
        said += (b"\r\n" if said else b"") + b"250 " + lines[-1]
        self._reply(said, self.relay.whim((b"421 4.3.2 busy", b"drop", b"hang", b"slow")))

    def _mail(self, line: bytes) -> None:
        if self._sender is not None:
            self._reply(b"503 5.5.1 nested")
            return
        sender = self._named = _PATH.search(line)[1]
        if self._reply(b"250 2.1.0 ok", self._wants_login() or self.relay.whim(MAIL_TROUBLE)):
            self._sender = sender

    def _rcpt(self, line: bytes) -> None:
        if self._sender is None:
            self._reply(b"503 5.5.1 MAIL first")
            return
        storm = self.relay.whims.policy_storm
        whim = self.relay.whim(RCPT_TROUBLE)
        if storm and self.world.rng.random() < storm:
            whim = b"550 5.7.1 blocked"
        whim = self._wants_login() or whim
        recipient = _PATH.search(line)[1]
        self._note_unknown(recipient.decode(), whim)
        if self._reply(b"250 2.1.5 ok", whim):
            self._recipient = recipient

    def _note_unknown(self, recipient: str, whim: bytes | None) -> None:
        if whim is not None and b" 5.1.1 " in whim:
            self.relay.unknown.add(recipient)

    def _wants_login(self) -> bytes | None:
        """What is said in a session whose login is missing, or has run out at some moment."""
        login = self.relay.whims.login
        self._logged_out = bool(login) and (self._logged_out or self.world.rng.random() < login)
        return b"530 5.7.0 log in first" if self._logged_out else None

    def _data(self) -> None:
        if self._recipient is None:
            self._reply(b"554 5.5.1 no valid recipients")
            return
        if self._reply(b"354 go ahead", self.relay.whim(DATA_TROUBLE)):
            self._in_data = True

    def _read_body(self) -> bool:
        if self._buffer.startswith(b".\r\n"):
            body, size = b"", 3
        else:
            end = self._buffer.find(b"\r\n.\r\n")
            if end < 0:
                return False
            body, size = self._buffer[: end + 2], end + 5
        at = self._base
        self._consume(size)
        self._in_data = False
        self._dot(body.replace(b"\r\n..", b"\r\n."), at)
        return True

    def _bdat(self, line: bytes, at: int) -> None:
        words = line.split()
        assert words[2:] == [b"LAST"]
        self._chunk = (int(words[1]), at)

    def _read_chunk(self) -> bool:
        octets, at = self._chunk
        if len(self._buffer) < octets:
            return False
        body = self._buffer[:octets]
        self._consume(octets)
        self._chunk = None
        self._dot(body, at)
        return True

    # Letters

    def _dot(self, body: bytes, at: int) -> None:
        sender, recipient = self._sender, self._recipient
        self._sender = self._recipient = None
        if sender is None or recipient is None:
            # RFC 3030 §2: the chunk is read, and refused. Nobody was named, so nobody can get it, whatever happens.
            self.relay.voided.add((self.relay.read_envelope(self._named.partition(b"@")[0].decode()), self.link.number))
            self._reply(b"503 5.5.1 no transaction", None)
            return
        delivery = self.relay.read_envelope(sender.partition(b"@")[0].decode())
        dot = Dot(
            delivery,
            recipient.decode(),
            self.link.number,
            self.link.process.name,
            self.link.sent_at(at),
            self.link.sent_at(self._base - 1),
            lost=self._shadow,
        )
        self.relay.dots.append(dot)
        self._check(body, dot)
        if self._shadow:
            return
        whim = self.relay.whim(DOT_TROUBLE)
        self._note_unknown(dot.recipient, whim)
        self._decide(dot, whim)
        self.relay.on_letter()

    def _check(self, body: bytes, dot: Dot) -> None:
        to = _TO.search(body)
        if not body.endswith(END_OF_LETTER) or to is None or to[1].decode() != dot.recipient:
            self.relay.faults.append(f"delivery {dot.delivery}: not the letter of its recipient, or not all of it")
            return
        dot.title, dot.edition = (found.decode() for found in _EDITION.search(body).groups())

    def _decide(self, dot: Dot, whim: bytes | None) -> None:
        if whim is None or whim.startswith(b"taken"):
            dot.taken_at = self.world.now
            self.world.tell("relay", f"takes {dot.delivery} on link {dot.link}")
            manner = None if whim is None else whim.partition(b", ")[2]
            self._reply(b"250 2.0.0 taken", manner, dot)
            return
        if whim == b"lies":
            # Taken, and then denied in words that make no sense: nobody can know.
            dot.taken_at = self.world.now
            self._reply(b"", b"300 perhaps", dot)
            return
        if whim[:1] in b"45":
            dot.refused = True
            self.world.tell("relay", f"refuses {dot.delivery} on link {dot.link}: {whim[:3].decode()}")
            self._reply(b"", whim, dot)
            return
        self._reply(b"250 2.0.0 taken", whim, dot)
