"""Signing keys as an operator meets them: what to publish, and what is said of a key that cannot be used."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from service import bootstrap
from service.domain.errors import ConfigurationError
from tests.factories import save_publication


@pytest.fixture
def key(tmp_path, monkeypatch):
    path = tmp_path / "weekly.pem"
    path.write_bytes(Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    monkeypatch.setenv("TYDZEN_DKIM", f"weekly={path}")
    return path


def test_the_record_to_publish_is_printed(tydzen, database, key):
    with database.begin() as session:
        save_publication(session)
    code, out, _ = tydzen("config", "dkim")
    assert code == 0
    assert out.startswith("weekly._domainkey.example.org. IN TXT")
    assert "v=DKIM1; k=ed25519; p=" in out
    told = json.loads(tydzen("config", "dkim", "--json")[1])
    assert told["weekly._domainkey.example.org"].startswith("v=DKIM1; k=ed25519; p=")


def test_the_record_of_an_international_domain_is_printed_as_dns_has_it(tydzen, database, key):
    with database.begin() as session:
        save_publication(session, sender="editors@тыдзень.бел")
    name = "weekly._domainkey.xn--d1acfzv8cl.xn--90ais"
    assert tydzen("config", "dkim")[1].startswith(f"{name}. IN TXT")
    assert list(json.loads(tydzen("config", "dkim", "--json")[1])) == [name]


def test_without_a_key_it_says_how_to_make_one(tydzen):
    code, _, err = tydzen("config", "dkim")
    assert code == 3
    assert "openssl genpkey" in err


def test_a_worker_does_not_start_with_a_key_that_cannot_be_used(tydzen, key):
    key.unlink()
    with pytest.raises(ConfigurationError, match=r"weekly\.pem cannot be read"):
        bootstrap.preload(bootstrap.services())


def test_doctor_says_what_signs_and_who_else_could(tydzen, key):
    def found():
        told = json.loads(tydzen("doctor", "--json")[1])
        return next(one for one in told["checks"] if one["what"] == "dkim")

    assert found()["ok"]
    assert "ed25519-sha256 (weekly)" in found()["found"]
    key.chmod(0o644)
    assert "chmod 640" in found()["found"]
