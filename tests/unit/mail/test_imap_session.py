"""What no rightly working IMAP server does is survived, within a bound of time and memory, and nothing is given away."""

from __future__ import annotations

import contextlib
import resource
import socket
import threading
import time

import pytest

from service.domain.errors import ConfigurationError, TydzenError
from service.mail.imap_account import read_account
from service.mail.imap_session import ImapSession, LoginRefusedError, MailboxAwayError
from service.mail.imap_wire import Halt, Limits

SHORT = Limits(connect=5, answer=1)
GREETING = b"* OK [CAPABILITY IMAP4rev1 %s] ready\r\n"
FOLDER = b"* 1 EXISTS\r\n* OK [UIDVALIDITY 7] ok\r\n"


class Scripted:
    """A server that answers each command by its name; `T` stands for the tag of the command."""

    def __init__(self, **answers: bytes) -> None:
        offered = answers.pop("offers", b"IDLE UIDPLUS")
        self.heard: list[bytes] = []
        self._answers = {
            "CAPABILITY": b"* CAPABILITY IMAP4rev1 " + offered + b"\r\nT OK done\r\n",
            "LOGIN": b"T OK done\r\n",
            "DONE": b"T OK done\r\n",
            "EXAMINE": FOLDER + b"T OK [READ-ONLY] ok\r\n",
            "SEARCH": b"* SEARCH 5\r\nT OK done\r\n",
            "FETCH": b"* 1 FETCH (UID 5 BODY[HEADER.FIELDS (TO)]<0> {4}\r\nTo: )\r\nT OK done\r\n",
            **answers,
        }
        self._greeting = answers.get("greeting", GREETING % offered)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._connection = self._listening
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            self._connection = connection
            with connection, connection.makefile("rb") as lines:
                connection.sendall(self._greeting)
                for line in lines:
                    self.heard.append(line)
                    if line != b"DONE\r\n":  # which answers the IDLE before it
                        tag, *words = line.split()
                    else:
                        words = [b"DONE"]
                    name = next((word.decode() for word in words if word.decode() in self._answers), "")
                    said = self._answers.get(name, b"T OK done\r\n").replace(b"T ", tag + b" ")
                    connection.sendall(said.removesuffix(b"..."))
                    while said.endswith(b"..."):
                        connection.sendall(b"x" * 65536 if said[-4:] != b"\n..." else said[:-3] * 1000)

    def close(self) -> None:
        for one in (self._listening, self._connection):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()


@contextlib.contextmanager
def session(limits=SHORT, halt=None, url="imap://user:secret@127.0.0.1:{port}/?address=leave@b.test", **answers):
    server = Scripted(**answers)
    account = read_account(url.format(port=server.port))
    with (
        contextlib.closing(server),
        contextlib.closing(halt or Halt()) as halt,
        contextlib.closing(ImapSession(account, halt, limits)) as made,
    ):
        made.server = server
        yield made


def look(made):
    folder = made.look()
    return made.headers(made.uids(folder, 1))


def test_the_scripted_server_is_understood():
    with session() as made:
        assert look(made) == {5: b"To: "}


NONSENSE = {
    "silence": {"SEARCH": b""},
    "drop by drop": {"greeting": b"*"},
    "a line without end": {"SEARCH": b"* SEARCH 1..."},
    "lines without end": {"SEARCH": b"* 5 EXISTS\r\n..."},
    "a huge literal": {"FETCH": b"* 1 FETCH (UID 5 BODY[] {4294967295}\r\nx"},
    "a literal that is not there": {"FETCH": b"* 1 FETCH (UID 5 BODY[] {400}\r\nx"},
    "an odd number of items": {"FETCH": b"* 1 FETCH (UID)\r\nT OK done\r\n"},
    "no numbers": {"SEARCH": b"* SEARCH a b\r\nT OK done\r\n"},
    "no UIDVALIDITY": {"EXAMINE": b"* x EXISTS\r\n* OK [UIDVALIDITY x] ok\r\nT OK done\r\n"},
    "another's tag": {"SEARCH": b"X9 OK\r\n"},
    "no IMAP": {"greeting": b"220 mail.example.org ESMTP\r\n"},
    "octets": {"greeting": b"\xff\xfe\x00\r\n"},
    "no ASCII among the capabilities": {"CAPABILITY": b"* CAPABILITY IMAP4rev1 \xff\r\nT OK done\r\n"},
    "a refusal": {"SEARCH": b"T NO user@example.org\r\n"},
    "a farewell": {"SEARCH": b"* BYE user@example.org\r\n"},
    "the end": {"SEARCH": b"* SEA"},
}


@pytest.mark.parametrize("answers", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_a_mailbox_that_is_away_within_bounds_and_its_words_are_not_repeated(answers):
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TydzenError) as failure, session(**answers) as made:
        look(made)
    assert isinstance(failure.value, MailboxAwayError | ConfigurationError)
    assert "@" not in str(failure.value)
    assert "secret" not in repr(failure.value)
    assert time.monotonic() - began < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


@pytest.mark.parametrize(
    ("fetched", "expected"),
    [
        (b"* 1 FETCH (UID 5 BODY[HEADER.FIELDS (TO)]<0> NIL)\r\nT OK done\r\n", {5: b""}),
        (b"* 1 FETCH (UID 5 FLAGS (\\Seen))\r\nT OK done\r\n", {5: b""}),
        (b'* 1 FETCH (UID 5 BODY[HEADER.FIELDS ("TO")]<0> "To: 1")\r\nT OK done\r\n', {5: b"To: 1"}),
        (b'* 2 FETCH (UID 6 BODY[HEADER.FIELDS (TO)]<0> "To: 2")\r\nT OK done\r\n', {}),
        (b"* 1 FETCH (UID 5 BODY[HEADER.FIELDS (TO)]<0> 12)\r\nT OK done\r\n", {5: b""}),
        (b"T OK done\r\n", {}),
    ],
)  # fmt: skip
def test_a_mail_of_which_less_is_told_has_no_addressees(fetched, expected):
    with session(FETCH=fetched) as made:
        assert look(made) == expected


def test_more_octets_than_were_asked_for_are_cut_off():
    octets = b"To: " + b"x" * 100_000
    said = b"* 1 FETCH (UID 5 BODY[]<0> {%d}\r\n%s)\r\nT OK done\r\n" % (len(octets), octets)
    with session(FETCH=said) as made:
        assert look(made) == {5: octets[:65536]}


def test_only_the_fields_of_addressees_are_asked_for_and_nothing_is_marked_as_read():
    with session() as made:
        look(made)
        asked = b"".join(made.server.heard)
    assert b"BODY.PEEK[HEADER.FIELDS (DELIVERED-TO X-ORIGINAL-TO ENVELOPE-TO TO CC)]<0.65536>" in asked
    assert asked.count(b"BODY") == 1
    assert b"SELECT" not in asked
    assert b"STORE" not in asked


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"T NO [AUTHENTICATIONFAILED] user@example.org: secret\r\n", LoginRefusedError),
        (b"T NO no\r\n", LoginRefusedError),
        (b"T BAD no\r\n", LoginRefusedError),
        (b"T NO [UNAVAILABLE] later\r\n", MailboxAwayError),
        (b"* BYE too many\r\n", MailboxAwayError),
    ],
)
@pytest.mark.parametrize("mechanism", [b"", b"AUTH=PLAIN"])
def test_a_refused_login_is_told_from_a_server_in_trouble(answer, kind, mechanism):
    with pytest.raises(MailboxAwayError) as failure, session(offers=mechanism, LOGIN=answer, AUTHENTICATE=answer):
        pass
    assert type(failure.value) is kind
    assert "user" not in str(failure.value)
    assert "secret" not in str(failure.value)


def test_a_user_is_quoted_and_letters_that_login_cannot_say_are_told_at_once():
    with session(url="imap://a%20%22b%5C:secret@127.0.0.1:{port}/?address=leave@b.test", offers=b"IDLE") as made:
        assert b' LOGIN "a \\"b\\\\" "secret"\r\n' in made.server.heard[1]
    far = "imap://user:%D0%BA%D0%BE%D1%82@127.0.0.1:{port}/?address=leave@b.test"
    with pytest.raises(ConfigurationError, match="takes only ASCII"), session(url=far, offers=b"IDLE"):
        pass


STARTTLS = "imap://user:secret@127.0.0.1:{port}/?address=leave@b.test&tls=starttls"


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"offers": b"IDLE"}, ConfigurationError),
        ({"offers": b"STARTTLS", "STARTTLS": b"T NO not now\r\n"}, MailboxAwayError),
        ({"offers": b"STARTTLS", "STARTTLS": b"T OK done\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n"}, MailboxAwayError),
        ({"offers": b"STARTTLS", "greeting": b"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n"}, MailboxAwayError),
        ({"offers": b"STARTTLS", "STARTTLS": b"T OK done\r\nno handshake at all"}, MailboxAwayError),
    ],
    ids=["not offered", "refused", "answers put before the handshake", "logged in already", "no handshake"],
)
def test_without_tls_that_was_asked_for_no_password_is_sent(answers, kind):
    server = Scripted(**answers)
    with contextlib.closing(server), contextlib.closing(Halt()) as halt:
        with pytest.raises(kind):
            ImapSession(read_account(STARTTLS.format(port=server.port)), halt, SHORT)
        said = b"".join(server.heard)
    assert b"LOGIN" not in said
    assert b"AUTHENTICATE" not in said


def test_a_server_that_lets_nobody_log_in_with_a_password_is_told_at_once():
    with pytest.raises(ConfigurationError, match="lets nobody log in"), session(offers=b"LOGINDISABLED"):
        pass


@pytest.mark.parametrize(
    "idle",
    [
        b"+ idling\r\n* 2 EXISTS\r\n",
        b"* 2 EXISTS\r\n+ idling\r\n",
        b"+ idling\r\n* OK Still here\r\n",
    ],
)
def test_what_is_told_in_one_breath_with_the_beginning_of_an_idle_ends_it(idle):
    with session(IDLE=idle, limits=Limits(connect=5, answer=20)) as made:
        made.look()
        began = time.monotonic()
        made.wait(30, 30)
        assert made.server.heard[-1] == b"DONE\r\n"
        assert time.monotonic() - began < 10


def test_mails_told_of_before_an_idle_are_not_slept_over():
    with session(SEARCH=b"* SEARCH 5\r\n* 2 EXISTS\r\nT OK done\r\n") as made:
        look(made)
        assert made.news()
        made.look()
        assert not made.news()


@pytest.mark.parametrize("where", ["greeting", "SEARCH"])
def test_a_halt_ends_every_wait_at_once(where):
    halt = Halt()
    threading.Timer(0.3, halt.set).start()
    began = time.monotonic()
    with pytest.raises(Exception) as ended, session(Limits(connect=60, answer=60), halt, **{where: b""}) as made:
        look(made)
    assert type(ended.value).__name__ == "HaltedError"
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("opened", "words"),
    [
        (FOLDER + b"T OK [READ-ONLY] ok\r\n", "the right to delete mails"),
        (FOLDER.replace(b"7", b"8") + b"T OK [READ-WRITE] ok\r\n", "made its folder anew"),
        (b"T NO not now\r\n", "refuses what was asked"),
    ],
    ids=["no right to delete", "other mails by now", "refused"],
)
def test_what_may_not_be_deleted_or_is_another_mail_by_now_stays(opened, words):
    with session(SELECT=opened) as made:
        folder = made.look()
        with pytest.raises(MailboxAwayError, match=words):
            made.remove([5], folder)
        assert not any(b"STORE" in line or b"EXPUNGE" in line for line in made.server.heard)


def test_mails_are_deleted_by_their_uids_and_the_folder_is_closed_to_changes_again():
    with session(SELECT=FOLDER + b"T OK [READ-WRITE] ok\r\n") as made:
        assert made.remove([5], made.look(), marked=[4])
        said = [line.split(b" ", 1)[1] for line in made.server.heard[-4:]]
    assert said == [
        b'SELECT "INBOX"\r\n',
        b"UID STORE 5 +FLAGS.SILENT (\\Deleted)\r\n",
        b"UID EXPUNGE 4,5\r\n",
        b'EXAMINE "INBOX"\r\n',
    ]
