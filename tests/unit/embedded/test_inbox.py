import contextlib
import smtplib
import socket
import subprocess
import sys
import time

import pytest

from tests.servers import inbox_server


@pytest.fixture
def inbox(tmp_path):
    with inbox_server(tmp_path / "inbox") as server:
        yield server


def talk(server, *writes: bytes) -> bytes:
    """Everything said by the server to these writes, each sent in one go; ours end with QUIT."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        for octets in writes:
            connection.sendall(octets)
        connection.settimeout(5)
        said = b""
        with contextlib.suppress(ConnectionResetError):
            while octets := connection.recv(65536):
                said += octets
        return said


ENVELOPE = b"EHLO t\r\nMAIL FROM:<>\r\nRCPT TO:<reader@example.test>\r\nDATA\r\n"


@pytest.mark.parametrize(
    ("sent", "filed"),
    [
        (b"Subject: s\r\n\r\none\r\n.\r\n", b"Subject: s\r\n\r\none\r\n"),
        (b"a\r\n..\r\n...two\r\n.\r\n", b"a\r\n.\r\n..two\r\n"),
        (b"..first\r\nends with a dot.\r\n.\r\n", b".first\r\nends with a dot.\r\n"),
        (b"\r\n.\r\n", b"\r\n"),
        (b".\r\n", b""),
        ("Пятніца.\r\n.\r\n".encode(), "Пятніца.\r\n".encode()),
    ],
)
def test_a_mail_is_filed_octet_for_octet_without_its_stuffed_dots(inbox, sent, filed):
    said = talk(inbox, ENVELOPE + sent + b"QUIT\r\n")
    assert b"250 2.0.0 filed" in said
    (mail,) = inbox.mails()
    assert mail == b"Return-Path: <>\r\nDelivered-To: reader@example.test\r\n" + filed


def test_it_offers_what_a_real_relay_offers(inbox):
    with smtplib.SMTP("127.0.0.1", inbox.port) as client:
        client.ehlo()
        assert {"pipelining", "8bitmime", "smtputf8", "size"} <= set(client.esmtp_features)


def test_mails_in_a_pipeline_on_one_connection_are_all_filed_in_order(inbox):
    mail = b"MAIL FROM:<b-1@example.test> BODY=8BITMIME\r\nRCPT TO:<r%d@example.test>\r\nDATA\r\nSubject: %d\r\n\r\nx\r\n.\r\n"
    said = talk(inbox, b"EHLO t\r\n" + b"".join(mail % (n, n) for n in range(20)) + b"QUIT\r\n")
    assert said.count(b"250 2.0.0 filed") == 20
    assert [b"Delivered-To: r%d@" % n in filed for n, filed in enumerate(inbox.mails())] == [True] * 20


def test_a_line_that_is_too_long_is_refused_as_a_real_relay_may(inbox):
    said = talk(inbox, ENVELOPE + b"x" * 999 + b"\r\n.\r\n" + b"QUIT\r\n")
    assert b"500 5.6.0" in said
    assert inbox.mails() == []


def test_a_mail_cut_off_before_its_dot_is_not_filed(inbox):
    with socket.create_connection(("127.0.0.1", inbox.port)) as connection:
        connection.sendall(ENVELOPE + b"Subject: half\r\n")
    assert b"221" in talk(inbox, b"QUIT\r\n")
    assert inbox.mails() == []


def test_five_hundred_mails_a_second_are_filed(inbox):
    body = b"".join(b"%03d %s\r\n" % (n, b"x" * 85) for n in range(500))
    mail = b"MAIL FROM:<b-1@example.test>\r\nRCPT TO:<r@example.test>\r\nDATA\r\n" + body + b".\r\n"
    started = time.perf_counter()
    talk(inbox, b"EHLO t\r\n" + mail * 250 + b"QUIT\r\n")
    assert time.perf_counter() - started < 5, "ten times slower than it was made to be"
    assert len(inbox.mails()) == 250


def test_a_taken_port_is_named_with_the_setting_that_changes_it(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        command = [sys.executable, "-m", "service.embedded.inbox", "127.0.0.1", str(port), str(tmp_path)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert ended.returncode == 1
    assert f"127.0.0.1:{port}" in ended.stderr
    assert "TYDZEN_INBOX_PORT" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_it_never_writes_an_address_to_its_log(inbox):
    talk(inbox, ENVELOPE + b"x\r\n.\r\nRCPT TO:<canary@@example.test>\r\nVRFY canary@example.test\r\nQUIT\r\n")
    assert inbox.stop() == b""
