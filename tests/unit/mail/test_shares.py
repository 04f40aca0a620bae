"""Providers share the sessions: one that takes its time, or asks for patience, does not hold up the others."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import Counter, deque

import pytest

from service.domain.replies import Reply
from service.mail import wire as wires
from service.mail.shares import Shares
from service.mail.transaction import Transaction
from tests.smtp_sink import Rule
from tests.unit.mail.sending import PATIENT, letter, local, until, using

WAYS = pytest.mark.parametrize("hide", [frozenset(), frozenset({"CHUNKING"}), frozenset({"CHUNKING", "PIPELINING"})])
SILENCE = dataclasses.replace(PATIENT, mail=20, rcpt=20, data=20, body=20, dot=20)
OVER_A_TICK = 0.6  # seconds, after which the wire has looked once more whether it may begin with a letter
QUICK, SLOW, OTHER = "quick.example", "slow.example", "other.example"


def of(provider, number, gate=5.0):
    return letter(number, f"r{number}@{provider}", gate=gate)._replace(provider=provider)


def accepted(run, numbers):
    return all(number in run.outcomes and run.outcomes[number].code == 250 for number in numbers)


# One provider among others


@WAYS
@pytest.mark.parametrize("at", ["RCPT", "DOT"])
def test_a_provider_in_a_tarpit_leaves_a_session_to_the_others(loop, sink, tmp_path, hide, at):
    server = sink(Rule(at, recipient=SLOW, then="hang"), hide=hide)

    # What stands behind the first silent letters in their sessions when the silence begins waits with them.
    behind = 2 * (1 if hide else 3)

    async def work(wire, run):
        wire.submit([of(QUICK, 1), *(of(SLOW, n) for n in range(2, 6)), of(QUICK, 6)], run.note)
        await asyncio.sleep(0.1)
        for start in range(101, 401, 30):
            # Old enough for a machine that stands still for a second: a letter whose gate is over comes back, too.
            group = [of(QUICK, n, gate=3) if n % 3 else of(SLOW, n, gate=3) for n in range(start, start + 30)]
            wire.submit(group, run.note)
            await asyncio.sleep(0.05)
        quick = [n for n in range(101, 401) if n % 3]
        await until(lambda: sum(accepted(run, [n]) for n in quick) >= len(quick) - behind, 10)
        await until(lambda: wire.in_flight <= 8 + behind, 10)
        slow = [run.outcomes[n] for n in range(101, 401) if n % 3 == 0 and n in run.outcomes]
        assert len(slow) >= 90
        assert all(outcome.busy and outcome.reply_class.value == "not_sent" for outcome in slow)
        assert {outcome.provider for outcome in slow} == {SLOW}
        assert await asyncio.wait_for(wire.room(10), 5) >= 1
        server.set_rules()
        server.drop_all()

    using(loop, local(server.port, connections=3), tmp_path, work, timeouts=SILENCE)


def test_two_that_fall_silent_at_once_give_one_session_back(loop, sink, tmp_path):
    server = sink(*(Rule("RCPT", recipient=name, then="hang") for name in (SLOW, OTHER)), hide=frozenset({"CHUNKING"}))

    async def work(wire, run):
        wire.submit([of(SLOW, 1), of(OTHER, 2)], run.note)
        await asyncio.sleep(0.1)
        wire.submit([of(QUICK, 3), of(SLOW, 4), of(OTHER, 5), of(QUICK, 6)], run.note)
        await until(lambda: accepted(run, [3, 6]), 8)
        given_back = [run.outcomes[n] for n in (1, 2, 4, 5) if n in run.outcomes]
        assert given_back
        assert all(outcome.busy for outcome in given_back)
        server.set_rules()
        server.drop_all()

    run = using(loop, local(server.port, connections=2), tmp_path, work, timeouts=SILENCE)
    assert not any(outcome.past_dot for outcome in run.outcomes.values() if outcome.code != 250)


def test_behind_a_slow_letter_no_other_provider_is_sent_on_the_same_session(loop, sink, tmp_path):
    server = sink(Rule("DOT", recipient=SLOW, delay=60))

    async def work(wire, run):
        wire.submit([of(QUICK, 1)], run.note)
        await wire.drain()
        wire.submit([of(SLOW, 2)], run.note)
        await until(lambda: wire._shares.is_slow(SLOW), 20)
        server.hurry()
        await wire.drain()
        wire.submit([of(SLOW, 3, gate=60), of(QUICK, 4, gate=60), of(SLOW, 5, gate=60)], run.note)
        await until(lambda: wire.past_dot, 20)
        await asyncio.sleep(OVER_A_TICK)
        assert wire.past_dot == 1
        server.set_rules()
        server.hurry()
        await wire.drain()

    run = using(loop, local(server.port, connections=1), tmp_path, work, timeouts=SILENCE)
    assert accepted(run, range(1, 6))


def test_a_quick_provider_has_all_sessions_where_the_others_have_no_letters(loop, sink, tmp_path):
    server = sink(Rule("DOT", delay=0.1), hide=frozenset({"CHUNKING"}))

    async def work(wire, run):
        await wire.room(31)
        # One that begins long after the others, on a busy machine, has fewer letters, and no less of a share.
        await until(lambda: len(server.open_sessions) == 3, 20)
        wire.submit([of(OTHER, 1, gate=60), *(of(QUICK, n, gate=60) for n in range(2, 32))], run.note)
        await wire.drain()

    run = using(loop, local(server.port, connections=3), tmp_path, work, timeouts=SILENCE)
    assert accepted(run, range(1, 32))
    used = Counter(entry.session for entry in server.entries())
    assert len(used) == 3
    assert min(used.values()) >= 5


def test_a_provider_alone_has_all_sessions_however_slow(loop, sink, tmp_path):
    server = sink(Rule("DOT", delay=0.8), hide=frozenset({"CHUNKING"}))

    async def work(wire, run):
        wire.submit([of(SLOW, n) for n in range(1, 7)], run.note)
        await wire.drain()

    using(loop, local(server.port, connections=3), tmp_path, work, timeouts=SILENCE)
    assert len({entry.session for entry in server.entries()}) == 3
    times = [entry.at for entry in server.entries()]
    assert times[-1] - times[0] < 1.5


# Bounds


def test_a_provider_that_is_held_is_busy_on_no_more_sessions(loop, sink, tmp_path):
    server = sink(Rule("DOT", recipient=SLOW, delay=60), hide=frozenset({"CHUNKING"}))

    async def work(wire, run):
        wire.hold(SLOW, 1)
        wire.submit([of(SLOW, n, gate=60) for n in range(1, 4)], run.note)
        await until(lambda: wire.past_dot == 1, 20)
        await asyncio.sleep(OVER_A_TICK)
        assert wire.past_dot == 1
        wire.hold(SLOW, None)
        wire.submit([of(SLOW, n, gate=60) for n in range(4, 8)], run.note)
        await until(lambda: wire.past_dot == 3, 20)
        server.set_rules()
        server.hurry()
        await wire.drain()

    run = using(loop, local(server.port, connections=3), tmp_path, work, timeouts=SILENCE)
    assert accepted(run, range(1, 8))


def test_letters_beyond_the_bound_come_back_before_their_gate_runs_out(loop, sink, tmp_path, monkeypatch):
    assert wires._EARLY > wires._TICK
    # So early here that it is in time, too, where the machine stands still for a second or two.
    monkeypatch.setattr(wires, "_EARLY", 3.8)
    server = sink(Rule("DOT", recipient=SLOW, then="hang"), hide=frozenset({"CHUNKING"}))

    async def work(wire, run):
        wire.hold(SLOW, 1)
        began = time.monotonic()
        wire.submit([of(SLOW, n, gate=4) for n in range(1, 6)], run.note)
        await until(lambda: len(run.outcomes) == 3, 20)  # the fifth stands behind the first in its session
        assert time.monotonic() - began < 4
        assert all(outcome.busy for outcome in run.outcomes.values())
        server.set_rules()
        server.drop_all()

    using(loop, local(server.port, connections=2), tmp_path, work, timeouts=SILENCE)


@pytest.mark.parametrize("reply", ["450 4.7.28 too fast", "421 4.7.0 try again later"])
def test_a_provider_that_asks_for_patience_gets_half(loop, sink, tmp_path, reply):
    server = sink(
        Rule("RCPT", reply, recipient=SLOW, times=1),
        Rule("DOT", recipient=SLOW, delay=60),
        hide=frozenset({"CHUNKING"}),
    )

    async def work(wire, run):
        wire.submit([of(SLOW, 1)], run.note)
        await wire.drain()
        # Two for each of two sessions, one behind the other, and two for which there is none.
        wire.submit([of(SLOW, n, gate=60) for n in range(2, 8)], run.note)
        await until(lambda: wire.past_dot == 2, 20)
        await asyncio.sleep(OVER_A_TICK)
        assert wire.past_dot == 2
        server.set_rules()
        server.hurry()
        await wire.drain()

    run = using(loop, local(server.port, connections=4), tmp_path, work, timeouts=SILENCE)
    assert run.outcomes[1].reply_class.value == "transient"
    assert accepted(run, range(2, 8))


def test_more_and_fewer_sessions_while_letters_are_sent(loop, sink, tmp_path):
    server = sink(Rule("DOT", delay=0.02), hide=frozenset({"CHUNKING"}))

    async def work(wire, run):
        number = 0

        async def send(count):
            nonlocal number
            end = number + count
            while number < end:
                room = min(await wire.room(20), end - number)
                wire.submit([letter(number + n) for n in range(1, room + 1)], run.note)
                number += room

        await send(40)
        assert len(server.open_sessions) == 2
        wire.limit(5)
        await send(100)
        assert len(server.open_sessions) == 5
        wire.limit(1)
        await send(20)
        await wire.drain()
        assert len(server.open_sessions) == 1

    run = using(loop, local(server.port, connections=2), tmp_path, work, timeouts=SILENCE)
    assert run.classes() == ["accepted"] * 160
    assert server.commands.count("QUIT") == 5


# The rules by themselves


def transaction(provider):
    return Transaction(of(provider, 1), lambda _: None, None, 5.0)


def shares(sessions, *busy):
    """With so many sessions, on each of which letters of the given providers are under way, if any."""
    made = Shares(sessions)
    made.sessions = [deque(map(transaction, each)) for each in busy]
    made.sessions += [deque() for _ in range(sessions - len(busy))]
    return made


def next_for(made, *providers):
    """Which provider the idle last session gets."""
    found = made.choose(deque(map(transaction, providers)), made.sessions[-1])
    return found and found.letter.provider


def test_halved_at_each_complaint_but_once_for_a_burst_and_never_to_nothing():
    made = shares(8)
    made.learn(SLOW, Reply(421, None, ""), 0.0, accepted=False)
    made.learn(SLOW, Reply(450, "4.7.28", ""), 0.5, accepted=False)
    for session in made.sessions[:4]:
        assert next_for(made, SLOW) == SLOW
        session.append(transaction(SLOW))
    assert next_for(made, SLOW) is None
    for at in range(2, 10, 2):
        made.learn(SLOW, Reply(421, None, ""), at, accepted=False)
    for session in made.sessions[:4]:
        session.clear()
    assert next_for(made, SLOW) == SLOW
    made.sessions[0].append(transaction(SLOW))
    assert next_for(made, SLOW) is None


def test_one_session_more_for_a_run_of_accepted_letters():
    made = shares(3, [SLOW], [])
    made.learn(SLOW, Reply(421, None, ""), 0.0, accepted=False)
    assert next_for(made, SLOW) is None
    for _ in range(19):
        assert not made.learn(SLOW, Reply(250, None, ""), 1.0, accepted=True)
    assert made.learn(SLOW, Reply(250, None, ""), 1.0, accepted=True)
    assert next_for(made) == SLOW
    for _ in range(20):
        made.learn(SLOW, Reply(250, None, ""), 1.0, accepted=True)
    while made.waiting:
        next_for(made)
    assert not made.careful


def test_greylisting_and_full_mailboxes_are_no_complaints():
    made = shares(2)
    for code, enhanced in ((451, "4.7.1"), (452, "4.2.2"), (450, None), (550, "5.7.28")):
        made.learn(SLOW, Reply(code, enhanced, ""), 0.0, accepted=False)
    assert not made.careful


def test_a_minute_without_complaint_forgives():
    made = shares(2)
    made.sighted(SLOW)
    made.learn(SLOW, Reply(421, None, ""), 0.0, accepted=False)
    for _ in range(121):
        made.tick()
    assert not made.is_slow(SLOW)
    assert not made.careful


def test_the_order_of_arrival_is_kept_among_those_that_may():
    made = shares(3, [SLOW], [SLOW])
    made.meet(SLOW)
    made.meet(QUICK)
    queue = deque(map(transaction, (SLOW, QUICK, OTHER, QUICK)))
    order = []
    while found := made.choose(queue, made.sessions[-1]):
        order.append(found.letter.provider)
    assert order == [QUICK, OTHER, QUICK]
    assert [each.letter.provider for each in queue] == [SLOW]


def test_the_last_session_is_for_a_provider_whose_letters_are_being_accepted():
    made = shares(3, [QUICK], [QUICK])
    made.meet(OTHER)
    made.meet(QUICK)
    assert next_for(made, QUICK) is None
    assert made.learn(QUICK, Reply(250, None, ""), 0.0, accepted=True)
    assert next_for(made, QUICK) == QUICK
    assert next_for(made, QUICK) is None


def test_slow_ones_together_leave_one_session():
    made = shares(3, [SLOW], [OTHER])
    made.meet(SLOW)
    made.meet(OTHER)
    assert next_for(made, SLOW) == SLOW
    made.sighted(SLOW)
    made.sighted(OTHER)
    assert next_for(made, SLOW, QUICK) == QUICK
    assert [each.good_until for each in made.overdue(10)] == [5.0]
