"""The grep that looks for leaks finds each of them, however it was written down."""

import base64
import gzip
import html
import json
import quopri
from email.message import EmailMessage
from urllib.parse import quote, quote_plus, urlencode

import pytest

from tests.canary import LeakError, assert_no_trace, canary, find_traces

READER = canary("planted")
LOCAL = READER.rpartition("@")[0]
AROUND = ["", "x", "xy", "xyz", "<a href='", "Здравствуйте, "]

PLANTED = {
    "plain": lambda text: text.encode(),
    "lower": lambda text: text.lower().encode(),
    "upper": lambda text: text.upper().encode(),
    "percent": lambda text: quote(text).encode(),
    "percent, all": lambda text: quote(text, safe="").lower().encode(),
    "percent in a form": lambda text: urlencode({"email": text}).encode(),
    "percent, twice": lambda text: quote(quote_plus(text), safe="").encode(),
    "base64": lambda text: base64.b64encode(text.encode()),
    "base64url": lambda text: base64.urlsafe_b64encode(text.encode()),
    "base64 of UTF-16": lambda text: base64.b64encode(text.encode("utf-16-le")),
    "base64, folded": lambda text: base64.encodebytes(text.encode() * 3),
    "base32": lambda text: base64.b32encode(text.encode()),
    "quoted-printable": lambda text: quopri.encodestring(text.encode(), quotetabs=True),
    "quoted-printable, folded": lambda text: quopri.encodestring(b"x" * 60 + text.encode()),
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 LE": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "UTF-32": lambda text: text.encode("utf-32-le"),
    "hex": lambda text: text.encode().hex().encode(),
    "hex, capitals": lambda text: text.encode().hex().upper().encode(),
    "hex, blanks": lambda text: text.encode().hex(" ").encode(),
    "JSON": lambda text: json.dumps({"to": text}).encode(),
    "JSON escapes": lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text).encode(),
    "HTML": lambda text: html.escape(text).replace("@", "&#64;").encode(),
    "bytes in Python": lambda text: repr(text.encode()).encode(),
    "VERP": lambda text: text.replace("@", "=").encode(),
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("encoding", PLANTED)
def test_a_planted_leak_is_found(encoding, around, tmp_path):
    octets = PLANTED[encoding](f"{around}{READER}{around}")
    (tmp_path / "planted.bin").write_bytes(b"\x00\xff" + octets + b"\x00")
    assert find_traces([READER], paths=[tmp_path])
    with pytest.raises(LeakError, match="leaked"):
        assert_no_trace([canary(), READER], octets=octets)
    assert not find_traces([canary()], paths=[tmp_path])


@pytest.mark.parametrize("encoding", PLANTED)
def test_the_part_before_the_at_counts_alone(encoding):
    assert find_traces([READER], octets=PLANTED[encoding](f"user {LOCAL}, gone"))


@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_a_leak_in_a_mail_is_found(encoding):
    mail = EmailMessage()
    mail["To"] = READER
    del mail["To"]
    mail.set_content(f"You get this as {READER}, since you asked for it.\n", cte=encoding)
    assert find_traces([READER], octets=bytes(mail))


def test_a_leak_across_two_reads_of_a_large_file_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr("tests.canary._CHUNK", 4096)
    (tmp_path / "large").write_bytes(b"-" * 4090 + READER.encode() + b"-" * 9000)
    assert find_traces([READER], paths=[tmp_path])


def test_a_leak_in_a_name_in_a_hidden_folder_and_in_a_zipped_log_is_found(tmp_path):
    hidden = tmp_path / ".cache" / "deep"
    hidden.mkdir(parents=True)
    zipped, named = canary("zipped"), canary("named")
    (hidden / "log.gz").write_bytes(gzip.compress(zipped.encode() * 9))
    (hidden / named).touch()
    assert find_traces([zipped], paths=[tmp_path])
    assert find_traces([named], paths=[tmp_path])


def test_a_leak_in_valkey_is_found_in_every_kind_of_value(valkey):
    kinds = {
        "string": ("SET", "k"), "list": ("RPUSH", "k"), "set": ("SADD", "k"), "hash": ("HSET", "k", "field"),
        "sorted": ("ZADD", "k", "1"), "stream": ("XADD", "k", "*", "field"),
    }  # fmt: skip
    for command in kinds.values():
        planted = canary()
        valkey.flushall()
        assert not find_traces([planted], valkey=valkey)
        valkey.command(*command, planted * 5)
        assert find_traces([planted], valkey=valkey)


def test_a_leak_in_a_row_is_found_as_text_and_as_octets(database):
    from service.store.tables import meta, publication

    text, octets = canary("text"), canary("octets")
    assert not find_traces([text, octets], database=database)
    values = {"key": "k", "settings": {}, "changed_at": 0}
    with database.begin() as session:
        session.execute(meta.insert().values(key="leak", value=json.dumps([text])))
        session.execute(publication.insert().values(id=1, operators=octets.encode(), **values))
    assert find_traces([text], database=database)
    assert find_traces([octets], database=database)


def test_no_two_canaries_are_alike():
    assert len({canary() for _ in range(1000)}) == 1000
