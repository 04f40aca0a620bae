"""What arrives in a reader's mailbox, read with the standard library's parser and nothing of ours but the keys."""

from __future__ import annotations

import email
import re
from email import policy

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service.domain.keys import Purpose
from service.domain.tokens import DeliverySigner, LinkSigner
from service.mail.dkim import read_keys
from service.store import subscribers
from tests.conftest import KEYRING
from tests.factories import CHAINS
from tests.flow.conftest import sending_installation
from tests.unit.render import samples

pytestmark = pytest.mark.slow

NEEDED = {
    "from", "to", "subject", "date", "message-id", "list-id", "list-unsubscribe", "list-unsubscribe-post", "list-help",
    "list-owner", "list-archive", "feedback-id", "content-language", "mime-version", "content-type",
}  # fmt: skip
# Words of one article by its language, which stand in a mail in exactly the languages it is meant to.
TITLES = {
    language: {
        article.slug: article.texts[language].title for article in samples.articles() if language in article.texts
    }
    for language in ("en", "be", "ru")
}


class Inbox:
    """What the sink has taken, by recipient."""

    def __init__(self, made, addresses):
        self.made = made
        self.entries = {entry.recipient: entry for entry in made.sink.entries()}
        self.raw = {}
        for raw in made.sink.messages:
            self.raw[email.message_from_bytes(raw, policy=policy.SMTP)["to"]] = raw
        self.addresses = addresses

    def parsed(self, address):
        return email.message_from_bytes(self.raw[address], policy=policy.SMTP)

    def subscriber(self, address):
        with self.made.database.read() as session:
            return subscribers.find(session, address)

    def parts(self, address):
        message = self.parsed(address)
        plain, html = message.get_body(("plain",)), message.get_body(("html",))
        return plain.get_content(), html.get_content()


@pytest.fixture(scope="module", params=["8bit", "7bit"])
def inbox(request, tmp_path_factory):
    hide = frozenset({"8BITMIME", "SMTPUTF8"}) if request.param == "7bit" else frozenset()
    folder = tmp_path_factory.mktemp("inbox")
    (folder / "key.pem").write_bytes(
        Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    setting = f"weekly={folder}/key.pem"
    with sending_installation(request, "sqlite", folder, hide=hide, dkim=setting) as made:
        (made.dkim_key,) = read_keys(setting)
        addresses = made.fill(15)
        mailing = made.send(readers=addresses)
        made.wait_until_sent(mailing, 60)
        yield Inbox(made, addresses)


@pytest.fixture(params=range(len(CHAINS)), ids=CHAINS)
def address(request, inbox):
    """A reader of each chain."""
    return inbox.addresses[request.param]


def chain_of(inbox, address):
    return CHAINS[inbox.addresses.index(address) % len(CHAINS)].split(",")


def test_each_reader_has_one_mail_addressed_to_that_reader_alone(inbox):
    assert set(inbox.raw) == set(inbox.entries) == set(inbox.addresses)
    assert len(inbox.made.sink.messages) == 15


def test_the_headers_are_those_of_the_standard_and_no_others(inbox, address):
    message = inbox.parsed(address)
    names = [name.lower() for name in message.keys()]  # noqa: SIM118  # a message yields no names by itself
    assert names.pop(0) == "dkim-signature"
    # A body of eight bits says so on top.
    assert sorted(set(names) - {"content-transfer-encoding"}) == sorted(NEEDED)
    assert len(names) == len(set(names))
    assert message["to"].addresses[0].addr_spec == address
    assert message["from"].addresses[0].addr_spec == "editors@weekly.example.org"
    assert message["content-language"] == chain_of(inbox, address)[0]
    assert not message.defects


def test_a_strangers_verifier_finds_the_signature_good(inbox, address):
    asked = []

    def dns(name, timeout=5):
        asked.append(name.decode())
        return inbox.made.dkim_key.record().encode()

    assert dkim.verify(inbox.raw[address], dnsfunc=dns)
    assert asked == ["weekly._domainkey.weekly.example.org."]


def test_machines_can_read_their_headers_because_nothing_in_them_is_encoded(inbox, address):
    head = inbox.raw[address].partition(b"\r\n\r\n")[0] + b"\r\n"
    for name in ("list-unsubscribe", "list-unsubscribe-post", "list-help", "list-archive", "message-id", "feedback-id"):
        lines = re.findall(rb"(?im)^" + name.encode() + rb":[^\r]*\r\n(?:[ \t][^\r]*\r\n)*", head)
        assert len(lines) == 1
        assert b"=?" not in lines[0]
    unsubscribe = re.search(rb"(?im)^list-unsubscribe: <(https?://[^>]+)>\r\n", head)
    assert unsubscribe
    assert re.search(rb"(?im)^list-unsubscribe-post: List-Unsubscribe=One-Click\r\n", head)


def test_the_tokens_are_this_readers(inbox, address):
    message = inbox.parsed(address)
    reader = inbox.subscriber(address)
    token = re.search(r"/u/([A-Za-z0-9_-]{48})>", message["list-unsubscribe"])[1]
    assert LinkSigner(KEYRING, Purpose.UNSUBSCRIBE).read(token).subscriber == reader.id
    for text in inbox.parts(address):
        assert set(re.findall(r"/u/([A-Za-z0-9_-]{48})", text)) == {token}
        (preferences,) = set(re.findall(r"/p/([A-Za-z0-9_-]{48})", text))
        claim = LinkSigner(KEYRING, Purpose.PREFERENCES).read(preferences)
        assert (claim.subscriber, claim.epoch) == (reader.id, 0)


def test_the_envelope_sender_and_the_message_id_name_the_delivery(inbox):
    signer = DeliverySigner(KEYRING)
    seen = set()
    for address in inbox.addresses:
        local, _, domain = inbox.entries[address].mail_from.partition("@")
        delivery = signer.read_envelope(local)
        assert domain == "weekly.example.org"
        assert inbox.parsed(address)["message-id"] == f"<{signer.message_id(delivery)}@{domain}>"
        seen.add(delivery)
    assert len(seen) == 15


def test_every_article_is_in_the_first_language_of_the_chain_that_has_it_and_in_no_other(inbox, address):
    chain = chain_of(inbox, address)
    wanted, unwanted = set(), set()
    for article in samples.articles():
        shown = next((language for language in chain if language in article.texts), None)
        wanted |= {TITLES[shown][article.slug]} if shown else set()
        unwanted |= {TITLES[language][article.slug] for language in article.texts if language != shown}
    for text in inbox.parts(address):
        flat = re.sub(r"\s+", " ", re.sub(r"<[^>]+>|\u00ad", "", text)).replace("\u00a0", " ")
        assert {title for title in wanted if title not in flat} == set()
        assert {title for title in unwanted if title in flat} == set()


def test_a_note_says_where_an_article_is_shown_in_another_language(inbox):
    for address in inbox.addresses[: len(CHAINS)]:
        chain = chain_of(inbox, address)
        _, html = inbox.parts(address)
        foreign = {
            next(language for language in chain if language in article.texts)
            for article in samples.articles()
            if set(chain) & set(article.texts)
        } - {chain[0]}
        marked = {language for language in ("en", "be", "ru") if re.search(rf'<[^>]*\blang="{language}"[^>]*>', html)}
        assert foreign <= marked


def test_the_text_comes_first_and_the_html_last(inbox, address):
    message = inbox.parsed(address)
    kinds = [part.get_content_type() for part in message.walk() if not part.is_multipart()]
    assert kinds[0] == "text/plain"
    assert kinds.index("text/html") > 0
    assert all(
        part.get_content_charset() == "utf-8" for part in message.walk() if part.get_content_maintype() == "text"
    )


def test_the_octets_on_the_wire_are_whole_lines_of_a_length_that_every_relay_takes(inbox, address, request):
    raw = inbox.raw[address]
    assert raw.replace(b"\r\n", b"").count(b"\n") == raw.replace(b"\r\n", b"").count(b"\r") == 0
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert raw.endswith(b"\r\n")
    if "7bit" in request.node.name:
        assert raw.isascii()
    assert len(inbox.parts(address)[1].encode()) < 95_000
    assert inbox.entries[address].octets == len(raw)


def test_no_placeholder_is_left_and_no_other_readers_address_is_there(inbox, address):
    everything = inbox.raw[address] + "".join(inbox.parts(address)).encode()
    assert b"{{" not in everything
    assert not re.search(rb"TYDZEN|@@|\x00|\x01", everything)
    others = [other.encode() for other in inbox.addresses if other != address]
    assert not [other for other in others if b"<" + other + b">" in everything or b" " + other in everything]


def test_links_lead_to_the_publication_and_nothing_is_fetched_from_elsewhere(inbox, address):
    _, html = inbox.parts(address)
    fetched = re.findall(r'\b(?:src|background)="([^"]+)"|url\(([^)]+)\)', html)
    assert all(one.startswith("cid:") for pair in fetched for one in pair if one)
