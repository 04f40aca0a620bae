"""Leaving by mail where the mails lie in a mailbox on IMAP: the installation's own commands, with a real IMAP server."""

from __future__ import annotations

import contextlib
import imaplib
import json
import re
import signal
import time

import psycopg
import pytest

from service.domain.keys import Keyring, Purpose
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import LinkSigner
from service.store import subscribers
from tests.canary import assert_no_trace
from tests.conftest import KEYRING
from tests.flow.conftest import database_url, sending_installation
from tests.flow.test_inbound import add_key, added, status
from tests.flow.visitor import mails
from tests.imap_server import PASSWORD, USER, imap_server
from tests.installation import installed

pytestmark = pytest.mark.slow

ADDRESS = "leave@weekly.example.org"
LEAVE = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE)


@contextlib.contextmanager
def house_on(request, kind, folder):
    """An installation without a worker, whose broker is away, and its mailbox: leaving needs neither of the former."""
    with imap_server() as server, database_url(request, kind, folder) as url:
        settings = {"inbound_url": server.url(ADDRESS), "log_level": "DEBUG"}
        with installed(folder / "run", url, **settings) as made:
            made.fill()
            made.valkey.kill()
            made.server = server
            yield made


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request, tmp_path_factory):
    with house_on(request, request.param, tmp_path_factory.mktemp("inbound")) as made:
        made.start_command("inbound")
        yield made


def written(sender, recipient):
    head = f"Return-Path: <{sender}>\r\nFrom: <{sender}>\r\nTo: {recipient}\r\nMessage-ID: <{time.time()}@x.test>\r\n"
    return f"{head}Subject: unsubscribe\r\n\r\nPlease.\r\n".encode()


def status_of(made, address):
    with made.database.read() as session:
        return subscribers.find(session, address).status


def test_from_the_header_of_an_issue_to_the_readers_row_and_an_empty_mailbox(request, tmp_path):
    with (
        imap_server() as server,
        sending_installation(request, "sqlite", tmp_path, inbound_url=server.url(ADDRESS)) as made,
    ):
        made.start_command("inbound")
        readers, waited = made.fill(3), []
        made.wait_until_sent(made.send())
        made.wait_for(lambda: server.log().count("Login:"))
        for reader in readers:
            (mail,) = mails(made.sink, reader)
            named = re.search(r"<mailto:(leave\+[\w-]{48}@weekly\.example\.org)>$", mail["List-Unsubscribe"])[1]
            server.deliver(written(reader, named))
            delivered = time.monotonic()
            made.wait_for(lambda reader=reader: status_of(made, reader) is SubscriberStatus.UNSUBSCRIBED)
            waited.append(time.monotonic() - delivered)
        # A busy machine may delay some; a mailbox that is asked each minute would delay all.
        assert min(waited) < 2, waited
        made.wait_for(lambda: server.count() == 0)


def test_the_token_of_a_mail_is_enough_and_nothing_is_logged_of_it(house):
    leavers = [added(house, f"leaver{number}") for number in range(3)]
    for address, row_id in leavers:
        for _ in range(2):
            house.server.deliver(written(address, f"leave+{LEAVE.sign(row_id)}@weekly.example.org"))
    house.wait_for(lambda: house.server.count() == 0)
    for _, row_id in leavers:
        assert status(house, row_id) is SubscriberStatus.UNSUBSCRIBED
    assert "mails-taken" in house.logs()
    assert_no_trace([address for address, _ in leavers], octets=house.logs().encode())
    for secret in (USER, PASSWORD, ADDRESS, "leave+"):
        assert secret not in house.logs()


def test_a_link_of_a_key_that_was_added_while_it_runs_lets_its_reader_leave(house):
    _, row_id = added(house, "rotated")
    house.wait_for(lambda: house.server.log().count("Login:"))
    links = LinkSigner(add_key(house, 2), Purpose.UNSUBSCRIBE)
    house.server.deliver(written("a@b.test", f"leave+{links.sign(row_id)}@weekly.example.org"))
    house.wait_for(lambda: house.server.count() == 0)
    assert status(house, row_id) is SubscriberStatus.UNSUBSCRIBED


def test_one_of_a_key_that_is_not_here_stays_and_keeps_no_other_waiting(house):
    keyring = Keyring({**KEYRING.secrets, 7: b"7" * 32})
    readers = [added(house, f"keyless{number}")[1] for number in range(2)]
    for links, row_id in zip((LinkSigner(keyring, Purpose.UNSUBSCRIBE), LEAVE), readers, strict=True):
        house.server.deliver(written("a@b.test", f"leave+{links.sign(row_id)}@weekly.example.org"))
    house.wait_for(lambda: house.server.count() == 1)
    assert [status(house, row_id) for row_id in readers] == [SubscriberStatus.ACTIVE, SubscriberStatus.UNSUBSCRIBED]
    assert "key 7, which is not in the keyring" in house.logs()
    house.server.clear()


def test_what_is_not_for_us_stays_unread(house):
    address, row_id = added(house, "stays")
    foreign = written(address, ADDRESS)
    house.server.deliver(foreign)
    house.server.deliver(written(address, f"leave+{'A' * 48}@weekly.example.org"))
    house.server.deliver(
        written(address, f"leave+{LinkSigner(KEYRING, Purpose.PREFERENCES).sign(row_id)}@weekly.example.org")
    )
    house.wait_for(lambda: house.server.count() == 1)
    (found,) = house.server.mails().values()
    assert (found.octets, found.flags) == (foreign, frozenset())
    assert status(house, row_id) is SubscriberStatus.ACTIVE
    house.server.clear()


def test_while_the_database_is_away_mails_stay_and_are_taken_when_it_is_back(request, tmp_path):
    with house_on(request, "postgresql", tmp_path) as made:
        made.start_command("inbound")
        _, row_id = added(made, "later")
        made.wait_for(lambda: made.server.log().count("Login:"))
        name, server = made.database.url.database, request.getfixturevalue("postgresql")
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            try:
                made.server.deliver(written("a@b.test", f"leave+{LEAVE.sign(row_id)}@weekly.example.org"))
                made.wait_for(lambda: "tokens-not-taken" in made.logs())
                assert made.server.count() == 1
            finally:
                connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        made.database.close()  # the test's own connections were ended, too, and one that was just used is trusted
        made.wait_for(lambda: status(made, row_id) is SubscriberStatus.UNSUBSCRIBED)
        made.wait_for(lambda: made.server.count() == 0)
        made.wait_for(lambda: "tokens-taken-again" in made.logs())


@pytest.fixture(scope="module")
def quiet_house(request, tmp_path_factory):
    """Without the command that reads."""
    with house_on(request, "sqlite", tmp_path_factory.mktemp("quiet")) as made:
        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_within_seconds_in_mid_idle(quiet_house, number):
    before = quiet_house.server.log().count("Login:")
    process = quiet_house.start_command("inbound")
    quiet_house.wait_for(lambda: quiet_house.server.log().count("Login:") > before)
    process.send_signal(number)
    assert process.wait(5) == 0
    assert "Traceback" not in quiet_house.logs()


def inbound_finding(house):
    checks = json.loads(house.tydzen("doctor", "--json", wants=None).stdout)["checks"]
    return next(one for one in checks if one["what"] == "inbound")


def with_url(house, **url):
    return {**house.environment, "TYDZEN_INBOUND_URL": house.server.url(ADDRESS, **url)}


def test_the_doctor_logs_in_and_says_what_is_wrong(quiet_house, monkeypatch):
    assert inbound_finding(quiet_house) == {
        "what": "inbound",
        "ok": True,
        "found": f"mails to {ADDRESS} unsubscribe as long as tydzen inbound runs; the mailbox "
        f"127.0.0.1:{quiet_house.server.tls_port} lets us in, and none has lain there for long",
    }
    for url, words in (
        ({"password": "wrong"}, "refuses the login"),
        ({"ca": ""}, "certificate that does not verify"),
        ({"ca": "/nowhere.pem"}, "the CA file of mailbox"),
        ({"folder": "nowhere"}, "does not open that folder"),
    ):
        monkeypatch.setattr(quiet_house, "environment", with_url(quiet_house, **url))
        found = inbound_finding(quiet_house)
        assert not found["ok"]
        assert words in found["found"]
        assert USER not in found["found"]


def test_the_doctor_misses_whoever_should_read_the_mailbox(quiet_house):
    server, token = quiet_house.server, LEAVE.sign(b"r" * 16)
    foreign, ours = written("a@b.test", ADDRESS), written("a@b.test", f"leave+{token}@weekly.example.org")
    for octets in (foreign, ours):
        server.deliver(octets)
    # Of this very minute, or of somebody else: nobody is missed yet.
    assert inbound_finding(quiet_house)["ok"]
    with server.client() as client:
        for octets in (foreign, ours):
            client.append("INBOX", None, imaplib.Time2Internaldate(time.time() - 1000), octets)
    before = server.mails()
    found = inbound_finding(quiet_house)
    assert not found["ok"]
    assert found["found"].startswith("mails to unsubscribe (1) have lain in the mailbox")
    assert "start tydzen inbound" in found["found"]
    assert token not in found["found"]
    assert server.mails() == before
    server.clear()


@pytest.mark.parametrize(
    "url", [{"ca": ""}, {"scheme": "imap", "tls": "starttls"}, {"folder": "nowhere"}, {"ca": "/nowhere.pem"}]
)
def test_a_setting_that_cannot_work_ends_it_at_once_with_words(quiet_house, monkeypatch, url):
    monkeypatch.setattr(quiet_house, "environment", with_url(quiet_house, **url))
    ended = quiet_house.tydzen("inbound", wants=1)
    assert (
        f"mailbox 127.0.0.1:{quiet_house.server.port if 'scheme' in url else quiet_house.server.tls_port}"
        in ended.stderr
    )
    for hidden in ("Traceback", USER, PASSWORD, ADDRESS):
        assert hidden not in ended.stderr


def test_the_password_is_shown_nowhere(quiet_house):
    said = quiet_house.tydzen("config", "show").stdout + quiet_house.tydzen("config", "show", "--json").stdout
    url = quiet_house.server.url(ADDRESS)
    assert re.sub(r":[^:@]*@127", ":***@127", url) in said
    assert re.search(r":([^:@]*)@127", url)[1] not in said
    assert PASSWORD not in said
