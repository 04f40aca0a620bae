"""Running `tydzen` as an operator does, in an installation on a new database; and installations that send."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys

import pytest
import structlog

from service import bootstrap
from service.cli import main
from service.clock import CommonClock
from service.embedded.keyring_file import write_keyring
from tests.conftest import KEYRING, sqlite_copy
from tests.installation import installed


@pytest.fixture
def tydzen(database, tmp_path, monkeypatch, capsys):
    """Run one command: its exit code, stdout and stderr."""
    key = tmp_path / "secret.key"
    write_keyring(key, KEYRING)
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
    logs = structlog.get_config()

    def close():
        while made:
            if "database" in vars(parts := made.pop()):
                parts.database.close()

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
        close()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return int(code), out, err

    yield run
    close()
    # The stream that it logged to ends with this test.
    structlog.configure(**logs)


def hold_time(monkeypatch, clock):
    """Have this machine and the server of the database go by the test's clock."""
    monkeypatch.setattr(bootstrap, "SystemClock", lambda: clock)
    # Told nothing it goes by the machine's.
    monkeypatch.setattr(CommonClock, "tell", lambda _self, _now: None)


@contextlib.contextmanager
def database_url(request, kind, folder):
    """The URL of a migrated database, new, of either kind."""
    if kind == "sqlite":
        yield sqlite_copy(request.getfixturevalue("sqlite_template"), folder)
        return
    databases = request.getfixturevalue("databases")
    name = databases.take()
    yield request.getfixturevalue("postgresql").sqlalchemy_url(name)
    databases.give_back(name)


@contextlib.contextmanager
def sending_installation(request, kind, folder, **settings):
    """An installation with a worker, on a database of that kind."""
    with database_url(request, kind, folder) as url, installed(folder / "run", url, **settings) as made:
        made.fill()
        made.start_worker(concurrency=3)
        yield made


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def running(request, tmp_path_factory):
    """An installation with a worker, shared by the tests of a file; each sends an issue of its own (see `week`)."""
    with sending_installation(request, request.param, tmp_path_factory.mktemp("running")) as made:
        yield made


@pytest.fixture(scope="module")
def running_on_sqlite(request, tmp_path_factory):
    with sending_installation(request, "sqlite", tmp_path_factory.mktemp("running")) as made:
        yield made


_weeks = itertools.count(1)


@pytest.fixture
def week():
    """A week that no other test uses."""
    number = next(_weeks)
    return f"{2019 + number // 50}-W{1 + number % 50:02}"


@pytest.fixture
def rules(request):
    """Set the rules of the shared sink for one test."""
    changed = []

    def set_rules(made, *wanted):
        changed.append(made)
        made.sink.set_rules(*wanted)

    yield set_rules
    for made in changed:
        made.sink.set_rules()
