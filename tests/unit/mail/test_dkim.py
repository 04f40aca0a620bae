"""Signatures, as a stranger's verifier reads them off the octets that the relay got."""

from __future__ import annotations

import re

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain.errors import ConfigurationError
from service.mail.dkim import Signer, read_keys
from service.mail.message import Body, Letterhead, Mailbox, issue_rendition, notice_rendition
from service.mail.segments import compile_message
from tests.unit.mail.sending import LARGE, LETTERHEAD, RENDITION, UNSUBSCRIBE, letter, local, send, values

DOMAIN = "example.org"
FORMS = {"8bit": RENDITION.eight_bit, "7bit": RENDITION.seven_bit, "large": LARGE.eight_bit}


def pem(private, protection=None):
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection or NoEncryption())


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    (folder / "rsa.pem").write_bytes(pem(rsa.generate_private_key(65537, 2048)))
    (folder / "ed.pem").write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    return read_keys(f"one={folder}/rsa.pem, two={folder}/ed.pem")


@pytest.fixture(scope="module")
def signer(keys):
    return Signer(keys, DOMAIN, lambda: 1_559_545_200.7)


def verdicts(message, keys):
    """What the verifier says of each signature, by algorithm."""
    records = {f"{key.selector}._domainkey.{DOMAIN}.".encode(): key.record().encode() for key in keys}
    found = {}
    for number in range(len(re.findall(rb"^DKIM-Signature:", message, re.MULTILINE))):
        verifier = dkim.DKIM(message)
        try:
            good = verifier.verify(number, dnsfunc=lambda name, timeout=5: records.get(name))
        except dkim.DKIMException:
            good = False
        found[verifier.signature_fields[b"a"].decode()] = good
    return found


BOTH = {"rsa-sha256": True, "ed25519-sha256": True}
NEITHER = {"rsa-sha256": False, "ed25519-sha256": False}


# On the wire


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("hide", [frozenset(), frozenset({"CHUNKING"}), frozenset({"CHUNKING", "PIPELINING"})])
@pytest.mark.parametrize("rendition", [RENDITION, LARGE])
def test_every_letter_verifies_as_the_relay_got_it(loop, sink, tmp_path, keys, signer, hide, narrow, rendition):
    server = sink(hide=hide | {"8BITMIME"} if narrow else hide)
    letters = [letter(n, rendition=rendition) for n in range(1, 5)]
    run = send(loop, local(server.port), letters, tmp_path, signer=signer)
    assert run.classes() == ["accepted"] * 4
    assert [verdicts(message, keys) for message in server.messages] == [BOTH] * 4
    assert all(message.startswith(b"DKIM-Signature:") for message in server.messages)
    assert any(line.startswith(b".") for line in server.messages[0].split(b"\r\n")) is not narrow
    announced = [int(command.rpartition("SIZE=")[2]) for command in server.commands if command.startswith("MAIL")]
    assert announced == [len(message) for message in server.messages]


# What a signature covers


def signed(signer, form=RENDITION.eight_bit, filled=None):
    filled = filled or values(7, "reader@example.net")
    return signer.sign(form, filled) + form.join(filled)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_size_is_known_before_the_letter_is_signed(signer, form):
    filled = values(7, "reader@example.net")
    assert signer.size(form) + form.size(filled) == len(signed(signer, form, filled))


def test_another_key_does_not_verify(keys, signer, tmp_path):
    (tmp_path / "rsa.pem").write_bytes(pem(rsa.generate_private_key(65537, 2048)))
    (tmp_path / "ed.pem").write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    others = read_keys(f"one={tmp_path}/rsa.pem,two={tmp_path}/ed.pem")
    assert verdicts(signed(signer), keys) == BOTH
    assert verdicts(signed(signer), others) == NEITHER


@pytest.mark.parametrize(
    "name",
    [
        *("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "Content-Type", "Content-Language"),
        *("List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Help", "List-Owner", "List-Archive"),
        *("Feedback-ID", "Content-Transfer-Encoding"),
    ],
)
def test_a_header_changed_underway_is_noticed(keys, signer, name):
    message = signed(signer)
    start = message.index(b"\r\n" + name.encode() + b": ") + 4 + len(name)
    changed = message[:start] + (b"x" if message[start : start + 1] != b"x" else b"y") + message[start + 1 :]
    assert verdicts(changed, keys) == NEITHER


@pytest.mark.parametrize(
    "line", [b"From: x@evil.example", b"List-Unsubscribe: <https://evil.example/>", b"List-Unsubscribe-Post: x"]
)
@pytest.mark.parametrize("first", [True, False])
def test_a_second_header_added_underway_is_noticed(keys, signer, line, first):
    head, empty, rest = signed(signer).partition(b"\r\n\r\n")
    message = line + b"\r\n" + head + empty + rest if first else head + b"\r\n" + line + empty + rest
    assert verdicts(message, keys) == NEITHER


def test_what_relays_do_to_headers_is_borne(keys, signer):
    message = signed(signer).replace(b"Subject: ", b"SUBJECT:   ").replace(b"List-Id: ", b"List-Id:\r\n\t ")
    assert verdicts(b"Received: from here by there\r\n" + message, keys) == BOTH


def test_a_body_changed_underway_is_noticed(keys, signer):
    message = signed(signer)
    at = message.index(b"<p>")
    assert verdicts(message[:at] + b"<b>" + message[at + 3 :], keys) == NEITHER


def test_a_token_of_another_reader_is_noticed(keys, signer):
    form, filled = RENDITION.eight_bit, values(7, "reader@example.net")
    other = form.join(filled._replace(preferences=b"x" * 48))
    assert verdicts(signer.sign(form, filled) + other, keys) == NEITHER


def test_notices_are_signed_and_nobody_can_add_an_unsubscribe_header(keys, signer):
    letterhead = Letterhead(Mailbox("The Weekly", "news@example.org"), "A notice", "en")
    form = notice_rendition(letterhead, Body("<p>Hello</p>\n", "Hello\n")).seven_bit
    message = signed(signer, form)
    assert verdicts(message, keys) == BOTH
    assert verdicts(b"List-Unsubscribe: <https://evil.example/>\r\n" + message, keys) == NEITHER


@pytest.mark.parametrize(
    "body",
    [b"\r\n\r\n\r\n", b"one\r\n", b"one\r\n\r\n\r\n", UNSUBSCRIBE.encode(), UNSUBSCRIBE.encode() + b"\r\n\r\n"],
)
def test_empty_lines_at_the_end_do_not_count(keys, signer, body):
    form = compile_message(b"From: news@example.org\r\nSubject: x\r\n\r\n" + body)
    message = signed(signer, form)
    assert verdicts(message, keys) == BOTH
    assert verdicts(message + b"\r\n", keys) == BOTH


# Text of any kind, with tokens in it, in both encodings.
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from(". \n=-"), max_size=300)
recipients = st.sampled_from(["r@example.net", '"a  b\t"@example.net'.replace("\t", " "), "чытач@прыклад.бел"])


@settings(max_examples=60)
@given(texts, texts, st.booleans(), recipients)
def test_any_text_verifies(keys, signer, text, html, narrow, recipient):
    body = Body(f"{html}\n<a href='{UNSUBSCRIBE}'>x</a>\n{html}\n", f"{text}\n{UNSUBSCRIBE}\n{text}\n")
    rendition = issue_rendition(LETTERHEAD, body)
    form = rendition.seven_bit if narrow or rendition.eight_bit is None else rendition.eight_bit
    ours = Signer(keys[1:], DOMAIN, lambda: 1.0)
    assert verdicts(signed(ours, form, values(7, recipient)), keys) == {"ed25519-sha256": True}


def test_a_form_is_not_taken_for_another_that_stands_in_its_place(keys, signer):
    for number in range(40):
        form = compile_message(b"From: news@example.org\r\nSubject: x\r\n\r\n%d\r\n" % number)
        assert verdicts(signed(signer, form), keys) == BOTH
        del form


def test_the_record_fits_into_strings_of_a_zone_file(keys):
    line = keys[0].zone_line("прыклад.example")
    assert line.startswith('one._domainkey.xn--80aiqesg1f.example. IN TXT ( "v=DKIM1; k=rsa; p=')
    strings = re.findall(r'"([^"]*)"', line)
    assert max(map(len, strings)) <= 255
    assert "".join(strings) == keys[0].record()


# Keys that cannot be used


def bad_keys(folder):
    (folder / "short.pem").write_bytes(pem(rsa.generate_private_key(65537, 1024)))
    (folder / "curve.pem").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    (folder / "locked.pem").write_bytes(pem(ed25519.Ed25519PrivateKey.generate(), BestAvailableEncryption(b"x")))
    (folder / "text.pem").write_text("hello")
    (folder / "good.pem").write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("{}/good.pem", "has the form"),
        ("s=", "has the form"),
        ("s p={}/good.pem", "has the form"),
        ("s={}/none.pem", "none.pem cannot be read: No such file"),
        ("s={}", "cannot be read: Is a directory"),
        ("s={}/text.pem", "text.pem holds no private key"),
        ("s={}/short.pem", "short.pem is RSA of 1024 bits"),
        ("s={}/curve.pem", "curve.pem is neither"),
        ("s={}/locked.pem", "locked.pem is protected by a password"),
        ("s={0}/good.pem,s={0}/good.pem", "selector s is named twice"),
    ],
)
def test_keys_that_cannot_be_used_are_named(tmp_path, setting, words):
    bad_keys(tmp_path)
    with pytest.raises(ConfigurationError, match=words):
        read_keys(setting.format(tmp_path))


def test_no_key_shows_itself(keys):
    assert repr(keys) == "(Key(selector='one'), Key(selector='two'))"
