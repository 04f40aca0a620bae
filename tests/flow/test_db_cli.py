"""`tydzen db upgrade`: what it founds, and its rehearsal, which makes nothing."""

import json

import pytest

from service.domain.keys import Keyring
from service.embedded.keyring_file import write_keyring
from service.store import schema


@pytest.fixture
def bare(tydzen, tmp_path, monkeypatch):
    """An installation of which nothing is there yet, on SQLite."""
    monkeypatch.delenv("TYDZEN_DATABASE_URL")
    monkeypatch.setenv("TYDZEN_SECRET_KEY_FILE", str(tmp_path / "var" / "secret.key"))
    return tydzen


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_a_rehearsal_of_a_new_installation_makes_no_file(bare, tmp_path):
    code, _, err = bare("db", "upgrade", "--dry-run")
    assert (code, err.strip()) == (
        0,
        f"the schema would go from nothing to {schema.NEWEST}; a dry run, nothing was changed",
    )
    assert not (tmp_path / "var").exists()

    assert bare("db", "upgrade")[0] == 0
    assert {one.name for one in (tmp_path / "var").iterdir()} >= {"secret.key", "tydzen.sqlite3"}
    code, out, _ = bare("db", "upgrade", "--dry-run", "--json")
    assert json.loads(out) == {"before": schema.NEWEST, "after": schema.NEWEST, "dry_run": True}


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_database_without_its_keyring_gets_no_other(tydzen, tmp_path, more):
    key = tmp_path / "secret.key"
    key.unlink()
    code, _, err = tydzen("db", "upgrade", *more)
    assert code == 1
    assert f"{key}: no keyring, but the database was sealed with one; restore the file from your backup" in err
    assert not key.exists()


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_database_with_another_keyring_is_refused(tydzen, tmp_path, more):
    key = tmp_path / "secret.key"
    key.unlink()
    write_keyring(key, Keyring({1: bytes(32)}))
    code, _, err = tydzen("db", "upgrade", *more)
    assert code == 1
    assert "the keyring is not the one this database was sealed with" in err
