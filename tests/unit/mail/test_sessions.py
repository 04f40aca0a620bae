"""Starting a session: what is asked for is had, or nothing is sent; and no reader pays for it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import ssl
import warnings

import pytest

from service.domain.errors import ConfigurationError
from service.domain.replies import Phase, ReplyClass
from service.domain.slots import SlotValues
from service.mail.autopsy import Fate
from service.mail.relay import Relay, parse_relay, parse_relays
from service.mail.session import parse_capabilities
from service.mail.tls import Tls
from service.mail.wire import Wire
from tests.smtp_sink import Rule, make_certificates
from tests.unit.mail.sending import FAST, LARGE, PATIENT, RENDITION, letter, local, send, using, values

PIPELINED = frozenset({"CHUNKING"})


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def secure(port, certificates, tls=Tls.STARTTLS, **more):
    return Relay("127.0.0.1", port, tls, connections=1, ca_file=str(certificates.authority), **more)


# TLS


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
@pytest.mark.parametrize("hide", [PIPELINED, frozenset()])
def test_letters_go_encrypted(loop, sink, tmp_path, certificates, tls, hide):
    server = sink(tls=certificates.server_context(), implicit_tls=tls is Tls.IMPLICIT, hide=hide)
    run = send(loop, secure(server.port, certificates, tls), [letter(n) for n in range(1, 10)], tmp_path)
    assert run.classes() == ["accepted"] * 9
    assert server.commands.count("EHLO client.example.org") == (2 if tls is Tls.STARTTLS else 1)
    assert server.sessions == 1


@pytest.mark.parametrize("hide", [PIPELINED, frozenset()])
def test_large_letters_go_encrypted(loop, sink, tmp_path, certificates, hide):
    server = sink(tls=certificates.server_context(), hide=hide)
    letters = [letter(n, rendition=LARGE) for n in range(1, 6)]
    run = send(loop, secure(server.port, certificates), letters, tmp_path)
    assert run.classes() == ["accepted"] * 5
    assert server.messages == [LARGE.eight_bit.join(letter(n).values) for n in range(1, 6)]
    assert server.counts == {"taken": 5}


def refused(run, server, *phases):
    """Nothing was sent, nobody's attempt was used up, and the caller can say why."""
    assert set(run.classes()) == {"not_sent"}
    assert run.trouble is not None
    assert any(f"({phase.value})" in run.trouble for phase in phases)
    assert server.entries() == []
    assert not [command for command in server.commands if command.startswith("MAIL")]
    return run.trouble


def test_starttls_missing(loop, sink, tmp_path, certificates):
    server = sink()
    run = send(loop, secure(server.port, certificates), [letter(1), letter(2)], tmp_path)
    assert "does not offer STARTTLS" in refused(run, server, Phase.TLS)


@pytest.mark.parametrize(
    ("said", "then"),
    [("454 4.7.0 TLS not available", None), ("421 4.3.2 shutting down", None), ("421 4.3.2 shutting down", "drop")],
    ids=["454", "421", "421-and-closed"],
)
def test_starttls_refused(loop, sink, tmp_path, certificates, said, then):
    server = sink(Rule("STARTTLS", said, then=then), tls=certificates.server_context())
    run = send(loop, secure(server.port, certificates), [letter()], tmp_path)
    assert said[:3] in refused(run, server, Phase.TLS)


@pytest.mark.parametrize("said", ["220 go\r\n250 injected\r\n", "220 go\r\n250-inj"])
def test_replies_put_before_the_handshake_end_the_session(loop, sink, tmp_path, certificates, said):
    server = sink(Rule("STARTTLS", said), tls=certificates.server_context())
    run = send(loop, secure(server.port, certificates), [letter()], tmp_path)
    assert "in clear" in refused(run, server, Phase.TLS)


def test_garbage_for_a_handshake(loop, sink, tmp_path, certificates):
    server = sink(Rule("STARTTLS", "220 go", take=False, then=None), tls=certificates.server_context())
    run = send(loop, secure(server.port, certificates), [letter()], tmp_path)
    refused(run, server, Phase.TLS)


@pytest.mark.parametrize("fault", ["unknown authority", "wrong name", "expired", "old protocol"])
@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
def test_a_certificate_that_does_not_verify(loop, sink, tmp_path, certificates, fault, tls):
    folder = tmp_path / "certificates"
    folder.mkdir()
    shown = make_certificates(
        folder, host="other.example" if fault == "wrong name" else "127.0.0.1", expired=fault == "expired"
    )
    context = shown.server_context()
    if fault == "old protocol":
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
            context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else it could not speak them at all
    trusted = certificates if fault == "unknown authority" else shown
    server = sink(tls=context, implicit_tls=tls is Tls.IMPLICIT)
    run = send(loop, secure(server.port, trusted, tls), [letter()], tmp_path)
    refused(run, server, Phase.TLS)


def test_implicit_tls_to_a_plain_server(loop, sink, tmp_path, certificates):
    server = sink()
    run = send(loop, secure(server.port, certificates, Tls.IMPLICIT), [letter()], tmp_path)
    refused(run, server, Phase.TLS)


# AUTH


@pytest.mark.parametrize("hide", [PIPELINED, PIPELINED | {"PLAIN"}], ids=["plain", "login"])
def test_logging_in_over_tls(loop, sink, tmp_path, certificates, hide):
    server = sink(tls=certificates.server_context(), users={"mailer": "pässwörd"}, hide=hide)
    relay = secure(server.port, certificates, username="mailer", password="pässwörd")
    run = send(loop, relay, [letter()], tmp_path)
    assert run.classes() == ["accepted"]
    assert server.counts["encrypted-login"] == 1


def test_logging_in_in_clear_only_on_this_very_machine(loop, sink, tmp_path):
    server = sink(users={"mailer": "secret"})
    run = send(loop, local(server.port, username="mailer", password="secret"), [letter()], tmp_path)
    assert run.classes() == ["accepted"]
    far = dataclasses.replace(local(server.port, username="mailer", password="secret"), host="mail.example.org")
    assert not far.is_loopback


def test_a_password_is_not_sent_in_clear_to_another_host(loop, sink, tmp_path, monkeypatch):
    server = sink(users={"mailer": "secret"})
    monkeypatch.setattr(Relay, "is_loopback", property(lambda _: False))
    run = send(loop, local(server.port, username="mailer", password="secret"), [letter()], tmp_path)
    assert "never sent in clear" in refused(run, server, Phase.AUTH)
    assert server.counts["login-in-clear"] == 0


@pytest.mark.parametrize(
    ("rules", "password"),
    [
        ([], "wrong"),
        ([Rule("AUTH", "454 4.7.0 temporary failure")], "secret"),
        ([Rule("AUTH", "421 4.3.2 shutting down")], "secret"),
        ([Rule("AUTH", "421 4.3.2 shutting down", then="drop")], "secret"),
    ],
    ids=["535", "454", "421", "421-and-closed"],
)
def test_a_refused_login_is_nobodys_bounce(loop, sink, tmp_path, rules, password):
    server = sink(*rules, users={"mailer": "secret"})
    relay = local(server.port, username="mailer", password=password)
    run = send(loop, relay, [letter(n) for n in range(1, 5)], tmp_path)
    trouble = refused(run, server, Phase.AUTH)
    assert "secret" not in trouble
    assert password not in trouble
    assert server.sessions <= 3


def test_a_password_changed_while_sending(loop, sink, tmp_path):
    server = sink(Rule("DOT", skip=2, times=1, then="drop"), users={"mailer": "secret"}, hide=PIPELINED)

    async def work(wire, run):
        wire.submit([letter(1), letter(2)], run.note)
        await wire.drain()
        server.settings.users["mailer"] = "new"
        wire.submit([letter(n) for n in range(3, 8)], run.note)
        await wire.drain()

    run = using(loop, local(server.port, username="mailer", password="secret"), tmp_path, work)
    assert run.classes() == ["accepted", "accepted", "uncertain"] + ["not_sent"] * 4
    assert "535" in run.trouble


def test_a_relay_without_the_ways_we_know_to_log_in(loop, sink, tmp_path):
    server = sink(users={"mailer": "secret"}, hide=frozenset({"AUTH"}))
    run = send(loop, local(server.port, username="mailer", password="secret"), [letter()], tmp_path)
    assert "neither" in refused(run, server, Phase.AUTH)


LOGIN = "530 5.7.0 authentication required"
MANNERS = pytest.mark.parametrize(
    "hide",
    [frozenset({"PIPELINING", "CHUNKING"}), frozenset({"PIPELINING"}), PIPELINED, frozenset()],
    ids=["lockstep", "lockstep-bdat", "pipelining", "chunking"],
)


def unsent(run, server, letters, code="530"):
    """Nothing was taken, no attempt used up, the journals say so, and the caller can say what the relay wants."""
    assert run.classes() == ["not_sent"] * letters
    assert server.entries() == []
    for number in range(1, letters + 1):
        assert run.verdict(number).reply_class in {None, ReplyClass.NOT_SENT}
        assert run.verdict(number).fate is not Fate.UNCERTAIN
    assert f"the relay wants a login: {code}" in run.trouble
    assert run.kind == "auth"


@MANNERS
def test_a_relay_that_wants_a_login_and_gets_none(loop, sink, tmp_path, hide):
    server = sink(users={"mailer": "secret"}, hide=hide)
    run = send(loop, local(server.port, connections=2), [letter(n) for n in range(1, 10)], tmp_path)
    unsent(run, server, 9)
    assert server.sessions <= 2


@MANNERS
@pytest.mark.parametrize("said", [LOGIN, "535 5.7.8 your login has expired"], ids=["530", "535"])
@pytest.mark.parametrize("when", ["MAIL", "RCPT", "DATA"])
def test_a_login_that_is_wanted_before_the_dot_is_nobodys_bounce(loop, sink, tmp_path, hide, said, when):
    if when == "DATA" and "CHUNKING" not in hide:
        hide |= PIPELINED
    server = sink(Rule(when, said), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 6)], tmp_path)
    unsent(run, server, 5, said[:3])
    assert server.sessions == 1


@MANNERS
@pytest.mark.parametrize("when", ["MAIL", "RCPT"])
def test_a_login_that_runs_out_in_mid_session_is_repeated_at_once(loop, sink, tmp_path, hide, when):
    server = sink(Rule(when, "530 5.7.0 login expired", skip=3, times=1), users={"mailer": "secret"}, hide=hide)

    async def work(wire, run):
        left = [letter(n) for n in range(1, 10)]
        while left:
            await wire.room()
            wire.submit(left, run.note)
            await wire.drain()
            # What was sent by BDAT behind the refused letter comes back, too: refused, and so unsent.
            left = [one for one in left if run.outcomes[one.delivery_id].reply_class is ReplyClass.NOT_SENT]
            run.outcomes = {number: one for number, one in run.outcomes.items() if one.code == 250}
        assert wire.trouble is None

    run = using(loop, local(server.port, username="mailer", password="secret"), tmp_path, work)
    assert run.classes() == ["accepted"] * 9
    assert sorted(entry.recipient for entry in server.entries()) == [f"r{n}@example.net" for n in range(1, 10)]
    assert server.counts["login-in-clear"] == server.sessions == 2


def test_a_relay_that_wants_a_login_is_in_trouble_until_it_has_taken_a_letter(loop, sink, tmp_path, monkeypatch):
    monkeypatch.setattr("service.mail.opener._LOCKED_OUT", (0.2,))
    server = sink(Rule("MAIL", LOGIN))

    async def work(wire, run):
        for number in (1, 2):
            # Who is let in is not believed yet, and gets one letter to try.
            assert await wire.room() >= 1
            assert (wire.trouble is None) == (number == 1)
            wire.submit([letter(number)], run.note)
            await wire.drain()
            assert "530" in wire.trouble
            assert wire.room_now() == 0
        server.set_rules()
        assert await wire.room() == 1
        assert "530" in wire.trouble
        assert wire.trouble_kind == "auth"
        wire.submit([letter(3)], run.note)
        await wire.drain()
        assert wire.trouble is None

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["not_sent", "not_sent", "accepted"]
    assert sum(command.startswith("MAIL") for command in server.commands) == 3


def test_a_relay_that_drops_every_session_at_mail_is_in_trouble_until_it_has_answered_a_letter(
    loop, sink, tmp_path, monkeypatch
):
    monkeypatch.setattr("service.mail.opener._BACK_OFF", (0.05,))
    server = sink(Rule("MAIL", then="drop"), hide=PIPELINED)

    async def work(wire, run):
        for number in (1, 2, 3):
            # It lets in each time.
            assert await wire.room() >= 1
            assert wire.connected
            assert (wire.trouble is None) == (number == 1)
            wire.submit([letter(number)], run.note)
            await wire.drain()
            assert wire.trouble is not None
        server.set_rules(Rule("RCPT", "451 4.2.1 later", times=1))
        assert await wire.room() == 1
        assert wire.trouble is not None
        assert wire.trouble_kind == "down"
        # Whatever it answers.
        wire.submit([letter(4)], run.note)
        await wire.drain()
        assert wire.trouble is None

    run = using(loop, local(server.port), tmp_path, work)
    assert run.outcomes[4].reply_class is ReplyClass.TRANSIENT


def test_a_login_that_is_wanted_for_one_reader_alone_holds_up_nobody_else(loop, sink, tmp_path, monkeypatch):
    monkeypatch.setattr("service.mail.opener._LOCKED_OUT", (0.2,))
    server = sink(Rule("RCPT", LOGIN, recipient="r1@"), hide=PIPELINED)

    async def work(wire, run):
        for numbers in ([1], [1], [2, 1, 3]):
            await wire.room()
            run.outcomes.clear()
            wire.submit([letter(number) for number in numbers], run.note)
            await wire.drain()
            assert run.outcomes[1].reply_class is (ReplyClass.NOT_SENT if server.sessions == 1 else ReplyClass.RELAY)
        assert wire.trouble is None

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["relay", "accepted", "accepted"]
    assert server.sessions == 2


@MANNERS
def test_a_login_that_is_wanted_after_the_dot_is_a_refusal_of_that_letter(loop, sink, tmp_path, hide):
    server = sink(Rule("DOT", LOGIN, times=1), hide=hide)
    run = send(loop, local(server.port), [letter(n) for n in range(1, 4)], tmp_path)
    assert run.classes() == ["relay", "accepted", "accepted"]
    assert run.verdict(1).reply_class is ReplyClass.RELAY


# Connecting, greeting, EHLO


@pytest.mark.parametrize(
    "rule",
    [
        Rule("CONNECT", "421 4.3.2 too many"),
        Rule("CONNECT", "554 5.7.1 not you"),
        Rule("CONNECT", "what\r\n"),
        Rule("CONNECT", then="drop"),
        Rule("CONNECT", then="reset"),
        Rule("CONNECT", then="hang"),
        Rule("CONNECT", "220-" + "x" * 5_000_000),
        Rule("EHLO", "421 4.3.2 too many"),
        Rule("EHLO", "550 5.7.1 not you"),
        Rule("EHLO", then="drop"),
        Rule("EHLO", then="hang"),
    ],
    ids=lambda rule: f"{rule.when}-{rule.then or rule.reply[:3]}",
)
def test_a_session_that_does_not_start(loop, sink, tmp_path, rule):
    server = sink(rule)
    timeouts = FAST if rule.then == "hang" else PATIENT
    run = send(loop, local(server.port), [letter(1), letter(2)], tmp_path, timeouts=timeouts)
    # A reset may be seen so early that it looks like no connection at all.
    refused(run, server, *([Phase.EHLO] if rule.when == "EHLO" else [Phase.GREETING, Phase.CONNECT]))


def test_nobody_listens(loop, sink, tmp_path):
    server = sink()
    server.stop()
    run = send(loop, local(server.port), [letter()], tmp_path)
    assert "no connection" in refused(run, server, Phase.CONNECT)


def test_a_name_that_does_not_resolve(loop, tmp_path, monkeypatch):
    def unknown(*_args, **_more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    relay = Relay("relay.invalid", 25, Tls.NONE)
    # uvloop asks the machine's own resolver, which may take longer than any gate.
    timeouts = dataclasses.replace(PATIENT, connect=2)
    run = send(loop, relay, [letter(gate=50)], tmp_path, timeouts=timeouts)
    assert run.classes() == ["not_sent"]
    assert "(connect)" in run.trouble


def test_no_file_handles_left(loop, sink, tmp_path):
    import resource

    server = sink()

    async def work(wire, run):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        os.close(lowest_free := os.dup(0))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            wire.submit([letter(1)], run.note)
            await wire.drain()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert "no connection" in wire.trouble
        assert await wire.room(1) == 1
        wire.submit([letter(2)], run.note)
        await wire.drain()

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["not_sent", "accepted"]


def test_a_server_that_knows_only_helo(loop, sink, tmp_path):
    server = sink(Rule("EHLO", "502 5.5.1 what?", times=1))
    run = send(loop, local(server.port), [letter(1), letter(2)], tmp_path)
    assert run.classes() == ["accepted", "accepted"]
    assert list(server.commands)[:3] == [
        "EHLO client.example.org",
        "HELO client.example.org",
        "MAIL FROM:<b-1@example.org>",
    ]
    assert server.messages[0] == RENDITION.seven_bit.join(letter(1).values)


def test_one_session_more_than_the_relay_likes_is_no_trouble(loop, sink, tmp_path):
    server = sink(Rule("CONNECT", "421 4.7.0 too many of you", skip=1))
    letters = [letter(n) for n in range(1, 30)]

    async def work(wire, run):
        await wire.room()
        wire.submit(letters, run.note)
        await wire.drain()
        assert wire.trouble is None

    run = using(loop, local(server.port, connections=4), tmp_path, work)
    assert run.classes() == ["accepted"] * 29


# What EHLO promises, this time


def test_less_is_promised_the_second_time(loop, sink, tmp_path):
    # With BDAT a letter that meets the dying session would be past its dot, and uncertain: that is another test's.
    server = sink(Rule("DOT", "250 ok", times=1, then="drop"), hide=frozenset({"CHUNKING"}))

    async def work(wire, run):
        wire.submit([letter(1)], run.note)
        await wire.drain()
        server.settings.hide = frozenset({"8BITMIME", "SIZE", "PIPELINING", "CHUNKING", "SMTPUTF8"})
        wire.submit([letter(2)], run.note)
        await wire.drain()

    run = using(loop, local(server.port), tmp_path, work)
    assert run.classes() == ["accepted", "accepted"]
    size = len(server.messages[0])
    mails = [command for command in server.commands if command.startswith("MAIL")]
    assert mails[0] == f"MAIL FROM:<b-1@example.org> BODY=8BITMIME SIZE={size}"
    # The end of the first session may be noticed only once the second letter has begun on it, in vain.
    assert mails[-1] == "MAIL FROM:<b-2@example.org>"
    assert not server.messages[0].isascii()
    assert server.messages[1].isascii()


def test_letters_beyond_ascii_before_the_at(loop, sink, tmp_path):
    server = sink(hide=PIPELINED)
    run = send(loop, local(server.port), [letter(1, "ян@пошта.example")], tmp_path)
    assert run.classes() == ["accepted"]
    assert server.entries()[0].recipient == "ян@xn--80a1acn3a.example"
    assert server.commands[1].endswith(f"BODY=8BITMIME SMTPUTF8 SIZE={len(server.messages[0])}".encode().decode())


@pytest.mark.parametrize("hidden", ["SMTPUTF8", "8BITMIME"])
def test_smtputf8_not_offered_is_an_explicit_refusal(loop, sink, tmp_path, hidden):
    server = sink(hide=PIPELINED | {hidden})
    run = send(loop, local(server.port), [letter(1, "ян@example.net"), letter(2)], tmp_path)
    assert run.classes() == ["content", "accepted"]
    assert run.outcomes[1].enhanced == "5.6.7"
    assert run.outcomes[1].code == 0


def test_an_international_domain_needs_no_extension(loop, sink, tmp_path):
    server = sink(hide=PIPELINED | {"SMTPUTF8"})
    run = send(loop, local(server.port), [letter(1, "r@пошта.example")], tmp_path)
    assert run.classes() == ["accepted"]
    assert server.entries()[0].recipient == "r@xn--80a1acn3a.example"


@pytest.mark.parametrize(
    "recipient",
    ["nobody", "a b@example.net", "a@b@example.net>\r\nRCPT TO:<x@y.example", "a@-x.example", "a\0@b.example"],
)
def test_an_address_that_is_none_is_refused_here(loop, sink, tmp_path, recipient):
    server = sink(hide=PIPELINED)
    odd = letter(1)._replace(recipient=recipient)
    run = send(loop, local(server.port), [odd, letter(2)], tmp_path)
    assert run.classes() == ["hard", "accepted"]
    assert run.outcomes[1].enhanced == "5.1.3"
    assert recipient not in run.outcomes[1].text


def test_an_address_that_is_not_known_any_more_is_our_fault_and_refused_here(loop, sink, tmp_path):
    server = sink(hide=PIPELINED)
    run = send(loop, local(server.port), [letter(1)._replace(recipient=""), letter(2)], tmp_path)
    assert run.classes() == ["content", "accepted"]
    assert run.outcomes[1].enhanced == "5.6.0"
    assert "damaged" in run.outcomes[1].text


@pytest.mark.parametrize(
    "change",
    [
        {"unsubscribe": b"short"},
        {"preferences": b"." * 48},
        {"recipient": b"r@example.net\r\nBcc: x@y.example"},
        {"message_id": b"<a@b>\n"},
        {"date": b"now\r\n.\r\n"},
    ],
)
def test_values_that_could_end_a_header_never_leave(loop, sink, tmp_path, change):
    server = sink(hide=PIPELINED)
    filled: SlotValues = values(1, "r1@example.net")._replace(**change)
    run = send(loop, local(server.port), [letter(1)._replace(values=filled)], tmp_path)
    assert run.classes() == ["content"]
    assert server.entries() == []


def test_the_null_sender(loop, sink, tmp_path):
    server = sink(hide=PIPELINED)
    run = send(loop, local(server.port), [letter(1)._replace(mail_from="")], tmp_path)
    assert run.classes() == ["accepted"]
    assert server.commands[1].startswith("MAIL FROM:<> ")


def test_capabilities_in_any_shape():
    can = parse_capabilities(["pipelining", "SIZE", "AUTH=LOGIN", "", "8bitmime x"])
    assert can.pipelining
    assert can.size
    assert can.eight_bit
    assert can.auth == {"LOGIN"}
    assert not can.chunking


# Relay URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("smtp://127.0.0.1:2525", Relay("127.0.0.1", 2525, Tls.NONE)),
        ("smtp://localhost", Relay("localhost", 25, Tls.NONE)),
        ("smtp://[::1]:2525", Relay("::1", 2525, Tls.NONE)),
        ("smtp://relay.example.org", Relay("relay.example.org", 587, Tls.STARTTLS)),
        ("smtp://relay.example.org:465", Relay("relay.example.org", 465, Tls.IMPLICIT)),
        ("smtps://relay.example.org", Relay("relay.example.org", 465, Tls.IMPLICIT)),
        ("smtp://mailpit:1025?tls=none&connections=9", Relay("mailpit", 1025, Tls.NONE, connections=9)),
        (
            "smtp://me%40x:p%3Aw%2F@relay.example.org:25?tls=starttls&ca=/etc/ca.pem&chunking=no",
            Relay("relay.example.org", 25, Tls.STARTTLS, "me@x", "p:w/", 5, "/etc/ca.pem", 0),
        ),
        (
            "smtp://relay.example.org?rate=0.5&per_day=5000&weight=3",
            Relay("relay.example.org", 587, Tls.STARTTLS, rate=0.5, per_day=5000, weight=3),
        ),
        ("smtp://relay.example.org?weight=0", Relay("relay.example.org", 587, Tls.STARTTLS, weight=0)),
    ],
)
def test_relay_urls(url, expected):
    assert parse_relay(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "relay.example.org",
        "http://relay.example.org",
        "smtp://",
        "smtp://relay.example.org:99999",
        "smtp://relay.example.org/x",
        "smtp://user:hunter2@relay.example.org?tls=none",
        "smtp://user:hunter2@relay.example.org?tls=maybe",
        "smtp://user:hunter2@relay.example.org?tls",
        "smtp://user:hunter2@relay.example.org?verify=no",
        "smtp://user:hunter2@relay.example.org?connections=0",
        "smtp://user:hunter2@relay.example.org?connections=x",
        "smtp://user:hunter2@relay.example.org?chunking=x",
        "smtp://user:hunter2@relay.example.org?rate=0",
        "smtp://user:hunter2@relay.example.org?rate=nan",
        "smtp://user:hunter2@relay.example.org?rate=1e3",
        "smtp://user:hunter2@relay.example.org?rate=-1",
        "smtp://user:hunter2@relay.example.org?rate=inf",
        "smtp://user:hunter2@relay.example.org?rate=1000001",
        "smtp://user:hunter2@relay.example.org?per_day=0",
        "smtp://user:hunter2@relay.example.org?per_day=1.5",
        "smtp://user:hunter2@relay.example.org?weight=-1",
        "smtp://user:hunter2@relay.example.org?weight=1001",
        "smtp://user:hunter2@relay.example.org?weight=²",
        "smtp://user:hunter2@rel[ay",
        "smtp://user@relay.example.org",
        "smtps://relay.example.org?tls=starttls",
    ],
)
def test_relay_urls_that_cannot_be_used(url):
    with pytest.raises(ConfigurationError) as caught:
        parse_relay(url)
    assert "hunter2" not in str(caught.value)


def test_several_relays_in_order_and_none_shows_its_password():
    relays = parse_relays("smtp://a:hunter2@one.example, smtp://two.example")
    assert [relay.host for relay in relays] == ["one.example", "two.example"]
    assert "hunter2" not in repr(relays)


def test_a_relay_named_twice_or_weights_for_some_only_are_refused():
    with pytest.raises(ConfigurationError, match=r"one\.example:587 is named twice"):
        parse_relays("smtp://one.example,smtp://two.example,smtp://one.example")
    with pytest.raises(ConfigurationError, match=r"two\.example:587 has no weight"):
        parse_relays("smtp://one.example?weight=2,smtp://two.example")


def test_a_missing_authority_file_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="CA file"):
        Wire(secure(1, type("C", (), {"authority": tmp_path / "none.pem"})), journal=None, helo_name="x")


def test_a_session_that_starts_too_slowly(loop, sink, tmp_path):
    server = sink(Rule("CONNECT", "220 x", delay=0.3), Rule("EHLO", delay=0.3))
    run = send(loop, local(server.port), [letter()], tmp_path, timeouts=dataclasses.replace(PATIENT, setup=0.4))
    assert "did not start within" in refused(run, server, Phase.CONNECT)
    assert asyncio.all_tasks(loop) == set()
