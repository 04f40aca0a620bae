"""A publication whose sender has an international domain, from its file to the relay: all that is said is ASCII."""

from __future__ import annotations

import email
import email.policy
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.factories import add_readers, save_publication
from tests.flow.conftest import database_url
from tests.installation import PROJECT, audit, installed

DOMAIN = "xn--d1acfzv8cl.xn--90ais"
WEEK = "2019-W22"


def write_publication(folder, sender):
    """The example's publication with that sender."""
    text = (PROJECT / "examples" / "publication.toml").read_text("utf-8")
    lines = [f'sender = "{sender}"' if line.startswith("sender =") else line for line in text.splitlines()]
    assert f'sender = "{sender}"' in lines
    (folder / "publication.toml").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.fixture(params=["sqlite", "postgresql"])
def made(request, tmp_path):
    key = tmp_path / "weekly.pem"
    key.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    key.chmod(0o600)
    with (
        database_url(request, request.param, tmp_path) as url,
        installed(tmp_path / "run", url, dkim=f"weekly={key}") as running,
    ):
        yield running


@pytest.mark.slow
def test_an_issue_of_it_reaches_its_reader_with_valid_headers(made, tmp_path):
    made.tydzen("publication", "import", write_publication(tmp_path, "editors@тыдзень.бел"))
    made.tydzen("issue", "import", PROJECT / "examples" / "issues" / WEEK)
    made.tydzen("issue", "approve", WEEK)
    (reader,) = add_readers(made.database, 1, chains=("en",))
    made.tydzen("issue", "check", WEEK)
    mailing = made.send_command(WEEK)
    made.start_worker()
    made.wait_until_sent(mailing)

    audit(made, mailing).complain()
    (entry,) = made.sink.entries()
    (octets,) = made.sink.messages
    header = octets.partition(b"\r\n\r\n")[0]
    assert header.isascii()
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert not [(name, value.defects) for name, value in message.items() if getattr(value, "defects", ())]
    assert message["From"].addresses[0].addr_spec == f"editors@{DOMAIN}"
    assert message["Message-ID"] == entry.message_id
    assert entry.message_id.endswith(f"@{DOMAIN}>")
    assert message["Feedback-ID"].endswith(f":weekly:{DOMAIN}")
    assert message["List-Id"].endswith("<weekly.news.example.org>")
    assert f" d={DOMAIN};" in message["DKIM-Signature"]
    assert entry.recipient == reader
    assert entry.mail_from.endswith(f"@{DOMAIN}")
    assert f"EHLO {DOMAIN}" in made.sink.commands
    (line,) = made.json_lines("mailing", "ledger", mailing)
    assert line["message_id"] == entry.message_id


@pytest.mark.slow
def test_a_trial_of_it_goes_out_too(made, tmp_path):
    made.tydzen("publication", "import", write_publication(tmp_path, "editors@тыдзень.бел"))
    made.tydzen("issue", "import", PROJECT / "examples" / "issues" / WEEK)
    made.tydzen("issue", "approve", WEEK)
    made.tydzen("issue", "test", WEEK, "desk@example.test", "--chain", "en")
    (entry,) = made.sink.entries()
    assert entry.mail_from.endswith(f"@{DOMAIN}")
    assert entry.message_id.endswith(f"@{DOMAIN}>")
    assert made.sink.messages[0].partition(b"\r\n\r\n")[0].isascii()


def test_letters_before_the_at_that_are_not_ascii_are_refused_by_the_import(tydzen, tmp_path):
    folder = write_publication(tmp_path, "рэдакцыя@тыдзень.бел")
    number = (folder / "publication.toml").read_text("utf-8").splitlines().index('sender = "рэдакцыя@тыдзень.бел"') + 1
    code, out, err = tydzen("publication", "import", folder)
    assert (code, out) == (2, "")
    assert (
        f"publication.toml:{number}: sender has letters before the @ that are not ASCII; write it like weekly@" in err
    )
    assert "тыдзень" not in err


def test_doctor_says_where_mails_come_from_and_what_keeps_them(tydzen, database, monkeypatch):
    def found():
        told = json.loads(tydzen("doctor", "--json")[1])
        return next(one for one in told["checks"] if one["what"] == "sender")

    assert "no publication yet" in found()["found"]
    with database.begin() as session:
        save_publication(session, sender="editors@тыдзень.бел")
    assert found() == {"what": "sender", "ok": True, "found": f"mails come from {DOMAIN}; EHLO says {DOMAIN}"}
    monkeypatch.setenv("TYDZEN_HELO_NAME", "пошта.тыдзень.бел")
    assert f"EHLO says xn--80a1acn3a.{DOMAIN}" in found()["found"]
    # As an installation may have it from before.
    with database.begin() as session:
        save_publication(session, sender="editors@the_week.example.org")
    assert not found()["ok"]
    assert "tydzen publication import DIR" in found()["found"]
