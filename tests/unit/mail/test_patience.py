"""How long the wire waits: for a reply to the dot the full ten minutes, for nothing else longer than is allowed."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading
import time

import pytest

from service.domain.replies import Phase
from service.mail.autopsy import Fate, read
from service.mail.journal import Journal
from service.mail.letter import Timeouts
from service.mail.relay import Relay
from service.mail.segments import Rendition, Segments
from service.mail.tls import Tls
from service.mail.wire import Wire
from tests.smtp_sink import Rule
from tests.unit.mail.sending import FAST, Run, letter, local, send, using


class Stopped(asyncio.SelectorEventLoop):
    """A loop whose clock goes only where it is put."""

    now = 0.0

    def time(self):
        return self.now


class Leaping(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    ahead = 0.0

    def time(self):
        return super().time() + self.ahead


@pytest.mark.parametrize(("seconds", "expected"), [(61, "accepted"), (599, "accepted"), (601, "uncertain")])
@pytest.mark.parametrize("window", [0, 4], ids=["DATA", "BDAT"])
def test_the_reply_to_the_dot_has_ten_minutes(sink, tmp_path, seconds, expected, window):
    server = sink(Rule("DOT", delay=0.3) if expected == "accepted" else Rule("DOT", then="hang"))
    loop, run = Stopped(), Run()

    async def main(journal):
        relay = local(server.port, window=window)
        wire = Wire(relay, journal=journal, helo_name="client.example.org", timeouts=Timeouts(), trial=0)
        wire.submit([letter()], run.note)
        while not wire.past_dot:  # noqa: ASYNC110  # the wire tells nobody when a dot is written
            await asyncio.sleep(0)
        loop.now = seconds
        while expected == "uncertain" and not run.outcomes:
            loop.now += 0.01
            await asyncio.sleep(0)
        await wire.drain()
        await wire.close()

    with Journal(tmp_path, sender_id=1) as journal:
        loop.run_until_complete(main(journal))
        path = journal.path
    loop.close()
    assert run.classes() == [expected]
    assert read(path).verdict(1, 1).fate is (Fate.REPLIED if expected == "accepted" else Fate.UNCERTAIN)


def test_a_process_that_stood_still_accuses_no_provider(sink, tmp_path):
    server = sink(Rule("DOT", recipient="r9", delay=0.4), hide=frozenset({"CHUNKING"}))
    loop = Leaping()

    async def work(wire, run):
        wire.submit([letter(number) for number in range(1, 9)], run.note)
        await wire.drain()
        wire.submit([letter(9)], run.note)
        await asyncio.sleep(0.1)
        loop.ahead += 1.5
        await wire.drain()
        assert not wire._shares.is_slow("")

    run = using(loop, local(server.port), tmp_path, work, timeouts=Timeouts())
    loop.close()
    assert run.classes() == ["accepted"] * 9


@contextlib.contextmanager
def dripping(at):
    """A server that speaks as usual up to the command `at`, and then says a reply that goes on octet by octet."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve(connection):
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as lines:
            connection.sendall(b"220 drip\r\n")
            for line in lines:
                if line.startswith(at):
                    while not over.wait(0.05):
                        connection.sendall(b"2")
                connection.sendall(b"250-drip\r\n250 PIPELINING\r\n" if line.startswith(b"EHLO") else b"250 ok\r\n")

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listening.getsockname()[1]
    over.set()
    listening.close()


@pytest.mark.parametrize(("at", "phase"), [(b"EHLO", "(ehlo)"), (b"MAIL", Phase.MAIL), (b"RCPT", Phase.RCPT)])
def test_a_reply_that_comes_drop_by_drop_is_not_waited_for_longer(loop, tmp_path, at, phase):
    with dripping(at) as port:
        began = time.monotonic()
        # Only what comes drop by drop may be found slow, on a busy machine too.
        run = send(
            loop,
            local(port),
            [letter()],
            tmp_path,
            timeouts=dataclasses.replace(FAST, connect=4, greeting=4, setup=6),
        )
        assert time.monotonic() - began < 8
    if at == b"EHLO":
        assert run.classes() == ["not_sent"]
        assert phase in run.trouble
    else:
        assert run.classes() == ["transient"]
        assert run.outcomes[1].phase is phase
        assert run.verdict(1).fate is Fate.NOT_SENT


def test_a_host_that_answers_nothing_at_all(loop, tmp_path):
    with contextlib.ExitStack() as stack:
        # The kernel drops what a full queue of connections has no room for, as a route into nowhere does.
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        began = time.monotonic()
        relay = local(listening.getsockname()[1])
        run = send(loop, relay, [letter()], tmp_path, timeouts=dataclasses.replace(FAST, connect=0.3))
        assert time.monotonic() - began < 8
    assert run.classes() == ["not_sent"]
    assert "no connection within 0.3 s" in run.trouble


def test_a_name_server_that_fails(tmp_path, monkeypatch):
    def fail(*_args, **_more):
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    loop = asyncio.new_event_loop()
    run = send(loop, Relay("relay.example.org", 25, Tls.NONE), [letter()], tmp_path)
    loop.close()
    assert run.classes() == ["not_sent"]
    assert "Temporary failure" in run.trouble


class Dawdler:
    """A server in the test's own loop that answers the second letter's commands a second before it would be too late.

    At `hangs` it says nothing any more, and the loop's clock goes on.
    """

    def __init__(self, loop, hangs):
        self.loop, self.hangs = loop, hangs
        self.letters = 0
        self.began = None
        self.over = asyncio.Event()

    async def serve(self, reader, writer):
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.over.set()

    async def _talk(self, reader, writer):
        replies = {b"DATA": b"354 go on\r\n", b"QUIT": b"221 bye\r\n"}
        writer.write(b"220 slow\r\n")
        while line := await reader.readline():
            word = line[:4]
            if word == b"MAIL":
                self.letters += 1
            if word == b"RCPT" and self.letters == 1:
                # So that the second one begins with RSET.
                writer.write(b"550 5.1.1 no such user\r\n")
                continue
            if self.letters and word != b"QUIT":
                await self._dawdle(reader, Phase[word.decode()])
            writer.write(replies.get(word, b"250 ok\r\n"))
            if word == b"DATA":
                await reader.readuntil(b"\r\n.\r\n")
                await self._dawdle(reader, Phase.DOT)
                writer.write(b"250 taken\r\n")

    async def _dawdle(self, reader, phase):
        if phase is Phase.RSET:
            self.began = self.loop.now
        elif self.began is None:
            return
        for _ in range(int(Timeouts().reply(phase)) - 1):
            await self._second()
        while phase is self.hangs and not reader.at_eof():
            await self._second()

    async def _second(self):
        self.loop.now += 1
        # The wire looks at the time twice a second.
        for _ in range(4):
            await asyncio.sleep(0)


STEPS = [Phase.RSET, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT]


@pytest.mark.parametrize("hangs", [None, *STEPS], ids=str)
def test_a_transaction_is_over_within_the_sum_of_its_time_outs(tmp_path, hangs):
    loop, run = Stopped(), Run()
    relay = Dawdler(loop, hangs)
    steps = STEPS if hangs is None else STEPS[: STEPS.index(hangs) + 1]
    longest = sum(Timeouts().reply(phase) for phase in steps)

    async def main(journal):
        server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        wire = Wire(local(port, window=0), journal=journal, helo_name="client.example.org", timeouts=Timeouts())
        wire.submit([letter(1), letter(2)], run.note, regate=regated)
        await wire.drain()
        assert longest - 2 * len(steps) <= loop.now - relay.began <= longest + 2
        await wire.close()
        server.close()
        await relay.over.wait()

    async def regated(one):
        return one.good_until

    with Journal(tmp_path, sender_id=1) as journal:
        loop.run_until_complete(main(journal))
    loop.close()
    ending = "accepted" if hangs is None else "uncertain" if hangs is Phase.DOT else "transient"
    assert run.classes() == ["hard", ending]


def test_no_transaction_takes_longer_than_33_minutes():
    times = Timeouts()
    assert sum(times.reply(phase) for phase in [*STEPS, Phase.BODY]) == times.transaction == 33 * 60


# More than the kernel takes at once from this side and for the other.
WIDE = Segments((b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 500_000,), ())


class Sipper:
    """A relay in the test's own loop that takes each body only at the last moment, and answers no dot in time.

    It refuses the first letter at once, so that the next one begins with RSET.
    """

    def __init__(self, loop, *, chunking):
        self.loop, self.chunking = loop, chunking
        self.letters = self.bodies = 0
        self.at_work = False  # no time passes meanwhile
        self.phase = None  # asks for the phase of the letter that the wire waits for
        self.began = None
        self.tasks = []

    async def serve(self, reader, writer):
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(asyncio.CancelledError):
            await self._talk(reader, writer)
        writer.transport.abort()
        await asyncio.sleep(0)  # in which it is closed

    async def _talk(self, reader, writer):
        writer.write(b"220 slow\r\n")
        while line := await reader.readline():
            word = line[:4]
            self.letters += word == b"MAIL"
            if word == b"EHLO":
                writer.write(b"250-slow\r\n" + b"250-CHUNKING\r\n" * self.chunking + b"250 PIPELINING\r\n")
            elif word == b"BDAT":
                await self._swallow(reader, writer, int(line.split()[1]))
            elif self.letters == 1 and word in {b"RCPT", b"DATA"}:
                writer.write(b"550 5.1.1 no such user\r\n" if word == b"RCPT" else b"503 5.5.1 no recipient\r\n")
            elif not self.bodies:
                await self._dawdle(Phase[word.decode()])
                await self._say(writer, b"354 go on\r\n" if word == b"DATA" else b"250 ok\r\n")
                if word == b"DATA":
                    await self._swallow(reader, writer, None)

    async def _swallow(self, reader, writer, size):
        if self.letters > 1:
            # Of a body by DATA its own time-out, of one by BDAT that of its reply.
            await asyncio.sleep(Timeouts().reply(Phase.BODY if size is None else Phase.DOT) - 10)
        self.at_work = True
        if size is None:
            while await reader.readline() != b".\r\n":
                pass
        else:
            await reader.readexactly(size)
        self.at_work = False
        if self.letters == 1:
            writer.write(b"503 5.5.1 no recipient\r\n")
        else:
            self.bodies += 1

    async def _dawdle(self, phase):
        if phase is Phase.RSET and self.began is None:
            self.began = self.loop.now
        if self.began is not None:
            await asyncio.sleep(Timeouts().reply(phase) - 5)

    async def _say(self, writer, reply):
        """However long the kernel takes for it."""
        before, self.at_work = self.phase(), True
        writer.write(reply)
        while self.phase() == before:  # noqa: ASYNC110  # the wire tells nobody
            await asyncio.sleep(0)
        self.at_work = False


@pytest.mark.parametrize("manner", ["DATA", "BDAT", "BDAT in a window"])
def test_a_large_body_that_is_taken_at_the_last_moment_makes_a_transaction_no_longer(tmp_path, manner):
    loop, run = Stopped(), Run()
    wide = Rendition(eight_bit=WIDE, seven_bit=WIDE)
    relay, longest = Sipper(loop, chunking=manner != "DATA"), Timeouts().transaction

    async def main(journal):
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        listening.bind(("127.0.0.1", 0))
        server = await asyncio.start_server(relay.serve, sock=listening, limit=1 << 12)
        made = local(listening.getsockname()[1], window=2 if manner == "BDAT in a window" else 1)
        wire = Wire(made, journal=journal, helo_name="client.example.org", timeouts=Timeouts(), trial=0)
        relay.phase = lambda: [one.under_way[0].phase for one in wire._conversations]
        wire.submit([letter(), *(letter(number, rendition=wide, gate=60) for number in range(2, 7))], run.note)
        while 2 not in run.outcomes:
            loop.now += relay.began is not None and not relay.at_work
            for _ in range(8):
                await asyncio.sleep(0)
        assert 0.9 * longest < loop.now - relay.began <= longest + 2
        await wire.close()
        server.close()
        for task in relay.tasks:
            task.cancel()
        await asyncio.wait(relay.tasks)

    with Journal(tmp_path, sender_id=1) as journal:
        loop.run_until_complete(main(journal))
    loop.close()
    assert run.outcomes[2].reply_class.value == "uncertain"
    assert relay.bodies >= 1
