"""Letters over real sockets: each gets one outcome, the right one, in every way a relay can be spoken to."""

from __future__ import annotations

import asyncio
import dataclasses
import email
import email.policy

import pytest

from service.domain.replies import Phase, ReplyClass
from service.mail.autopsy import Fate
from service.mail.envelope import compose
from service.mail.segments import Rendition, Segments
from tests.smtp_sink import Rule
from tests.unit.mail.sending import LARGE, PATIENT, RENDITION, letter, local, send, using

PIPELINED = frozenset({"CHUNKING"})
LOCKSTEP = frozenset({"CHUNKING", "PIPELINING"})
CHUNKED = frozenset()
CHUNKED_LOCKSTEP = frozenset({"PIPELINING"})
WAYS = pytest.mark.parametrize(
    "hide",
    [PIPELINED, LOCKSTEP, CHUNKED, CHUNKED_LOCKSTEP],
    ids=["pipelined", "lockstep", "chunked", "chunked-lockstep"],
)
WITH_DATA = pytest.mark.parametrize("hide", [PIPELINED, LOCKSTEP], ids=["pipelined", "lockstep"])


@WAYS
def test_letters_arrive_once_and_whole(loop, sink, tmp_path, hide):
    server = sink(hide=hide)
    run = send(loop, local(server.port, connections=3), [letter(n) for n in range(1, 21)], tmp_path)
    assert run.classes() == ["accepted"] * 20
    assert sorted(entry.recipient for entry in server.entries()) == sorted(f"r{n}@example.net" for n in range(1, 21))
    expected = {RENDITION.eight_bit.join(letter(n).values) for n in range(1, 21)}
    assert set(server.messages) == expected
    assert run.verdict(7).reply_class is ReplyClass.ACCEPTED
    assert run.outcomes[1].relay == f"127.0.0.1:{server.port}"
    assert run.outcomes[1].past_dot
    assert server.counts == {"taken": 20}


@WAYS
def test_replies_in_slices_of_one_octet(loop, sink, tmp_path, hide):
    server = sink(hide=hide, slices=True)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 4)], tmp_path)
    assert run.classes() == ["accepted"] * 3


@WAYS
@pytest.mark.parametrize("at", ["MAIL", "RCPT"])
def test_a_refusal_binds_to_its_own_reader(loop, sink, tmp_path, hide, at):
    whom = "r3@" if at == "RCPT" else "b-3@"
    server = sink(Rule(at, "550 5.1.1 <r3@example.net>: no such user", recipient=whom), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 7)], tmp_path)
    refused = run.outcomes[3]
    assert run.classes() == ["accepted"] * 2 + ["hard" if at == "RCPT" else "policy"] + ["accepted"] * 3
    assert (refused.code, refused.enhanced, refused.phase) == (550, "5.1.1", Phase[at])
    assert refused.text == "5.1.1 <<address>>: no such user"
    assert len(server.entries()) == 5
    assert server.sessions == 1
    if hide != CHUNKED:
        assert server.counts["wasted-body"] == 0


@WAYS
def test_every_other_recipient_refused_and_greylisted(loop, sink, tmp_path, hide):
    rules = [Rule("RCPT", "451 4.7.1 greylisted", recipient=f"r{n}@") for n in range(1, 20, 3)]
    rules += [Rule("RCPT", "550 5.1.1 unknown", recipient=f"r{n}@") for n in range(2, 20, 3)]
    server = sink(*rules, hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 19)], tmp_path)
    assert run.classes() == ["transient", "hard", "accepted"] * 6
    assert {entry.recipient for entry in server.entries()} == {f"r{n}@example.net" for n in range(3, 19, 3)}


def test_an_unwanted_go_ahead_gets_a_lone_dot_that_is_nobodys(loop, sink, tmp_path):
    server = sink(Rule("RCPT", "550 5.1.1 unknown", recipient="r2@"), hide=PIPELINED, eager_data=True)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 5)], tmp_path)
    assert run.classes() == ["accepted", "hard", "accepted", "accepted"]
    assert server.counts == {"taken": 3, "lone-dot": 1}
    assert server.sessions == 1
    assert run.verdict(2).fate is Fate.NOT_SENT


def test_no_lone_dot_where_it_would_be_an_empty_letter_to_a_reader(loop, sink, tmp_path):
    # A relay that refuses the sender and goes on as if it had not.
    server = sink(Rule("MAIL", "550 no", recipient="b-1@", take=True), hide=PIPELINED)
    run = send(loop, local(server.port), [letter(1), letter(2)], tmp_path)
    assert run.classes() == ["policy", "accepted"]
    assert [entry.recipient for entry in server.entries()] == ["r2@example.net"]
    assert "lone-dot" not in server.counts


@WITH_DATA
def test_data_refused_for_one(loop, sink, tmp_path, hide):
    server = sink(Rule("DATA", "451 4.3.0 not now", recipient="r2@"), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 4)], tmp_path)
    assert run.classes() == ["accepted", "transient", "accepted"]
    assert run.outcomes[2].phase is Phase.DATA
    assert server.sessions == 1


@WAYS
@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("451 4.3.0 try again", "transient"),
        ("550 5.1.1 unknown after all", "hard"),
        ("554 5.7.1 spam", "policy"),
        ("552 5.3.4 too big", "content"),
        ("552 5.2.2 full", "soft"),
    ],
)
def test_refused_after_the_dot(loop, sink, tmp_path, hide, reply, expected):
    server = sink(Rule("DOT", reply, recipient="r2@"), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 4)], tmp_path)
    assert run.classes() == ["accepted", expected, "accepted"]
    assert run.outcomes[2].phase is Phase.DOT
    assert run.outcomes[2].past_dot
    assert run.verdict(2).code == int(reply[:3])
    assert len(server.entries()) == 2


@WAYS
def test_421_after_the_dot_is_a_definite_refusal(loop, sink, tmp_path, hide):
    server = sink(Rule("DOT", "421 4.3.2 shutting down", recipient="r2@", then="drop"), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 6)], tmp_path)
    assert run.outcomes[2].reply_class is ReplyClass.TRANSIENT
    assert run.verdict(2).reply_class is ReplyClass.TRANSIENT
    assert "uncertain" not in run.classes()
    assert run.classes().count("accepted") == len(server.entries())
    for number in (3, 4, 5):
        assert run.outcomes[number].reply_class in {ReplyClass.ACCEPTED, ReplyClass.NOT_SENT}


@WAYS
@pytest.mark.parametrize("at", ["MAIL", "RCPT"])
def test_421_before_the_dot_defers_one_and_goes_on(loop, sink, tmp_path, hide, at):
    server = sink(Rule(at, "421 4.3.2 too busy", times=1, then="drop"), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 7)], tmp_path)
    assert run.outcomes[1].reply_class is ReplyClass.TRANSIENT
    assert run.outcomes[1].code == 421
    assert "uncertain" not in run.classes()
    assert run.classes().count("accepted") == len(server.entries()) >= 2


@WAYS
@pytest.mark.parametrize(("said", "then"), [("421 4.3.2 going down", "drop"), ("500 5.5.1 what", None)])
def test_a_refused_reset_is_no_readers(loop, sink, tmp_path, hide, said, then):
    # The second letter begins with RSET, as the first one's recipient was refused.
    rules = [Rule("RCPT", "550 5.1.1 no such user", recipient="r1@"), Rule("RSET", said, times=1, then=then)]
    server = sink(*rules, hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 7)], tmp_path)
    # By BDAT all of a window of four was on its way when the refusal was read: 421 gives it back.
    left = ["not_sent" if then else "uncertain"] * 3 if hide == CHUNKED else []
    assert run.classes() == ["hard", *left, *["accepted"] * (5 - len(left))]
    assert server.sessions == 2
    taken = [entry.recipient for entry in server.entries()]
    assert len(taken) == len(set(taken)) >= run.classes().count("accepted")


@WITH_DATA
def test_421_to_data_defers_one_and_goes_on(loop, sink, tmp_path, hide):
    server = sink(Rule("DATA", "421 4.3.2 too busy", times=1, then="drop"), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 5)], tmp_path)
    assert run.classes() == ["transient", *["accepted"] * 3]
    assert run.outcomes[1].code == 421


@WAYS
@pytest.mark.parametrize("then", ["drop", "reset", "half"])
@pytest.mark.parametrize("take", [True, False])
def test_silence_after_the_dot_is_uncertain_and_never_sent_again(loop, sink, tmp_path, hide, then, take):
    server = sink(Rule("DOT", recipient="r2@", then=then, take=take), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 9)], tmp_path)
    assert run.outcomes[2].reply_class is ReplyClass.UNCERTAIN
    assert run.outcomes[2].phase is Phase.DOT
    assert run.verdict(2).fate is Fate.UNCERTAIN
    uncertain = run.classes().count("uncertain")
    assert uncertain <= (4 if hide == CHUNKED else 1)
    assert run.classes().count("accepted") == 8 - uncertain
    recipients = [entry.recipient for entry in server.entries()]
    assert len(recipients) == len(set(recipients)) == 8 - uncertain + take


@WAYS
def test_a_hang_after_the_dot_is_uncertain_after_its_time_out(loop, sink, tmp_path, hide):
    server = sink(Rule("DOT", recipient="r2@", then="hang"), hide=hide)
    relay, letters = local(server.port, connections=2, window=1), [letter(n) for n in range(1, 6)]
    run = send(loop, relay, letters, tmp_path, timeouts=dataclasses.replace(PATIENT, dot=2))
    assert run.classes() == ["accepted", "uncertain", "accepted", "accepted", "accepted"]


@pytest.mark.parametrize(("delay", "dot"), [(0.3, 3), (3, 0.3)])
def test_the_reply_to_the_dot_may_take_its_time_but_no_longer(loop, sink, tmp_path, delay, dot):
    server = sink(Rule("DOT", delay=delay), hide=PIPELINED)
    run = send(loop, local(server.port), [letter()], tmp_path, timeouts=dataclasses.replace(PATIENT, dot=dot))
    assert run.classes() == ["accepted" if delay < dot else "uncertain"]


@pytest.mark.parametrize("then", ["drop", "reset", "half"])
@pytest.mark.parametrize(
    ("hide", "at"),
    [(PIPELINED, "DATA"), (LOCKSTEP, "DATA")]
    + [(hide, at) for hide in (PIPELINED, LOCKSTEP, CHUNKED, CHUNKED_LOCKSTEP) for at in ("MAIL", "RCPT")],
)
def test_a_connection_lost_before_the_dot_costs_nobody_anything(loop, sink, tmp_path, hide, at, then):
    server = sink(Rule(at, times=1, then=then), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 4)], tmp_path)
    assert len(server.entries()) == run.classes().count("accepted")
    if hide != CHUNKED:
        assert run.classes() == ["accepted"] * 3
    else:
        # With BDAT the bodies were gone already.
        assert set(run.classes()) <= {"accepted", "uncertain"}


@WITH_DATA
@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA"])
def test_a_letter_that_breaks_every_connection_is_deferred(loop, sink, tmp_path, hide, at):
    whom = "b-2@" if at == "MAIL" else "r2@"
    server = sink(Rule(at, recipient=whom, then="drop"), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 4)], tmp_path)
    assert run.classes() == ["accepted", "transient", "accepted"]
    assert run.outcomes[2].code == 0
    assert run.outcomes[2].phase is Phase[at]
    assert not run.outcomes[2].past_dot
    assert server.sessions == 3


@WAYS
@pytest.mark.parametrize("at", [1, 3], ids=["the first letter", "a later letter"])
def test_a_worker_without_memory_for_a_letter_sends_it_and_those_behind_it_on_another_session(
    loop, sink, tmp_path, hide, at, monkeypatch
):
    def composed(one, **more):
        if one.delivery_id == at and not failed:
            failed.append(at)
            raise MemoryError
        return compose(one, **more)

    failed = []
    loop.set_exception_handler(lambda *_: None)
    monkeypatch.setattr("service.mail.wire.compose", composed)
    server = sink(hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 6)], tmp_path)
    assert failed == [at]
    # Those before it may have passed their dots.
    assert set(run.classes()[: at - 1]) <= {"accepted", "uncertain"}
    assert run.classes()[at - 1 :] == ["accepted"] * (6 - at)
    taken = [entry.recipient for entry in server.entries()]
    assert len(taken) == len(set(taken))


@WITH_DATA
@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DATA"])
def test_a_hang_before_the_dot_is_bounded_and_safe_to_retry(loop, sink, tmp_path, hide, at):
    server = sink(Rule(at, times=1, then="hang"), hide=hide)
    timeouts = dataclasses.replace(PATIENT, **{at.lower(): 2})
    run = send(loop, local(server.port), [letter(n) for n in range(1, 4)], tmp_path, timeouts=timeouts)
    assert run.classes() == ["transient", "accepted", "accepted"]
    assert run.outcomes[1].phase is Phase[at]
    assert run.verdict(1).fate is Fate.NOT_SENT


def test_a_reader_who_hangs_holds_up_only_its_own_connection(loop, sink, tmp_path):
    server = sink(Rule("RCPT", recipient="r1@", then="hang"), hide=PIPELINED)
    letters = [letter(n) for n in range(1, 40)]
    seen = []

    async def work(wire, run):
        wire.submit(letters, lambda outcome: (run.note(outcome), seen.append(outcome.delivery_id)))
        await wire.drain()

    timeouts = dataclasses.replace(PATIENT, rcpt=3)
    run = using(loop, local(server.port, connections=2), tmp_path, work, timeouts=timeouts)
    assert run.classes() == ["transient"] + ["accepted"] * 38
    assert seen[-1] == 1


@pytest.mark.parametrize(
    "reply",
    [
        "2500 what\r\n",
        "999 what\r\n",
        "000 what\r\n",
        "what\r\n",
        "\r\n",
        "250-ok\r\n550 no\r\n",
        "354 go on\r\n",
        "\0\0\0\0\r\n",
    ],
)
@pytest.mark.parametrize("at", ["MAIL", "RCPT", "DOT"])
def test_nonsense_is_deferred_before_the_dot_and_uncertain_after_it(loop, sink, tmp_path, at, reply):
    server = sink(Rule(at, reply, times=1, take=False), hide=PIPELINED)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 4)], tmp_path)
    assert run.classes() == ["uncertain" if at == "DOT" else "transient", "accepted", "accepted"]
    assert server.sessions == 2


@pytest.mark.parametrize(
    "reply",
    [
        "250 ok\n",
        "250-one\r\n250-two\r\n250 three\r\n",
        "250\r\n",
        "250ok\r\n",
        "250 " + "x" * 4096 + "\r\n",
        "250 " + "x" * 1_000_000 + "\r\n",
        "250-x\r\n" * 2000 + "250 x\r\n",
        "250 \xff\xfe\0caf\xe9\r\n",
    ],
    ids=["lf", "lines", "bare", "no-space", "4k", "1M", "2000-lines", "octets"],
)
@WITH_DATA
def test_odd_but_clear_replies_are_understood(loop, sink, tmp_path, hide, reply):
    server = sink(Rule("DOT", reply, times=1), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 3)], tmp_path)
    assert run.classes() == ["accepted", "accepted"]
    assert len(run.outcomes[1].text) <= 500
    assert run.outcomes[1].text.isprintable()


def test_a_reply_without_end_is_cut_off(loop, sink, tmp_path):
    server = sink(Rule("RCPT", "250-" + "x" * 5_000_000 + "\r\n", recipient="r1@"), hide=PIPELINED)
    run = send(loop, local(server.port), [letter(1), letter(2)], tmp_path)
    assert run.classes() == ["transient", "accepted"]


def test_more_replies_than_questions_end_the_session(loop, sink, tmp_path):
    server = sink(
        Rule("DOT", "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n", recipient="r1@"), hide=LOCKSTEP
    )
    run = send(loop, local(server.port), [letter(1), letter(2)], tmp_path)
    assert run.outcomes[1].reply_class is ReplyClass.ACCEPTED
    accepted = [entry.recipient for entry in server.entries()]
    assert len(accepted) == run.classes().count("accepted")


def test_a_body_larger_than_the_kernels_buffer(loop, sink, tmp_path):
    server = sink(hide=PIPELINED)
    run = send(loop, local(server.port), [letter(n, rendition=LARGE) for n in range(1, 4)], tmp_path)
    assert run.classes() == ["accepted"] * 3
    assert server.messages[0] == LARGE.eight_bit.join(letter(1).values)


@pytest.fixture(scope="module")
def huge():
    wide = Segments((b"Subject: x\r\n\r\n" + b"0123456789\r\n" * 1_500_000,), ())
    return Rendition(eight_bit=wide, seven_bit=wide)


@pytest.mark.parametrize("then", ["drop", "reset", "hang"])
def test_a_dot_that_the_kernel_never_got_is_provably_unsent(loop, sink, tmp_path, then, huge):
    server = sink(Rule("BODY", recipient="r1@", then="hang", times=1), hide=PIPELINED)

    async def work(wire, run):
        wire.submit([letter(1, rendition=huge), letter(2)], run.note)
        await asyncio.sleep(0.1)
        if then != "hang":
            server.drop_all(then)
        await wire.drain()

    run = using(loop, local(server.port), tmp_path, work, timeouts=dataclasses.replace(PATIENT, body=2))
    assert run.classes() == ["transient" if then == "hang" else "accepted", "accepted"]
    assert len(server.entries()) == run.classes().count("accepted")
    assert run.verdict(1).fate is (Fate.NOT_SENT if then == "hang" else Fate.REPLIED)


def test_a_message_reads_back_with_the_readers_own_values(loop, sink, tmp_path):
    server = sink(hide=PIPELINED | {"8BITMIME"})
    send(loop, local(server.port), [letter(7)], tmp_path)
    parsed = email.message_from_bytes(server.messages[0], policy=email.policy.default)
    assert parsed["To"] == "r7@example.net"
    assert parsed["List-Unsubscribe"] == "<https://weekly.example.org/u/" + "000007" * 8 + ">"
    assert server.messages[0].isascii()
    assert server.entries()[0].mail_from == "b-7@example.org"
