"""Reading a mailbox on a real IMAP server: tokens are taken, their mails go, and everything else stays as it was."""

from __future__ import annotations

import contextlib
import logging
import re
import signal
import threading
import time
from collections import Counter

import pytest

from service.domain.errors import ConfigurationError, ConflictError, UnavailableError
from service.domain.tokens import LinkKeyMissingError
from service.mail.imap_account import read_account
from service.mail.imap_reader import ImapReader, Times
from service.mail.imap_session import ImapSession
from service.mail.imap_wire import Halt, Limits
from tests.canary import assert_no_trace, canary
from tests.imap_server import PASSWORD, USER, imap_server, without

LEAVE = "leave@weekly.example.org"
PATIENT = Limits(connect=10, answer=10)
QUICK = Times(look=0.2, away=(0.05,), refused=(0.1,))
FOREIGN = b"From: a@elsewhere.test\r\nTo: leave@weekly.example.org\r\nSubject: Hello\r\n\r\nunsubscribe\r\n"


def token(number: int) -> str:
    return f"{number:048}"


def mail(number: int, *, sender: str = "somebody@else.test", head: str = "") -> bytes:
    to = f"leave+{token(number)}@weekly.example.org"
    return f"{head}From: {sender}\r\nTo: <{to}>\r\nSubject: unsubscribe\r\n\r\n\r\n".encode()


@pytest.fixture(scope="module")
def shared():
    with imap_server() as server:
        yield server


@pytest.fixture
def server(shared):
    """Empty; what a test did to it is undone."""
    yield shared
    if shared.password != PASSWORD:
        shared.set_password(PASSWORD)
        shared.restart()  # else it looks at its file once a second
    shared.clear()


class Taking:
    """Takes tokens, and knows of each how often; the even ones are ours."""

    def __init__(self) -> None:
        self.taken: Counter[str] = Counter()

    def __call__(self, text: str) -> bool:
        self.taken[text] += 1
        return int(text, 36) % 2 == 0 if text.isdigit() else False


@contextlib.contextmanager
def reading(server, take, times=QUICK, limits=PATIENT, **url):
    """A reader in a thread; it must end as soon as it is told to, whatever it does."""
    failures = []
    with contextlib.closing(Halt()) as halt:
        reader = ImapReader(read_account(server.url(LEAVE, **url)), take, halt, times, limits)

        def run():
            try:
                reader.run()
            except Exception as error:
                failures.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield reader
        finally:
            halt.set()
            thread.join(5)
            assert not thread.is_alive(), "the reader does not end"
    if failures:
        raise failures[0]


def wait_for(what, seconds=60):
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.01)


CAPABILITIES = [without(), without("IDLE"), without("UIDPLUS"), without("IDLE", "UIDPLUS", "LITERAL+", "SASL-IR")]


@pytest.mark.parametrize("capability", CAPABILITIES, ids=["all", "no IDLE", "no UIDPLUS", "bare"])
def test_tokens_are_taken_and_only_their_mails_go(capability):
    take = Taking()
    with imap_server(capability=capability) as server:
        server.deliver(FOREIGN)
        server.deliver(mail(2))
        with reading(server, take):
            wait_for(lambda: server.count() == 1)
            server.deliver(mail(4))
            server.deliver(mail(3))
            wait_for(lambda: server.count() == 1 and len(take.taken) == 3)
        assert [found.octets for found in server.mails().values()] == [FOREIGN]
        assert not any(found.flags for found in server.mails().values())
    assert take.taken == {token(2): 1, token(4): 1, token(3): 1}


@pytest.mark.parametrize("scheme", ["imaps", "imap"])
def test_what_others_have_read_flagged_or_deleted_stays_as_it_is(server, scheme):
    for _ in range(4):
        server.deliver(FOREIGN)
    with server.client() as client:
        for number, flags in ((1, r"(\Seen)"), (2, r"(\Deleted)"), (3, r"(\Flagged $Label1)")):
            client.store(str(number), "+FLAGS", flags)
    before, take = server.mails(), Taking()
    assert [len(found.flags) for found in before.values()] == [1, 1, 2, 0]
    with reading(server, take, scheme=scheme):
        server.deliver(mail(2))
        wait_for(lambda: server.count() == 4 and take.taken)
    assert server.mails() == before


def test_without_uidplus_a_mail_is_expunged_only_once_nobody_elses_would_go_with_it(capsys):
    take = Taking()
    with imap_server(capability=without("UIDPLUS")) as server:
        server.deliver(FOREIGN)
        with server.client() as client:
            client.store("1", "+FLAGS", r"(\Deleted)")
        with reading(server, take):
            server.deliver(mail(2))
            wait_for(lambda: take.taken)
            server.deliver(mail(4))
            wait_for(lambda: len(take.taken) == 2)
            wait_for(lambda: [sorted(found.flags) for found in server.mails().values()] == [["\\Deleted"]] * 3)
            with server.client() as client:
                client.store("1", "-FLAGS", r"(\Deleted)")
            server.deliver(FOREIGN)
            wait_for(lambda: server.count() == 2)
        assert take.taken == {token(2): 1, token(4): 1}
        assert {found.octets for found in server.mails().values()} == {FOREIGN}


def test_a_mail_that_is_none_of_ours_is_looked_at_once(server, monkeypatch):
    looked, headers = Counter(), ImapSession.headers
    monkeypatch.setattr(ImapSession, "headers", lambda self, uids: looked.update(uids) or headers(self, uids))
    for _ in range(3):
        server.deliver(FOREIGN)
    take = Taking()
    with reading(server, take):
        for number in (2, 4, 6):
            server.deliver(mail(number))
            wait_for(lambda number=number: take.taken[token(number)])
        server.restart()
        server.deliver(mail(8))
        wait_for(lambda: server.count() == 3 and take.taken[token(8)])
    assert len(looked) == 7
    assert set(looked.values()) == {1}


def test_a_folder_that_is_made_anew_is_read_anew(server):
    take = Taking()
    with server.client() as client:
        client.create("leaving")
    try:
        with reading(server, take, folder="leaving"):
            with server.client() as client:
                client.append("leaving", None, None, FOREIGN)
                client.append("leaving", None, None, mail(2))
            wait_for(lambda: take.taken[token(2)])
            with server.client() as client:
                client.select("INBOX")
                client.delete("leaving")
                client.create("leaving")
                # Its UID is lower than those that were read before.
                client.append("leaving", None, None, mail(4))
            wait_for(lambda: take.taken[token(4)])
    finally:
        with server.client() as client:
            client.delete("leaving")


def test_while_the_server_idles_a_mail_is_taken_within_two_seconds(server):
    take, waited = Taking(), []
    with reading(server, take, Times()):
        for number in range(2, 12, 2):
            server.deliver(mail(number))
            delivered = time.monotonic()
            wait_for(lambda number=number: take.taken[token(number)])
            waited.append(time.monotonic() - delivered)
        wait_for(lambda: server.count() == 0)
    # A busy machine may delay some; a mailbox that is asked each minute would delay all.
    assert min(waited) < 2, waited


class Said:
    """What was logged so far."""

    def __init__(self, capsys) -> None:
        self._capsys, self._text = capsys, ""

    @property
    def text(self) -> str:
        self._text += self._capsys.readouterr().out
        return self._text


@pytest.fixture
def said(capsys):
    return Said(capsys)


def test_a_server_that_restarts_in_mid_idle_is_found_again(server, said):
    take = Taking()
    server.deliver(mail(2))
    with reading(server, take):
        wait_for(lambda: server.count() == 0)
        server.stop()
        server.deliver(mail(4))
        wait_for(lambda: "Connection refused" in said.text)
        server.start()
        wait_for(lambda: server.count() == 0 and "mailbox-back" in said.text)
    assert take.taken[token(4)] == 1
    # Tried again and again, said once for each reason.
    assert said.text.count("Connection refused") == 1


def test_a_server_that_falls_silent_is_given_up_and_found_again(server, said):
    take = Taking()
    with reading(server, take, Times(idle=(0.2,), away=(0.05,)), Limits(connect=0.5, answer=0.5)):
        server.deliver(mail(2))
        wait_for(lambda: server.count() == 0)
        server.freeze()
        wait_for(lambda: "no whole answer within 0.5 s" in said.text)
        server.freeze(signal.SIGCONT)
        server.deliver(mail(4))
        wait_for(lambda: server.count() == 0)
    assert take.taken[token(4)] == 1


def test_a_refused_login_is_tried_again_after_minutes_and_said_once(server, said):
    assert Times().refused == (60, 120, 300, 600)
    server.set_password("another")
    server.restart()  # else it looks at its file once a second
    server.deliver(mail(2))
    with reading(server, Taking()):
        wait_for(lambda: server.log().count("auth failed") >= 3)
        server.set_password(PASSWORD)
        wait_for(lambda: server.count() == 0 and "mailbox-lets-in" in said.text)
    assert said.text.count("refuses the login") == 1
    for secret in (USER, PASSWORD, "leave@"):
        assert secret not in said.text


def read_at_once(server, **url):
    """What ends the reader by itself, raised."""
    with contextlib.closing(Halt()) as halt:
        ImapReader(read_account(server.url(LEAVE, **url)), Taking(), halt, QUICK).run()


@pytest.mark.parametrize("url", [{"scheme": "imap", "tls": "starttls"}, {"ca": ""}], ids=["STARTTLS", "implicit"])
def test_a_certificate_that_does_not_verify_ends_it_at_once_and_no_password_is_sent(server, url):
    before = server.log().count(f"user=<{USER}>")
    with pytest.raises(ConfigurationError, match=r"certificate that does not verify .*ca=FILE"):
        read_at_once(server, **url)
    assert server.log().count(f"user=<{USER}>") == before


def test_with_its_authority_starttls_is_as_good_as_implicit_tls(server):
    server.deliver(mail(2))
    with reading(server, Taking(), scheme="imap", tls="starttls", ca=str(server.certificates.authority)):
        wait_for(lambda: server.count() == 0)
    assert re.search(r"Login: user=<reader.of.leavings>, method=PLAIN, .*TLS", server.log())


def test_a_folder_that_is_not_there_ends_it_at_once(server):
    with pytest.raises(ConfigurationError, match="does not open that folder"):
        read_at_once(server, folder="nowhere")


def test_a_folder_that_goes_away_later_is_waited_for(server, said):
    take = Taking()
    with server.client() as client:
        client.create("later")
    with reading(server, take, folder="later"):
        with server.client() as client:
            client.append("later", None, None, mail(2))
            wait_for(lambda: take.taken[token(2)])
            client.delete("later")
        server.restart()
        wait_for(lambda: "does not open that folder" in said.text)
        with server.client() as client:
            client.create("later")
            client.append("later", None, None, mail(4))
            wait_for(lambda: take.taken[token(4)])
            client.delete("later")


def test_while_tokens_cannot_be_taken_their_mails_stay(server, said):
    class Away(Taking):
        def __call__(self, text):
            ours = super().__call__(text)
            if sum(self.taken.values()) <= 3:
                raise UnavailableError("the database is away")
            return ours

    take = Away()
    for number in (2, 4, 6):
        server.deliver(mail(number))
    with reading(server, take):
        wait_for(lambda: server.count() == 0)
        wait_for(lambda: "tokens-taken-again" in said.text)
    # Those behind the first would have waited for the same.
    assert take.taken == {token(2): 4, token(4): 1, token(6): 1}
    assert said.text.count("tokens-not-taken") == 1


def test_a_token_whose_key_is_missing_waits_for_it_and_holds_up_no_other(server, said):
    class Keyless(Taking):
        here = False

        def __call__(self, text):
            ours = super().__call__(text)
            if text == token(2) and not self.here:
                raise LinkKeyMissingError("a link names key 7")
            return ours

    take = Keyless()
    # The second names it beside another.
    both = f"To: leave+{token(2)}@weekly.example.org, leave+{token(6)}@weekly.example.org\r\n\r\n".encode()
    for octets in (mail(2), both, mail(4)):
        server.deliver(octets)
    with reading(server, take, Times(idle=(0.1,), key=0.2)):
        wait_for(lambda: server.count() == 2 and take.taken[token(6)] and take.taken[token(2)] >= 6)
        assert "keys-found" not in said.text
        take.here = True
        wait_for(lambda: server.count() == 0)
        wait_for(lambda: "keys-found" in said.text)
    assert take.taken[token(4)] == 1
    assert said.text.count("keys-missing") == 1


def test_many_mails_whose_key_is_missing_are_fetched_again_a_minute_later_not_with_each_mail(server):
    class Keyless(Taking):
        def __call__(self, text):
            ours = super().__call__(text)
            if not ours:
                raise LinkKeyMissingError("a link names key 7")
            return ours

    assert Times().key == 60
    take = Keyless()
    for number in range(1, 61, 2):
        server.deliver(mail(number))
    with reading(server, take):
        for number in (2, 4, 6):
            server.deliver(mail(number))
            wait_for(lambda number=number: take.taken[token(number)])
        wait_for(lambda: server.count() == 30)
    assert set(take.taken.values()) == {1}


def test_one_token_that_cannot_be_taken_holds_up_no_other(server):
    class Poisoned(Taking):
        def __call__(self, text):
            ours = super().__call__(text)
            if text == token(2):
                raise ConflictError("never")
            return ours

    take = Poisoned()
    for number in (2, 4, 6):
        server.deliver(mail(number))
    with reading(server, take):
        wait_for(lambda: server.count() == 1)
        server.deliver(mail(8))
        wait_for(lambda: server.count() == 1 and take.taken[token(8)] and take.taken[token(2)] > 2)
    assert (take.taken[token(4)], take.taken[token(6)], take.taken[token(8)]) == (1, 1, 1)


def test_a_connection_that_breaks_between_taking_and_expunging_has_the_token_taken_twice(server):
    class Breaking(Taking):
        def __call__(self, text):
            ours = super().__call__(text)
            if self.taken[text] == 1:
                server.restart()
            return ours

    take = Breaking()
    server.deliver(mail(2))
    with reading(server, take):
        wait_for(lambda: server.count() == 0)
    assert take.taken == {token(2): 2}


def test_a_thousand_mails_at_once(server):
    for number in range(0, 2000, 2):
        server.deliver(mail(number))
    for _ in range(3):
        server.deliver(FOREIGN)
    take = Taking()
    with reading(server, take):
        wait_for(lambda: server.count() == 3, 120)
    assert take.taken == dict.fromkeys(map(token, range(0, 2000, 2)), 1)
    assert {found.octets for found in server.mails().values()} == {FOREIGN}


MANY = ",\r\n ".join(f"a{number}@elsewhere.test" for number in range(10_000))
HOSTILE = {
    "ten thousand recipients": f"To: {MANY}\r\n",
    "ten thousand in one line": f"To: {MANY.replace(chr(13) + chr(10), '')}\r\n",
    "a line of a megabyte": f"To: {'a' * 1_000_000}\r\n",
    "a hundred thousand at signs": f"Cc: {'@' * 100_000}\r\n",
    "comments in comments": f"To: {'(' * 50_000}\r\n",
    "a quote without end": 'To: "leave\r\n',
    "encoded words": f"To: =?utf-8?q?leave+{token(1)}=40weekly=2Eexample=2Eorg?=\r\n",
    "control characters": "To: \x00\x01\x7f\t\x0b\r\n",
    "letters that are no ASCII": "To: лист@прыклад.test\r\n",
    "no colon": "To leave\r\n",
    "an empty field": "To:\r\nCc: \r\n",
    "IMAP": 'To: {1000}\r\nCc: ) * 1 FETCH (FLAGS (\\Deleted))\r\nTo: "\\" ")\r\n',
    "ten thousand fields": "To: a@b.test\r\n" * 10_000,
}


def test_hostile_headers_do_no_harm(server):
    foreign = [f"{head}From: <x@y.test>\r\n\r\n".encode() for head in HOSTILE.values()]
    for octets in foreign:
        server.deliver(octets)
    # What the server wrote down on top of it still counts.
    for number, head in enumerate(HOSTILE.values()):
        server.deliver(mail(2 * number, head=f"Delivered-To: leave+{token(2 * number)}@weekly.example.org\r\n{head}"))
    take = Taking()
    began = time.process_time()
    with reading(server, take):
        wait_for(lambda: server.count() == len(foreign))
        spent = time.process_time() - began
    assert take.taken == {token(2 * number): 1 for number in range(len(HOSTILE))}
    assert sorted(len(found.octets) for found in server.mails().values()) == sorted(map(len, foreign))
    assert not any(found.flags for found in server.mails().values())
    assert spent < 5


def test_it_ends_at_once_whatever_it_waits_for(server):
    for ready, make in (("idle", lambda: None), ("away", server.stop)):
        make()
        with reading(server, Taking(), Times(away=(600,))):
            time.sleep(0.5)  # for it to be in its wait, which nothing shows from outside
            began = time.monotonic()
        assert time.monotonic() - began < 2, ready
    server.start()


def test_no_log_and_no_error_holds_an_address_a_user_or_a_password(server, said):
    sender = canary("leaver")
    logging.getLogger().setLevel(logging.DEBUG)
    with reading(server, Taking()):
        server.deliver(mail(2, sender=sender, head=f"Reply-To: {sender}\r\n"))
        server.deliver(mail(3, sender=sender, head=f"Delivered-To: {sender}\r\n"))
        wait_for(lambda: server.count() == 0)
        server.set_password("another")
        server.restart()
        wait_for(lambda: "refuses the login" in said.text)
    assert "mails-taken" in said.text
    assert "unknown=1" in said.text
    assert_no_trace([sender], text=said.text)
    for secret in (USER, PASSWORD, "leave", "weekly.example.org"):
        assert secret not in said.text
