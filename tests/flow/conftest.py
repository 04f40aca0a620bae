"""Running `tydzen` as an operator does, in an installation on a new database."""

from __future__ import annotations

import logging
import sys

import pytest

from service import bootstrap
from service.cli import main
from tests.conftest import KEYRING


@pytest.fixture
def tydzen(database, tmp_path, monkeypatch, capsys):
    """Run one command: its exit code, stdout and stderr."""
    key = tmp_path / "secret.key"
    bootstrap.write_keyring(key, KEYRING)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TYDZEN_DATA_DIR", str(tmp_path / "var"))
    monkeypatch.setenv("TYDZEN_SECRET_KEY_FILE", str(key))
    monkeypatch.setenv("TYDZEN_DATABASE_URL", database.url.render_as_string(hide_password=False))
    monkeypatch.setenv("COLUMNS", "200")
    made = []

    class Kept(bootstrap.Services):
        def __init__(self, *parts):
            super().__init__(*parts)
            made.append(self)

    monkeypatch.setattr(bootstrap, "Services", Kept)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tydzen", *map(str, arguments)])
        handlers = list(logging.getLogger().handlers)
        code = 0
        try:
            main()
        except SystemExit as left:
            code = left.code or 0
        # A process gives its connections back and its log ends with it; this one goes on.
        logging.getLogger().handlers[:] = handlers
        for parts in made:
            if "database" in vars(parts):
                parts.database.close()
        made.clear()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(code), out, err

    return run
