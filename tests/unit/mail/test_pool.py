"""Sessions between batches, gates that run out, stopping: what the caller of the wire relies on."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import resource
import time

import pytest

from service.clock import suspended_monotonic
from service.domain.errors import UnavailableError
from service.domain.replies import Reply, ReplyClass
from service.mail import autopsy, conversation, manner
from service.mail import wire as wires
from service.mail.autopsy import Fate
from service.mail.journal import Journal
from service.mail.pen import Pen
from service.mail.wire import Wire
from tests.smtp_sink import Rule
from tests.unit.mail.sending import PATIENT, Run, letter, local, send, until, using

PIPELINED = frozenset({"CHUNKING"})
LOCKSTEP = frozenset({"CHUNKING", "PIPELINING"})
CHUNKED_LOCKSTEP = frozenset({"PIPELINING"})
LATE_BODIES = pytest.mark.parametrize("hide", [PIPELINED, LOCKSTEP, CHUNKED_LOCKSTEP])


# Room


def test_room_is_there_when_a_session_is(loop, sink, tmp_path):
    server = sink(Rule("CONNECT", delay=0.2))

    async def work(wire, run):
        started = time.monotonic()
        assert 1 <= await wire.room(10) <= 10
        assert time.monotonic() - started >= 0.2
        assert await wire.room(1) == 1
        assert server.sessions == 5

    using(loop, local(server.port, connections=5), tmp_path, work)


def test_one_letter_needs_one_session(loop, sink, tmp_path):
    server = sink()

    async def work(wire, run):
        assert await wire.room(1) == 1
        wire.submit([letter()], run.note)
        await wire.drain()

    using(loop, local(server.port, connections=5), tmp_path, work)
    assert server.sessions == 1


@pytest.mark.parametrize("hide", [PIPELINED, frozenset()])
def test_no_letter_waits_longer_than_its_gate_however_slow_the_relay(loop, sink, tmp_path, hide):
    server = sink(Rule("DOT", delay=0.25), hide=hide)

    async def work(wire, run):
        number = 0
        while number < 12:
            room = min(await wire.room(100), 12 - number)
            wire.submit([letter(number + n, gate=1) for n in range(1, room + 1)], run.note)
            number += room
        await wire.drain()

    run = using(loop, local(server.port, connections=2), tmp_path, work)
    assert run.classes() == ["accepted"] * 12


def test_a_stuck_reply_holds_back_no_gate(loop, sink, tmp_path):
    server = sink(Rule("DOT", recipient="r1@", then="hang"), hide=PIPELINED)

    async def work(wire, run):
        wire.submit([letter(1)], run.note)
        await until(lambda: wire.past_dot == 1, 20)
        for number in range(2, 10):
            assert await asyncio.wait_for(wire.room(1), 5) == 1
            wire.submit([letter(number)], run.note)
        await until(lambda: len(run.outcomes) == 8, 20)
        assert wire.in_flight == 1
        assert wire.past_dot == 1
        assert sorted(run.outcomes) == list(range(2, 10))
        server.drop_all()
        await wire.drain()

    run = using(loop, local(server.port, connections=2), tmp_path, work)
    assert run.classes() == ["uncertain"] + ["accepted"] * 8


def test_room_waits_for_a_relay_that_is_away_and_says_why(loop, sink, tmp_path):
    server = sink()
    server.stop()

    async def work(wire, run):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.room(), 0.3)
        assert wire.trouble is not None
        assert "no connection" in wire.trouble
        server.start()
        assert await asyncio.wait_for(wire.room(), 3) >= 1
        assert wire.trouble is None
        wire.submit([letter()], run.note)
        await wire.drain()

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["accepted"]


def test_a_relay_that_takes_nothing_is_not_hammered(loop, sink, tmp_path):
    server = sink(Rule("MAIL", then="drop"), hide=PIPELINED)

    async def work(wire, run):
        end, number = time.monotonic() + 1.5, 0
        while time.monotonic() < end:
            try:
                room = await asyncio.wait_for(wire.room(10), 0.2)
            except TimeoutError:
                continue
            wire.submit([letter(number + n, gate=1) for n in range(room)], run.note)
            number += room
            await wire.drain()

    run = using(loop, local(server.port), tmp_path, work)
    assert server.sessions <= 6
    assert set(run.classes()) <= {"not_sent", "transient"}
    assert run.classes().count("transient") <= 3


# Between batches


@pytest.mark.parametrize("how", ["drop", "reset", "half"])
def test_a_session_that_died_while_nothing_ran_is_noticed_before_it_is_used(loop, sink, tmp_path, how):
    server = sink(hide=PIPELINED)
    run = Run()
    with Journal(tmp_path, sender_id=1) as journal:
        wire = Wire(local(server.port), journal=journal, helo_name="x.example", timeouts=PATIENT)

        async def batch(number):
            wire.submit([letter(number)], run.note)
            await wire.drain()

        loop.run_until_complete(batch(1))
        loop.run_until_complete(batch(2))
        assert server.sessions == 1
        server.drop_all(how)
        time.sleep(0.05)
        loop.run_until_complete(batch(3))
        loop.run_until_complete(wire.close())
    assert run.classes() == ["accepted"] * 3
    assert wire.trouble is None
    assert server.sessions == 2


def test_a_goodbye_to_an_idle_session_is_no_failure(loop, sink, tmp_path):
    server = sink(hide=PIPELINED)

    async def work(wire, run):
        wire.submit([letter(1)], run.note)
        await wire.drain()
        server._call(lambda: [(s._say("421 4.4.2 timeout"), s._flush(), s.end("drop")) for s in server.open_sessions])
        await asyncio.sleep(0.1)
        assert wire.trouble is None
        wire.submit([letter(2)], run.note)
        await wire.drain()

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["accepted"] * 2


def test_a_session_that_dies_the_moment_it_is_used_costs_nothing(loop, sink, tmp_path):
    # The relay closes an idle session without a word, while our MAIL is already on its way.
    server = sink(Rule("MAIL", recipient="b-2@", times=1, then="reset"), hide=PIPELINED)

    async def work(wire, run):
        for number in (1, 2):
            wire.submit([letter(number)], run.note)
            await wire.drain()
            assert wire.trouble is None

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["accepted"] * 2


def test_an_unused_session_is_ended_politely(loop, sink, tmp_path):
    server = sink()

    async def work(wire, run):
        wire.submit([letter(1)], run.note)
        await wire.drain()
        await asyncio.sleep(1.3)
        assert server.commands[-1] == "QUIT"
        assert not server.open_sessions
        wire.submit([letter(2)], run.note)
        await wire.drain()

    run = using(loop, local(server.port), tmp_path, work, timeouts=dataclasses.replace(PATIENT, idle=0.2))
    assert run.classes() == ["accepted"] * 2


def test_closing_says_quit_on_every_session(loop, sink, tmp_path):
    server = sink(Rule("QUIT", then="hang", times=1))

    async def work(wire, run):
        await wire.room()
        wire.submit([letter(n) for n in range(1, 20)], run.note)
        await wire.drain()

    using(loop, local(server.port, connections=3), tmp_path, work)
    assert server.commands.count("QUIT") == server.sessions == 3
    assert asyncio.all_tasks(loop) == set()


def test_after_a_long_pause_the_first_letter_goes_by_data(loop, sink, tmp_path):
    # The session looks alive from here; a whole letter written to it would be uncertain.
    server = sink(Rule("MAIL", skip=1, times=1, then="reset"))

    async def work(wire, run):
        for number in (1, 2, 3):
            wire.submit([letter(number)], run.note)
            await wire.drain()
            assert wire.trouble is None
            await asyncio.sleep(1.1)

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["accepted"] * 3
    assert server.sessions == 2
    assert [word for word in map(str.split, server.commands) if word[0] in {"DATA", "BDAT"}][-1] == ["DATA"]


# Sessions that end

ACCEPTED_OR_NOT = {"accepted", "uncertain"}


@pytest.mark.parametrize("letters", [1, 2, 3, 4, 7, 20])
def test_a_relay_that_ends_sessions_after_so_many_letters_leaves_nothing_uncertain_once_that_is_known(
    loop, sink, tmp_path, letters
):
    server = sink(letters_per_session=letters)

    async def work(wire, run):
        wire.submit([letter(n) for n in range(1, letters + 6)], run.note)
        await wire.drain()
        learning = run.classes()
        assert learning.count("uncertain") <= 4
        assert set(learning) <= ACCEPTED_OR_NOT
        wire.submit([letter(n) for n in range(101, 161)], run.note)
        await wire.drain()

    run = using(loop, local(server.port), tmp_path, work, trial=manner.TRIAL)
    later = [run.outcomes[number].reply_class.value for number in range(101, 161)]
    assert later == ["accepted"] * 60
    taken = [entry.recipient for entry in server.entries()]
    assert len(taken) == len(set(taken))
    uncertain = run.classes().count("uncertain")
    assert uncertain == 0 if letters == 1 else uncertain <= 4
    if letters > 3:
        assert [command.split()[0] for command in server.commands].count("BDAT") >= 60 * (letters - 3) // letters


def test_a_single_end_costs_later_sessions_next_to_nothing(loop, sink, tmp_path):
    server = sink()

    async def work(wire, run):
        wire.submit([letter(n) for n in range(1, 11)], run.note)
        await wire.drain()
        server.set_rules(Rule("MAIL", times=1, then="drop"))
        wire.submit([letter(n) for n in range(11, 51)], run.note)
        await wire.drain()

    run = using(loop, local(server.port), tmp_path, work, trial=manner.TRIAL)
    assert set(run.classes()) <= ACCEPTED_OR_NOT
    words = [command.split()[0] for command in server.commands]
    assert words.count("DATA") <= 2 * manner.TRIAL + 3


# Gates


def test_a_letter_whose_gate_has_run_out_in_the_queue_is_given_back(loop, sink, tmp_path):
    server = sink(hide=PIPELINED)
    run = send(loop, local(server.port), [letter(1), letter(2, gate=-0.1), letter(3)], tmp_path)
    assert run.classes() == ["accepted", "not_sent", "accepted"]
    assert run.verdict(2).fate is Fate.NOT_SENT
    assert not [command for command in server.commands if "b-2@" in command]


@pytest.fixture
def leap(monkeypatch):
    """Lets the clock of the gates leap by a minute, as where the machine was suspended: what had less is over."""

    def leap():
        for module in (conversation, wires):
            monkeypatch.setattr(module, "suspended_monotonic", lambda: suspended_monotonic() + 60)

    return leap


def keeps_the_second_waiting(hide, **more):
    """The rule of a relay that takes its time before it wants the body of the second letter."""
    return Rule("RCPT" if hide == CHUNKED_LOCKSTEP else "DATA", recipient="r2@", delay=60, **more)


def send_with_a_late_one(loop, server, tmp_path, leap, regate):
    """Send three letters, of which the second has its go-ahead when its gate is over, and only its."""

    async def work(wire, run):
        wire.submit([letter(1, gate=1000), letter(2, gate=50), letter(3, gate=1000)], run.note, regate=regate)
        await until(lambda: server.waiting, 20)
        leap()
        server.hurry()
        await wire.drain()

    return using(loop, local(server.port), tmp_path, work)


@LATE_BODIES
def test_a_late_go_ahead_is_gated_again(loop, sink, tmp_path, leap, hide):
    server = sink(keeps_the_second_waiting(hide), hide=hide)
    asked = []

    async def regate(late):
        asked.append(late.delivery_id)
        await asyncio.sleep(0.01)
        return suspended_monotonic() + 120

    run = send_with_a_late_one(loop, server, tmp_path, leap, regate)
    assert run.classes() == ["accepted"] * 3
    assert asked == [2]


async def _shut(_letter):
    return None


async def _broken(_letter):
    raise RuntimeError("the database is away")


async def _late(_letter):
    return suspended_monotonic() + 59.9  # after the leap


@LATE_BODIES
@pytest.mark.parametrize("regate", [_shut, _broken, _late, None])
def test_a_gate_that_stays_shut_lets_no_dot_pass(loop, sink, tmp_path, leap, hide, regate):
    server = sink(keeps_the_second_waiting(hide), hide=hide)
    run = send_with_a_late_one(loop, server, tmp_path, leap, regate)
    assert run.classes() == ["accepted", "not_sent", "accepted"]
    assert [entry.recipient for entry in server.entries()] == ["r1@example.net", "r3@example.net"]
    assert run.verdict(2).fate is Fate.NOT_SENT
    assert run.trouble is None
    assert server.sessions == 2


@LATE_BODIES
def test_a_worker_without_memory_for_a_letter_that_was_gated_again_breaks_the_connection_at_once(
    loop, sink, tmp_path, leap, hide, monkeypatch
):
    def put_letter(pen, transaction):
        if transaction.letter.delivery_id == 2 and not failed:
            failed.append(transaction)
            raise MemoryError
        put(pen, transaction)

    async def regate(_letter):
        await asyncio.sleep(0.01)
        return suspended_monotonic() + 120

    put, failed = Pen.put_letter, []
    monkeypatch.setattr(Pen, "put_letter", put_letter)
    loop.set_exception_handler(lambda *_: None)
    server = sink(keeps_the_second_waiting(hide, times=1), hide=hide)
    run = send_with_a_late_one(loop, server, tmp_path, leap, regate)
    assert run.classes() == ["accepted"] * 3
    assert failed
    assert server.sessions == 2


def test_a_gate_that_never_answers_is_bounded(loop, sink, tmp_path, leap):
    server = sink(Rule("DATA", recipient="r1@", delay=60), hide=PIPELINED)
    asked = []

    async def never(late):
        asked.append(late.delivery_id)
        await asyncio.sleep(1.5)
        return suspended_monotonic() + 120

    async def work(wire, run):
        wire.submit([letter(1, gate=50)], run.note, regate=never)
        await until(lambda: server.waiting, 20)
        leap()
        server.hurry()
        await wire.drain()
        await asyncio.sleep(1.5)

    run = using(loop, local(server.port), tmp_path, work, timeouts=dataclasses.replace(PATIENT, body=0.4))
    assert run.classes() == ["not_sent"]
    assert asked == [1]
    assert server.entries() == []


# Stopping


@pytest.mark.parametrize("hide", [PIPELINED, LOCKSTEP, frozenset(), CHUNKED_LOCKSTEP])
def test_stopping_gives_back_what_is_unsent_and_hears_out_the_rest(loop, sink, tmp_path, hide):
    server = sink(Rule("DOT", delay=60), hide=hide)
    under_way = 2 if hide else 8

    async def work(wire, run):
        wire.submit([letter(n, gate=30) for n in range(1, 21)], run.note)
        await until(lambda: wire.past_dot == under_way, 20)
        wire.stop()
        assert wire.in_flight == wire.past_dot
        assert len(run.outcomes) == 20 - wire.past_dot
        server.set_rules()
        server.hurry()
        await wire.drain()
        with pytest.raises(UnavailableError):
            await wire.room()
        wire.submit([letter(99)], run.note)
        await wire.drain()

    run = using(loop, local(server.port, connections=2), tmp_path, work)
    accepted = run.classes().count("accepted")
    assert accepted == len(server.entries()) == under_way
    assert run.classes().count("not_sent") == 21 - accepted


def test_stopping_while_the_relay_wants_a_body(loop, sink, tmp_path):
    server = sink(Rule("DATA", delay=60), hide=PIPELINED)

    async def work(wire, run):
        wire.submit([letter(1)], run.note)
        await until(lambda: server.waiting, 20)
        wire.stop()
        await wire.drain()
        server.hurry()
        await asyncio.sleep(0.2)

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["not_sent"]
    assert server.entries() == []
    assert "lone-dot" not in server.counts


def test_stopping_while_sessions_start(loop, sink, tmp_path):
    server = sink(Rule("CONNECT", delay=60))

    async def work(wire, run):
        wire.submit([letter(1)], run.note)
        await until(lambda: server.waiting, 20)
        wire.stop()
        assert wire.in_flight == 0

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["not_sent"]
    assert asyncio.all_tasks(loop) == set()


# The journal


@contextlib.contextmanager
def full_disk(journal):
    """The journal's file may not grow, and is nearly full."""
    while journal.records < 31_742:
        journal.dot(999, journal.records)
        journal.reply(999, journal.records, Reply(250, None, ""), ReplyClass.ACCEPTED)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("hide", [PIPELINED, frozenset()])
def test_a_full_disk_stops_sending_before_the_dot(loop, sink, tmp_path, hide):
    server = sink(hide=hide)
    run = Run()

    async def main(journal):
        wire = Wire(local(server.port), journal=journal, helo_name="x.example", timeouts=PATIENT)
        with full_disk(journal):
            wire.submit([letter(n) for n in range(1, 4)], run.note)
            await wire.drain()
        assert server.entries() == []
        assert await wire.room(1) == 1
        wire.submit([letter(4)], run.note)
        await wire.drain()
        await wire.close()

    with Journal(tmp_path, sender_id=1) as journal:
        loop.run_until_complete(main(journal))
        path = journal.path
    assert run.classes() == ["not_sent"] * 3 + ["accepted"]
    assert "no room for the delivery journal" in run.outcomes[1].text
    assert autopsy.read(path).verdict(1, 1).fate is Fate.NOT_SENT


def test_a_full_disk_leaves_no_room_for_gates(loop, sink, tmp_path):
    server = sink()

    async def main(journal):
        wire = Wire(local(server.port), journal=journal, helo_name="x.example", timeouts=PATIENT)
        with full_disk(journal):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wire.room(), 0.2)
            assert "no room for the delivery journal" in wire.trouble
        assert await asyncio.wait_for(wire.room(), 2) >= 1
        assert wire.trouble is None
        await wire.close()

    with Journal(tmp_path, sender_id=1) as journal:
        loop.run_until_complete(main(journal))
