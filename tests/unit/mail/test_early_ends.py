"""Sessions that end before their first letter, limits that are lowered twice, and words that no log may have."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from dataclasses import replace

import pytest

from service.domain.replies import Phase
from service.mail.journal import Journal
from service.mail.loop import new_event_loop
from service.mail.wire import Wire
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.mail.sending import PATIENT, letter, local

LOOPS = [new_event_loop, asyncio.new_event_loop]


class Relay:
    """Says hello, `after` EHLO what it is told, and, where it is well, takes each letter; it counts its sessions."""

    def __init__(self, after, well_from):
        self._after, self._well_from = after, well_from
        self.sessions = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port = self._socket.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._socket.close()

    def _serve(self):
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError:
                return
            self.sessions += 1
            threading.Thread(target=self._talk, args=(one, self.sessions), daemon=True).start()

    def _talk(self, one, number):
        with one, one.makefile("rb") as lines:
            one.sendall(b"220 hello\r\n")
            lines.readline()
            if number < self._well_from:
                one.sendall(self._after)
                one.shutdown(socket.SHUT_WR)
                lines.read()
                return
            one.sendall(b"250 hello\r\n")
            while line := lines.readline():
                if line.startswith(b"DATA"):
                    one.sendall(b"354 go on\r\n")
                    while lines.readline() != b".\r\n":
                        pass
                one.sendall(b"250 ok\r\n")


def run(folder, work, loop=new_event_loop):
    """What `work` returns, given a journal."""
    with Journal(folder, sender_id=1) as journal:
        made = loop()
        try:
            return made.run_until_complete(work(journal))
        finally:
            made.close()


@pytest.mark.parametrize("loop", LOOPS, ids=["uvloop", "asyncio"])
@pytest.mark.parametrize("after", [b"250 hello\r\n421 4.3.2 busy\r\n", b"250 hello\r\n"], ids=["421", "nothing"])
def test_a_session_that_is_over_before_it_begins_is_replaced_by_the_next(tmp_path, after, loop):
    with Relay(after, well_from=2) as relay:

        async def send(journal):
            wire = Wire(local(relay.port, connections=1), journal=journal, helo_name="c.example.org", timeouts=PATIENT)
            outcomes = []
            async with asyncio.timeout(15):
                while not any(one.reply_class.value == "accepted" for one in outcomes):
                    await wire.room(1)
                    wire.submit([letter(len(outcomes) + 1)], outcomes.append)
                    await wire.drain()
            await wire.close()

        run(tmp_path, send, loop)


@pytest.mark.parametrize("loop", LOOPS, ids=["uvloop", "asyncio"])
def test_a_relay_that_lets_in_and_closes_at_once_is_not_dialled_again_and_again(tmp_path, loop):
    with Relay(b"250 hello\r\n", well_from=10**9) as relay:

        async def wait(journal):
            wire = Wire(local(relay.port, connections=2), journal=journal, helo_name="c.example.org", timeouts=PATIENT)
            outcomes = []

            async def go_on():
                while True:
                    await wire.room(100)
                    wire.submit([letter(len(outcomes) + 1)], outcomes.append)
                    await wire.drain()

            with pytest.raises(TimeoutError):
                await asyncio.wait_for(go_on(), 3)
            trouble = wire.trouble
            await wire.close()
            return trouble

        assert "closed the connection" in run(tmp_path, wait, loop)
        assert relay.sessions < 20


def test_a_session_more_than_the_relay_likes_that_ends_unused_holds_up_no_other(tmp_path):
    with SmtpSink(tmp_path / "ledger") as sink:

        async def send(journal):
            wire = Wire(local(sink.port, connections=2), journal=journal, helo_name="c.example.org", timeouts=PATIENT)
            outcomes = []
            await wire.room(1)
            for _ in range(8):
                wire._opener.set_back(Phase.MAIL, "it was closed", unused=True)
            wire.submit([letter(number) for number in range(1, 20)], outcomes.append)
            await wire.drain()
            waits, trouble = wire._opener._retry_at > asyncio.get_running_loop().time(), wire.trouble
            await wire.close()
            return waits, trouble, {one.reply_class.value for one in outcomes}

        assert run(tmp_path, send) == (False, None, {"accepted"})


def test_a_limit_that_is_lowered_twice_is_kept(tmp_path):
    with SmtpSink(tmp_path / "ledger", [Rule("DOT", delay=0.3)]) as sink:

        async def send(journal):
            relay = local(sink.port, connections=5, window=0)
            wire = Wire(relay, journal=journal, helo_name="c.example.org", timeouts=PATIENT)
            answered = asyncio.Event()
            wire.submit([letter(number, gate=30) for number in range(1, 60)], lambda _outcome: answered.set())
            await answered.wait()
            wire.limit(3)
            wire.limit(2)
            await asyncio.sleep(1.5)
            busy = sum(bool(one.under_way) for one in wire._conversations)
            wire.stop()
            await wire.close()
            return busy

        assert run(tmp_path, send) <= 2


PASSWORD = "s3cret-pass"
SAID = base64.b64encode(f"\0news\0{PASSWORD}".encode()).decode()


@pytest.mark.parametrize("echo", [SAID, SAID[:18], PASSWORD], ids=["whole", "its beginning", "in clear"])
def test_a_relay_that_echoes_the_login_has_it_told_to_nobody(tmp_path, echo):
    rules = [Rule("AUTH", f'501 5.5.4 Syntax error: "AUTH PLAIN {echo}"')]
    with SmtpSink(tmp_path / "ledger", rules, users={"news": PASSWORD}) as sink:

        async def send(journal):
            relay = replace(local(sink.port), username="news", password=PASSWORD)
            wire = Wire(relay, journal=journal, helo_name="c.example.org", timeouts=PATIENT)
            outcomes = []
            wire.submit([letter(1)], outcomes.append)
            await wire.drain()
            told = [wire.trouble, outcomes[0].text]
            await wire.close()
            return told

        for words in run(tmp_path, send):
            assert '501 5.5.4 Syntax error: "AUTH PLAIN <secret>"' in words


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("jane.o'neil@example.net", "jane.o'neil@example.net"),
        ("jane=doe@example.net", "jane=doe@example.net"),
        ("JANE@example.net", "jane@example.net"),
        ("novak@example.net", "petr.novak@example.net.example.org"),
    ],
)
def test_a_readers_address_is_cut_out_of_a_reply_however_it_is_written(tmp_path, address, said):
    rules = [Rule("RCPT", f"550 5.1.1 <{said}>: user unknown")]
    with SmtpSink(tmp_path / "ledger", rules) as sink:

        async def send(journal):
            wire = Wire(local(sink.port), journal=journal, helo_name="c.example.org", timeouts=PATIENT)
            outcomes = []
            wire.submit([letter(1, address)], outcomes.append)
            await wire.drain()
            await wire.close()
            return outcomes[0].text

        assert run(tmp_path, send) == "5.1.1 <<address>>: user unknown"


def test_a_host_that_no_resolver_takes_is_trouble_like_any_other(tmp_path):
    async def wait(journal):
        relay = replace(local(25), host="mail..example.org")
        wire = Wire(relay, journal=journal, helo_name="c.example.org", timeouts=PATIENT)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.room(1), 1)
        trouble = wire.trouble
        await wire.close()
        return trouble

    assert "no connection" in run(tmp_path, wait)


def test_a_session_that_offers_no_login_is_no_login_that_was_refused(tmp_path):
    rules = [Rule("EHLO", "502 5.5.1 what?", times=1)]
    with SmtpSink(tmp_path / "ledger", rules, users={"news": PASSWORD}) as sink:

        async def wait(journal):
            relay = replace(local(sink.port), username="news", password=PASSWORD)
            wire = Wire(relay, journal=journal, helo_name="c.example.org", timeouts=PATIENT)
            try:
                return await asyncio.wait_for(wire.room(1), 10)
            finally:
                await wire.close()

        assert run(tmp_path, wait) == 1
