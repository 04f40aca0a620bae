"""How the URL of a mailbox on IMAP is read, and that no error repeats its secrets."""

from __future__ import annotations

import pytest

from service.domain.errors import ConfigurationError
from service.embedded.mailbox import read_mailbox
from service.mail.imap_account import ImapAccount, read_account
from service.mail.leave_address import LeaveAddress
from service.mail.tls import Tls

LEAVE = LeaveAddress("leave@weekly.example.org")
HERE = f"address={LEAVE.text}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"imaps://me:pw@imap.example.org?{HERE}", ("imap.example.org", 993, Tls.IMPLICIT, "me", "pw", "INBOX", LEAVE)),
        (
            f"imaps://me%40x.test:p%3Aw%2F%3F%25%23@imap.example.org:1993/Lists/leaving%20%D0%BA?{HERE}&ca=/keys/ca.pem",
            ("imap.example.org", 1993, Tls.IMPLICIT, "me@x.test", "p:w/?%#", "Lists/leaving к", LEAVE, "/keys/ca.pem"),
        ),
        (f"imap://me:pw@imap.example.org/?{HERE}", ("imap.example.org", 143, Tls.STARTTLS, "me", "pw", "INBOX", LEAVE)),
        (f"imap://me:pw@h.test:993/I?{HERE}", ("h.test", 993, Tls.IMPLICIT, "me", "pw", "I", LEAVE)),
        (f"imap://me:pw@h.test/I?{HERE}&tls=implicit", ("h.test", 993, Tls.IMPLICIT, "me", "pw", "I", LEAVE)),
        (f"imap://me:pw@localhost/I?{HERE}", ("localhost", 143, Tls.NONE, "me", "pw", "I", LEAVE)),
        (f"imap://me:pw@[::1]/I?{HERE}&tls=none", ("::1", 143, Tls.NONE, "me", "pw", "I", LEAVE)),
        (f"imap://me:pw@127.0.0.1/I?{HERE}&tls=starttls", ("127.0.0.1", 143, Tls.STARTTLS, "me", "pw", "I", LEAVE)),
    ],
)  # fmt: skip
def test_an_account(url, expected):
    assert read_account(url) == read_mailbox(url) == ImapAccount(*expected)


def test_hosts_that_do_not_read_the_mailbox_name_the_same_address_without_its_password():
    assert read_mailbox(f"lmtp://127.0.0.1:8024?{HERE}").leave == read_account(f"imaps://me:pw@h.test?{HERE}").leave


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (f"imaps://me@imap.example.org/INBOX?{HERE}", "no user, or no password"),
        (f"imaps://:canary@imap.example.org/INBOX?{HERE}", "no user, or no password"),
        ("imaps://me:canary@imap.example.org/INBOX", "write lmtp://.* or imaps://"),
        ("imaps://me:canary@imap.example.org/INBOX?address=a@b.test&address=c@d.test", "write lmtp://"),
        ("imaps://me:canary@imap.example.org/INBOX?address=leave%2Bx@b.test", r"no \+"),
        ("imaps://me:canary@imap.example.org/INBOX?address=leave", "not of the form"),
        (f"imaps://me:canary@imap.example.org:x/INBOX?{HERE}", "not well formed"),
        (f"imaps://me:can/ary@imap.example.org/INBOX?{HERE}", "not well formed"),
        (f"imaps://leave@example.org:can@ary#1@imap.example.org/INBOX?{HERE}", "a # .* is written as %23"),
        (f"imaps://me:canary#1@imap.example.org/INBOX?{HERE}", "a # .* is written as %23"),
        (f"imaps://me:canary@imap.example.org/IN#BOX?{HERE}", "a # .* is written as %23"),
        (f"imaps:///INBOX?{HERE}", "write lmtp://"),
        (
            f"imaps://me:canary@imap.example.org/INBOX?{HERE}&port=3",
            "unknown option 'port'; known are address, ca, tls",
        ),
        (f"imaps://me:canary@imap.example.org/INBOX?{HERE}&tls=starttls", "imaps:// means tls=implicit"),
        (f"imap://me:canary@imap.example.org/INBOX?{HERE}&tls=perhaps", "tls is none, starttls or implicit"),
        (f"imap://me:canary@imap.example.org/INBOX?{HERE}&tls=none", "never sent in clear"),
        (f"imaps://me:canary%0D%0Ax@imap.example.org/INBOX?{HERE}", "control character"),
        (f"imaps://me:canary@imap.example.org/IN%00BOX?{HERE}", "control character"),
        (f"imaps://m%0Ae:canary@imap.example.org/INBOX?{HERE}", "control character"),
    ],
)
def test_what_is_not_rightly_set_is_said_without_its_secrets(url, words):
    with pytest.raises(ConfigurationError, match=words) as failure:
        read_mailbox(url)
    assert str(failure.value).startswith("TYDZEN_INBOUND_URL: ")
    for secret in ("canary", "ary@", "me:"):
        assert secret not in str(failure.value)


def test_an_account_shows_neither_user_nor_password():
    account = read_account(f"imaps://somebody:canary@imap.example.org?{HERE}")
    assert "canary" not in repr(account)
    assert "somebody" not in repr(account)
    assert account.name == "mailbox imap.example.org:993"
