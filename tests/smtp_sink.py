"""A mail server that does what a test tells it, and writes down what it took before it says so.

In a test:

    with SmtpSink(tmp_path / "ledger", [Rule("RCPT", "550 5.1.1 no such user", recipient="bob@", times=1)]) as sink:
        ...  # mail to 127.0.0.1:sink.port
    assert sink.entries()[0].recipient == "alice@example.net"

As a process of its own, which prints its port on the first line of stdout; SIGHUP reads the rules again, SIGTERM ends it:

    python -m tests.smtp_sink --ledger FILE [--port N] [--rules FILE.json] [--hide CHUNKING] [--keep FOLDER] [--slices]

A rule says at which point (`when`) something else happens than usual. Points, in the order of a session: CONNECT (before
the greeting), EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, BODY (first octets of a body, with DATA), CHUNK (the same
with BDAT), DOT (message complete, by dot or BDAT LAST), RSET, QUIT. What happens: wait `delay` seconds, then send
`reply` (the usual one if None and there is no `then`), then `then`: "drop" (close), "reset" (TCP RST), "half" (close
for writing only), "hang" (say and read nothing more). `reply` is sent as written when it holds a line end, else with CRLF. A message is taken, that is written
to the ledger, if the reply at DOT starts with 2, or if `take` says so. Rules are tried in order; one with `times` is
used that often, after having let `skip` occasions pass; one with `once_each` is used once for each recipient; one with
a `share` is for that part of the sessions, drawn by their numbers.

The ledger has one JSON object a line, written and visible before the reply: recipient, mail_from, message_id, sha256
and octets of the message (without dot-stuffing), session, at (Unix seconds). Beside it, in LEDGER.broken, stands one
line for each session that a rule's `then` ended: the point, the session and the recipient.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import datetime as dt
import hashlib
import ipaddress
import json
import os
import random
import re
import signal
import socket
import ssl
import struct
import sys
import threading
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

EXTENSIONS = ("PIPELINING", "8BITMIME", "SMTPUTF8", "CHUNKING", "ENHANCEDSTATUSCODES", "SIZE 100000000")
_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
_PATH = re.compile(rb"(?:FROM|TO):[ \t]*<([^>]*)>", re.IGNORECASE)


@dataclass(slots=True)
class Rule:
    """One deviation; see the module's text."""

    when: str
    reply: str | None = None
    recipient: str | None = None  # part of the address of the transaction, in MAIL of the sender's
    times: int | None = None
    skip: int = 0
    delay: float = 0
    then: str | None = None
    take: bool | None = None
    once_each: bool = False
    share: float = 1
    _done: set[str] = field(default_factory=set, repr=False)

    def applies(self, when: str, address: str, session: int) -> bool:
        if self.when != when or self.times == 0 or (self.recipient is not None and self.recipient not in address):
            return False
        if self.share < 1 and random.Random(f"{when} {self.reply} {self.then} {session}").random() >= self.share:
            return False
        if self.once_each and (address in self._done or self._done.add(address)):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(frozen=True, slots=True)
class Entry:
    """One message that was taken."""

    recipient: str
    mail_from: str
    message_id: str
    sha256: str
    octets: int
    session: int
    at: float


def read_ledger(path: Path) -> list[Entry]:
    """What was taken so far, in order."""
    if not path.exists():
        return []
    # A line without its end is one that is being written at this moment.
    whole = path.read_text().rpartition("\n")[0]
    return [Entry(**json.loads(line)) for line in whole.splitlines()]


def broken_file(ledger: Path) -> Path:
    """Where the sink of that ledger writes down which sessions its rules ended."""
    return ledger.with_name(ledger.name + ".broken")


@dataclass
class Settings:
    """How the sink behaves where no rule says otherwise."""

    ledger: Path
    rules: list[Rule] = field(default_factory=list)
    hide: frozenset[str] = frozenset()
    users: dict[str, str] = field(default_factory=dict)  # offers AUTH, and insists on it
    tls: ssl.SSLContext | None = None  # offers STARTTLS
    implicit_tls: bool = False
    eager_data: bool = False  # says 354 even when no recipient was accepted, as RFC 2920 allows
    strict_nesting: bool = True  # 503 for MAIL within a transaction
    slices: bool = False  # each octet of each reply on its own
    letters_per_session: int | None = None  # then it closes, right after the reply
    keep: Path | None = None
    keep_in_memory: bool = True  # messages in `SmtpSink.messages`; not for long runs


class SmtpSink:
    """The sink in a thread of this process. Counters and lists may be read at any time, best after `stop`."""

    def __init__(self, ledger: Path, rules: Iterable[Rule] = (), *, port: int = 0, **settings: object) -> None:
        self.settings = Settings(ledger, list(rules), **settings)  # type: ignore[arg-type]
        self.port = port
        self.sessions = 0
        self.dials: list[float] = []  # when each session began, in Unix seconds
        self.open_sessions: set[Session] = set()
        self.commands: deque[str] = deque(maxlen=100_000)  # as received, without the arguments of AUTH
        self.counts: Counter[str] = Counter()  # taken, lone-dot, wasted-body
        self.messages: list[bytes] = []
        self._file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.broken = broken_file(ledger)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._server: asyncio.Server | None = None
        self._keeper: socket.socket | None = None

    # As a thread

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; the port is known and open when this returns. Also after `stop`, on the same port."""
        self._keep_port()
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(60), f"port {self.port} could not be listened on: the thread's error says why"

    def _keep_port(self) -> None:
        """Have the port for as long as this sink is known to anybody: nobody else may get it after `stop`."""
        if self._keeper is None:
            self._keeper = keeper = socket.socket()
            weakref.finalize(self, keeper.close)
            # Who is only bound, and lets others be, is in no listener's way; whoever connects is refused.
            keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            keeper.bind(("127.0.0.1", self.port))
            self.port = keeper.getsockname()[1]

    def _run(self, started: threading.Event) -> None:
        assert self._loop is not None
        self._loop.run_until_complete(self.listen())
        started.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._close())
        self._loop.close()

    def stop(self) -> None:
        """Drop all sessions and stop listening."""
        if self._loop is not None and self._thread is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(60)
        self._thread = None

    def drop_all(self, how: str = "drop") -> None:
        """Do the `then` of a rule to every open session, from any thread; returns when it is done."""
        self._call(lambda: [session.end(how) for session in list(self.open_sessions)])

    def set_rules(self, *rules: Rule) -> None:
        """Other rules from now on."""
        self._call(lambda: self.settings.rules.__setitem__(slice(None), rules))

    @property
    def waiting(self) -> int:
        """How many sessions the `delay` of a rule keeps waiting at this moment; from any thread."""
        return sum(session.waiting for session in list(self.open_sessions))

    def hurry(self) -> None:
        """Do at once what the `delay` of a rule keeps waiting, from any thread; returns when it is done."""
        self._call(lambda: [session.hurry() for session in list(self.open_sessions)])

    def _call(self, function: Callable[[], object]) -> None:
        assert self._loop is not None
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        done.wait(60)

    @property
    def ledger(self) -> Path:
        """Where it stands what was taken."""
        return self.settings.ledger

    def entries(self) -> list[Entry]:
        """What is in the ledger."""
        return read_ledger(self.settings.ledger)

    # On a loop

    async def listen(self) -> None:
        """Serve on the running loop."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Session(self),
            "127.0.0.1",
            self.port,
            ssl=self.settings.tls if self.settings.implicit_tls else None,
            reuse_address=True,
            backlog=256,
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.sleep(0.01)  # one that was accepted just now has yet to become a session
        for session in list(self.open_sessions):
            session.end("drop")
        await asyncio.sleep(0.01)
        # What nobody reads any more would be flushed for ever.
        for session in list(self.open_sessions):
            session.abort()
        await asyncio.sleep(0)

    def rule(self, when: str, address: str, session: int) -> Rule | None:
        """The rule for this occasion, used up by one."""
        for rule in self.settings.rules:
            if rule.applies(when, address, session):
                return rule
        return None

    def take(self, recipient: str, mail_from: str, message: bytes, session: int) -> None:
        """Write an entry; it is in the file when this returns."""
        found = _MESSAGE_ID.search(message[: message.find(b"\r\n\r\n") + 2])
        entry = {
            "recipient": recipient,
            "mail_from": mail_from,
            "message_id": found[1].decode("utf-8", "replace") if found else "",
            "sha256": hashlib.sha256(message).hexdigest(),
            "octets": len(message),
            "session": session,
            "at": time.time(),
        }
        os.write(self._file, json.dumps(entry).encode() + b"\n")
        self.counts["taken"] += 1
        if self.settings.keep is not None:
            (self.settings.keep / f"{self.counts['taken']:06}.eml").write_bytes(message)
        if self.settings.keep_in_memory:
            self.messages.append(message)


class Session(asyncio.Protocol):
    """One connection."""

    def __init__(self, sink: SmtpSink) -> None:
        self.sink = sink
        self._settings = sink.settings
        sink.sessions += 1
        sink.dials.append(time.time())
        self.number = sink.sessions
        self._transport: asyncio.Transport | None = None
        self._in = bytearray()
        self._out = bytearray()
        self._mode = "command"
        self._blocked = True
        self._encrypted = sink.settings.implicit_tls
        self._user: str | None = None
        self._authenticated = not sink.settings.users
        self._chunk_left, self._chunk_last = 0, False
        self._message = bytearray()
        self._body_seen = self._handshaking = False
        self._searched = 0
        self._spoken_of = ""
        self._taken = 0
        self._late: tuple[asyncio.TimerHandle, Callable[[], None]] | None = None  # what a rule keeps waiting
        self._reset()

    def _reset(self) -> None:
        self._mail_from: str | None = None
        self._recipient: str | None = None
        self._message.clear()
        self._body_seen = False

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.sink.open_sessions.add(self)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._do("CONNECT", "", "220 sink ESMTP")
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._in += data
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:
        self._blocked = True
        self.sink.open_sessions.discard(self)

    def abort(self) -> None:
        """Let the connection go, whatever is still to be written."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def waiting(self) -> bool:
        """Whether a rule keeps it waiting."""
        return self._late is not None

    def hurry(self) -> None:
        """Do at once what a rule keeps waiting."""
        if self._late is not None:
            timer, obey = self._late
            timer.cancel()
            obey()

    def end(self, how: str) -> None:
        """Break this connection in one of the ways of `Rule.then`."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._blocked = True
        if how == "hang":
            transport.pause_reading()
        elif how == "half":
            if transport.can_write_eof():
                transport.write_eof()
        elif how == "reset":
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()
        elif how == "drop":
            transport.close()
        else:
            raise ValueError(how)

    # Saying

    def _do(self, when: str, address: str, usual: str, usually: Callable[[], None] | None = None) -> None:
        """Answer at a point of the session: as usual, doing `usually` first, or as a rule says."""
        self._spoken_of = address
        rule = self.sink.rule(when, address, self.number)
        if rule is None:
            if usually is not None:
                usually()
            self._say(usual)
            self._blocked = False
            self._end_if_spent()
            return
        self._blocked = True
        if rule.delay:
            self._flush()
            self._obey_later(rule, usual, usually)
        else:
            self._obey(rule, usual, usually)

    def _obey_later(self, rule: Rule, usual: str, usually: Callable[[], None] | None) -> None:
        def obey() -> None:
            self._late = None
            self._obey(rule, usual, usually)
            self._work()

        self._late = asyncio.get_running_loop().call_later(rule.delay, obey), obey

    def _obey(self, rule: Rule, usual: str, usually: Callable[[], None] | None) -> None:
        reply = rule.reply if rule.reply is not None or rule.then else usual
        positive = reply is not None and reply[:1] in "23"
        if usually is not None and (positive if rule.take is None else rule.take):
            usually()
        if reply:
            self._say(reply)
        if rule.then:
            self._flush()
            with self.sink.broken.open("a") as file:
                line = {"when": rule.when, "session": self.number, "recipient": self._spoken_of}
                file.write(json.dumps(line) + "\n")
            self.end(rule.then)
        else:
            self._blocked = False
            self._end_if_spent()

    def _end_if_spent(self) -> None:
        """Right after a reply, be it a late one."""
        if self._taken == self._settings.letters_per_session:
            self._flush()
            self.end("drop")

    def _say(self, text: str) -> None:
        self._out += text.encode("latin-1") + (b"" if "\n" in text else b"\r\n")

    def _flush(self) -> None:
        out, self._out = bytes(self._out), bytearray()
        if not out or self._transport is None or self._transport.is_closing():
            return
        if not self._settings.slices:
            self._transport.write(out)
            return
        loop = asyncio.get_running_loop()
        for number in range(len(out)):
            loop.call_later(0.0002 * number, self._transport.write, out[number : number + 1])

    # Hearing

    def _work(self) -> None:
        while not (self._blocked or self._handshaking):
            step = {"command": self._command, "data": self._data, "chunk": self._chunk, "auth": self._login}[self._mode]
            if not step():
                break
        self._flush()

    def _line(self) -> bytes | None:
        end = self._in.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._in[: end + 1]).rstrip(b"\r\n")
        del self._in[: end + 1]
        return line

    def _command(self) -> bool:
        line = self._line()
        if line is None:
            return False
        verb = line[:4].upper()
        self.sink.commands.append(line.decode("latin-1") if verb != b"AUTH" else "AUTH")
        # A chunk is read, and refused, whoever it comes from: RFC 3030 §2.
        if verb in {b"MAIL", b"RCPT", b"DATA"} and not self._authenticated:
            self._say("530 5.7.0 authentication required")
        else:
            steps = {
                b"EHLO": self._ehlo,
                b"HELO": lambda _: self._do("HELO", "", "250 sink"),
                b"STAR": self._starttls,
                b"AUTH": self._auth,
                b"MAIL": self._mail,
                b"RCPT": self._rcpt,
                b"DATA": self._begin_data,
                b"BDAT": self._begin_chunk,
                b"RSET": lambda _: self._do("RSET", "", "250 2.0.0 reset", self._reset),
                b"QUIT": self._quit,
            }
            steps.get(verb, lambda _: self._say("500 5.5.2 what?"))(line)
        return True

    def _ehlo(self, _line: bytes) -> None:
        offered = [word for word in EXTENSIONS if word.split()[0] not in self._settings.hide]
        if self._settings.tls is not None and not self._encrypted and "STARTTLS" not in self._settings.hide:
            offered.append("STARTTLS")
        if self._settings.users and "AUTH" not in self._settings.hide:
            offered.append("AUTH LOGIN" if "PLAIN" in self._settings.hide else "AUTH PLAIN LOGIN")
        lines = ["sink", *offered]
        text = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
        self._do("EHLO", "", text, self._reset)

    def _starttls(self, _line: bytes) -> None:
        if self._settings.tls is None or self._encrypted:
            self._say("502 5.5.1 not here")
            return
        self._do("STARTTLS", "", "220 2.0.0 go", self._encrypt)

    def _encrypt(self) -> None:
        self._encrypted = self._handshaking = True
        self._in.clear()
        assert self._transport is not None
        self._transport.pause_reading()  # what comes now is for the handshake
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._handshake()))

    async def _handshake(self) -> None:
        assert self._transport is not None
        assert self._settings.tls is not None
        try:
            self._transport = await asyncio.get_running_loop().start_tls(
                self._transport, self, self._settings.tls, server_side=True
            )
        except OSError:
            self.sink.counts["failed-handshake"] += 1
            return
        self._handshaking = False
        self._work()

    def _auth(self, line: bytes) -> None:
        words = line.split()
        if words[1:2] == [b"PLAIN"] and len(words) == 3:
            _, user, password = base64.b64decode(words[2]).decode().split("\0")
            self._check(user, password)
        else:
            self._say("334 VXNlcm5hbWU6")
            self._mode = "auth"

    def _login(self) -> bool:
        line = self._line()
        if line is None:
            return False
        word = base64.b64decode(line).decode()
        if self._user is None:
            self._user = word
            self._say("334 UGFzc3dvcmQ6")
        else:
            self._mode = "command"
            self._check(self._user, word)
            self._user = None
        return True

    def _check(self, user: str, password: str) -> None:
        self.sink.counts["encrypted-login" if self._encrypted else "login-in-clear"] += 1
        if self._settings.users.get(user) == password:
            self._do("AUTH", user, "235 2.7.0 welcome", lambda: setattr(self, "_authenticated", True))
        else:
            self._say("535 5.7.8 who are you?")

    def _mail(self, line: bytes) -> None:
        if self._mail_from is not None and self._settings.strict_nesting:
            self._say("503 5.5.1 nested MAIL")
            return
        address = _address(line)
        self._do("MAIL", address, "250 2.1.0 sender ok", lambda: setattr(self, "_mail_from", address))

    def _rcpt(self, line: bytes) -> None:
        if self._mail_from is None:
            self._say("503 5.5.1 MAIL first")
            return
        address = _address(line)
        self._do("RCPT", address, "250 2.1.5 recipient ok", lambda: setattr(self, "_recipient", address))

    def _begin_data(self, _line: bytes) -> None:
        if self._recipient is None and not self._settings.eager_data:
            self._say("503 5.5.1 RCPT first")
            return
        self._do("DATA", self._recipient or "", "354 go ahead", lambda: setattr(self, "_mode", "data"))

    def _begin_chunk(self, line: bytes) -> None:
        words = line.split()
        self._chunk_left, self._chunk_last = int(words[1]), words[-1].upper() == b"LAST"
        self._mode = "chunk"

    def _quit(self, _line: bytes) -> None:
        rule = self.sink.rule("QUIT", "", self.number)
        self._say(rule.reply if rule and rule.reply else "221 2.0.0 bye")
        self._flush()
        self.end(rule.then if rule and rule.then else "drop")

    # Messages

    def _stops_at_body(self, when: str) -> bool:
        """Whether something else than usual happens at the first octets of this body."""
        if self._body_seen or not self._in:
            return False
        self._body_seen = True
        self._spoken_of = self._recipient or ""
        rule = self.sink.rule(when, self._spoken_of, self.number)
        if rule is None:
            return False
        self._blocked = True
        self._obey_later(rule, "", None)
        return True

    def _data(self) -> bool:
        if self._stops_at_body("BODY"):
            return False
        if self._in.startswith(b".\r\n"):
            message, end = b"", 3
        else:
            found = self._in.find(b"\r\n.\r\n", max(0, self._searched - 4) if self._searched else 0)
            if found < 0:
                self._searched = len(self._in)
                return False
            message, end = bytes(self._in[: found + 2]), found + 5
        self._searched = 0
        del self._in[:end]
        self._mode = "command"
        if message.startswith(b"."):
            message = message[1:]
        self._complete(message.replace(b"\r\n..", b"\r\n."))
        return True

    def _chunk(self) -> bool:
        if self._chunk_left and self._stops_at_body("CHUNK"):
            return False
        part = self._in[: self._chunk_left]
        self._message += part
        del self._in[: len(part)]
        self._chunk_left -= len(part)
        if self._chunk_left:
            return False
        self._mode = "command"
        if self._recipient is None:
            self.sink.counts["wasted-body"] += 1
            self._message.clear()
            self._say("503 5.5.1 RCPT first")
        elif self._chunk_last:
            self._complete(bytes(self._message))
        else:
            self._say("250 2.0.0 chunk ok")
        return True

    def _complete(self, message: bytes) -> None:
        recipient, mail_from = self._recipient, self._mail_from or ""
        self._reset()
        if recipient is None:
            self.sink.counts["lone-dot" if not message else "body-without-recipient"] += 1
            self._say("554 5.5.1 no valid recipients")
            return
        self._do(
            "DOT",
            recipient,
            f"250 2.0.0 taken as {self.sink.counts['taken'] + 1}",
            lambda: self._take(recipient, mail_from, message),
        )

    def _take(self, recipient: str, mail_from: str, message: bytes) -> None:
        self._taken += 1
        self.sink.take(recipient, mail_from, message, self.number)


def _address(line: bytes) -> str:
    found = _PATH.search(line)
    return found[1].decode("utf-8", "replace") if found else ""


# Certificates


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in PEM: the authority to trust, and what the server shows."""

    authority: Path
    chain: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


def make_certificates(folder: Path, *, host: str = "127.0.0.1", expired: bool = False) -> Certificates:
    """A new authority and a certificate of it for `host`."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = dt.datetime.now(dt.UTC)
    start, end = now - dt.timedelta(days=9), now + dt.timedelta(days=-2 if expired else 9)

    def build(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
        return builder.serial_number(x509.random_serial_number()).not_valid_before(start)

    authority_key, server_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    authority = (
        build("test authority", authority_key)
        .issuer_name(issuer)
        .not_valid_after(now + dt.timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(identifier, critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    try:
        name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        name = x509.DNSName(host)
    shown = (
        build(host, server_key)
        .issuer_name(issuer)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([name]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = Certificates(folder / "authority.pem", folder / "server.pem", folder / "server.key")
    files.authority.write_bytes(authority.public_bytes(pem))
    files.chain.write_bytes(shown.public_bytes(pem))
    files.key.write_bytes(
        server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
    )
    return files


# As a process


def load_rules(path: Path) -> list[Rule]:
    """The rules in a JSON file: a list of objects with the fields of `Rule`."""
    return [Rule(**rule) for rule in json.loads(path.read_text())]


async def serve(options: argparse.Namespace) -> None:
    rules = load_rules(options.rules) if options.rules else []
    sink = SmtpSink(
        options.ledger,
        rules,
        port=options.port,
        hide=frozenset(options.hide),
        keep=options.keep,
        keep_in_memory=False,
        slices=options.slices,
        eager_data=options.eager_data,
    )
    await sink.listen()
    print(sink.port, flush=True)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    if options.rules:
        loop.add_signal_handler(
            signal.SIGHUP, lambda: sink.settings.rules.__setitem__(slice(None), load_rules(options.rules))
        )
    await ended.wait()
    print(json.dumps({"sessions": sink.sessions, **sink.counts}), file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted SMTP sink for tests.")
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rules", type=Path)
    parser.add_argument("--hide", action="append", default=[])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--slices", action="store_true")
    parser.add_argument("--eager-data", action="store_true")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
