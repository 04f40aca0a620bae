"""Leaving by mail, over a real LMTP connection: the token in the address, and nothing else, counts."""

from __future__ import annotations

import contextlib
import json
import re
import smtplib

import pytest
import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring, Purpose
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import LinkSigner
from service.embedded.mailbox import read_mailbox
from service.store import subscribers
from service.store.tables import notices
from tests.canary import assert_no_trace, canary
from tests.conftest import KEYRING
from tests.factories import JOINED
from tests.flow.conftest import database_url
from tests.flow.visitor import mails
from tests.installation import installed
from tests.servers import free_port

pytestmark = pytest.mark.slow

LEAVE = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request, tmp_path_factory):
    """An installation without a worker, whose broker is away: leaving needs neither."""
    folder, port = tmp_path_factory.mktemp("inbound"), free_port()
    settings = {"inbound_url": f"lmtp://127.0.0.1:{port}?address=leave@weekly.example.org", "log_level": "DEBUG"}
    with database_url(request, request.param, folder) as url, installed(folder / "run", url, **settings) as made:
        made.fill()
        made.valkey.kill()
        made.start_command("inbound")
        made.port = port
        made.wait_for(lambda: answers(port), why="the mailbox does not answer")
        yield made


def answers(port):
    with contextlib.suppress(OSError), smtplib.LMTP("127.0.0.1", port) as client:
        return client.ehlo()[0] == 250
    return False


def added(made, name):
    with made.database.begin() as session:
        status = SubscriberStatus.ACTIVE
        address = canary(name)
        return address, subscribers.add(session, address, Chain(("be",)), status=status, consent="test", week=JOINED).id


def status(made, row_id):
    with made.database.read() as session:
        return subscribers.get(session, row_id).status


def deliver(made, recipient, body=b"", sender="<>"):
    """What the listener says to the end of a mail, or to the address that it refuses."""
    with smtplib.LMTP("127.0.0.1", made.port) as client:
        client.ehlo()
        client.docmd("MAIL", f"FROM:{sender}")
        code, _ = client.docmd("RCPT", f"TO:<{recipient}>")
        return code if code != 250 else client.data(body)[0]


def test_the_token_in_the_address_is_enough_and_twice_is_as_good_as_once(house):
    address, row_id = added(house, "leaver")
    recipient = f"leave+{LEAVE.sign(row_id)}@weekly.example.org"
    # Nobody is asked who writes, nor why.
    body = f"From: somebody@else.test\r\nSubject: {address}\r\n\r\nhold on\r\n".encode()
    assert [deliver(house, recipient, body, sender="<somebody@else.test>") for _ in range(2)] == [250, 250]
    assert status(house, row_id) is SubscriberStatus.UNSUBSCRIBED
    with house.database.read() as session:
        mine = notices.c.parameters["reader"].as_string() == row_id.hex()
        kinds = session.execute(sa.select(notices.c.kind).where(mine)).scalars().all()
    assert kinds == ["goodbye"]
    assert_no_trace([address, "somebody@else.test"], octets=house.logs().encode())


def test_an_address_or_a_token_in_the_body_or_as_the_sender_lets_nobody_leave(house):
    address, row_id = added(house, "stays")
    token = LEAVE.sign(row_id)
    body = f"From: {address}\r\nTo: leave+{token}@weekly.example.org\r\nSubject: {token}\r\n\r\n{token}\r\n".encode()
    forged = "A" * 48
    assert deliver(house, f"leave+{forged}@weekly.example.org", body, sender=f"<{address}>") == 250
    other = LinkSigner(KEYRING, Purpose.PREFERENCES).sign(row_id)
    assert deliver(house, f"leave+{other}@weekly.example.org", body) == 250
    assert status(house, row_id) is SubscriberStatus.ACTIVE


@pytest.mark.parametrize(
    "recipient",
    [
        "leave@weekly.example.org",
        "anybody@weekly.example.org",
        "leave+x@elsewhere.test",
        "postmaster+x@weekly.example.org",
    ],
)
def test_no_other_address_is_taken(house, recipient):
    assert deliver(house, recipient) == 550


def test_several_recipients_come_one_after_the_other(house):
    tokens = [LEAVE.sign(added(house, f"several{number}")[1]) for number in range(2)]
    with smtplib.LMTP("127.0.0.1", house.port) as client:
        client.ehlo()
        client.docmd("MAIL", "FROM:<>")
        codes = [client.docmd("RCPT", f"TO:<leave+{token}@weekly.example.org>")[0] for token in tokens]
    assert codes == [250, 452]


def test_a_mail_that_is_too_long_lets_nobody_leave_and_harms_nobody(house):
    _, row_id = added(house, "long")
    recipient = f"leave+{LEAVE.sign(row_id)}@weekly.example.org"
    assert deliver(house, recipient, b"x" * 76 + b"\r\n" + (b"y" * 76 + b"\r\n") * 20_000) == 552
    assert status(house, row_id) is SubscriberStatus.ACTIVE
    assert answers(house.port)


def test_the_doctor_finds_it(house):
    checks = json.loads(house.tydzen("doctor", "--json", wants=None).stdout)["checks"]
    (found,) = (one for one in checks if one["what"] == "inbound")
    assert found["ok"], found


def test_an_issue_names_the_mailbox_with_the_token_in_its_address(house):
    house.tydzen("issue", "test", "2019-W22", "trial@reader.test", "--chain", "en")
    (mail,) = mails(house.sink, "trial@reader.test")
    url, token = re.fullmatch(
        r"<(http\S+)>, <mailto:leave\+([\w-]{48})@weekly\.example\.org>", mail["List-Unsubscribe"]
    ).groups()
    assert url.endswith(f"/u/{token}")
    assert deliver(house, f"leave+{token}@weekly.example.org") == 250


@pytest.mark.parametrize(
    "url",
    [
        "imap://127.0.0.1", "lmtp://127.0.0.1", "lmtp://127.0.0.1:8024", "lmtp://127.0.0.1:x?address=a@b.test",
        "lmtp://127.0.0.1:8024?address=a", "lmtp://127.0.0.1:8024?address=a%2Bb@b.test",
        "lmtp://127.0.0.1:8024?address=leave-by-mail-now@b.test",
    ],
)  # fmt: skip
def test_a_mailbox_that_is_not_rightly_set_is_said_at_once(url):
    with pytest.raises(ConfigurationError, match="write lmtp://"):
        read_mailbox(url)


def add_key(made, number):
    """Append a key to the keyring of the installation, as docs/operations.md says; the keyring that it is now."""
    keyring = Keyring({**KEYRING.secrets, number: bytes((number,)) * 32})
    (made.folder / "data" / "secret.key").write_text(keyring.render())
    return keyring


def test_a_link_of_a_key_that_is_not_here_yet_is_tried_again_later_and_taken_once_it_is(house):
    _, row_id = added(house, "rotated")
    keyring = Keyring({**KEYRING.secrets, 2: bytes((2,)) * 32})
    recipient = f"leave+{LinkSigner(keyring, Purpose.UNSUBSCRIBE).sign(row_id)}@weekly.example.org"
    assert deliver(house, recipient) == 451
    assert status(house, row_id) is SubscriberStatus.ACTIVE
    assert add_key(house, 2) == keyring
    # The file is read once a second.
    house.wait_for(lambda: deliver(house, recipient) == 250)
    assert status(house, row_id) is SubscriberStatus.UNSUBSCRIBED
