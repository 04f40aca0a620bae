"""A whole installation whose every trace is kept and searched: what the canary grep runs through.

To take another part of the service through it: use the same `Life`, start your processes with `life.environment` (and
`life.start` for those that stay), put what may hold addresses (an inbox, an export) below `life.outside`, and call
`life.search(addresses)` at the end.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from service.embedded.keyring_file import write_keyring
from tests.canary import assert_no_trace, canary
from tests.conftest import KEYRING
from tests.servers import back_up

# What an operator's process may be made to do besides: the code runs before the command, in the same process.
_MAIN = "import sys\n{before}\nfrom service.cli import main\nsys.argv[0] = 'tydzen'\nmain()\n"


class Life:
    """One installation: a data directory, temporary files and a database to search; files outside that may hold all."""

    def __init__(self, database, folder: Path) -> None:

        self.database = database
        self.inside = folder / "inside"
        self.outside = folder / "outside"
        self.backups = folder / "backups"
        self.temporary = self.inside / "tmp"
        for made in (self.temporary, self.outside, self.backups):
            made.mkdir(parents=True)
        self.data = self.inside / "var"
        self.data.mkdir(mode=0o700)
        write_keyring(self.data / "secret.key", KEYRING)
        self.output = b""
        self.addresses: list[str] = []
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TYDZEN_", "PYTHON"))},
            # Dozens of short processes: compiled once for all of them, wherever this machine forbids it.
            "PYTHONPYCACHEPREFIX": str(folder.parent / "bytecode"),
            "HOME": str(self.inside),
            "TMPDIR": str(self.temporary),
            "XDG_CACHE_HOME": str(self.inside / "cache"),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "TYDZEN_DATA_DIR": str(self.data),
            "TYDZEN_DATABASE_URL": database.url.render_as_string(hide_password=False),
            # Every library says all it can.
            "TYDZEN_LOG_LEVEL": "DEBUG",
        }
        self._processes: list[subprocess.Popen] = []

    def reader(self, part: str) -> str:
        """A new address, which `search` will look for."""
        self.addresses.append(canary(part))
        return self.addresses[-1]

    def file(self, name: str, content: str | bytes) -> Path:
        """A file of the operator's, outside of what is searched."""
        path = self.outside / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def run(self, *arguments, stdin: str = "", before: str = "", outgoing: bool = False) -> tuple[int, bytes]:
        """`tydzen …` in a process of its own: exit code and stdout; what it said is kept to be searched.

        With `outgoing` stdout is what was asked for, addresses and all, so only stderr is kept.
        """
        command = [sys.executable, "-c", _MAIN.format(before=before), *map(str, arguments)]
        done = subprocess.run(
            command, cwd=self.inside, env=self.environment, input=stdin.encode(), capture_output=True, check=False
        )
        self.output += b"\n" + done.stderr + (b"" if outgoing else b"\n" + done.stdout)
        return done.returncode, done.stdout

    def start(self, *command) -> subprocess.Popen:
        """A process that stays; what it says goes into a file that is searched."""
        log = (self.inside / f"process-{len(self._processes)}.log").open("wb")
        started = subprocess.Popen(
            list(map(str, command)), cwd=self.inside, env=self.environment, stdout=log, stderr=subprocess.STDOUT
        )
        log.close()
        self._processes.append(started)
        return started

    def stop(self) -> None:
        """End what was started."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
                process.wait(timeout=90)

    def database_files(self) -> list[Path]:
        """Where the database keeps its rows, its write-ahead log and the server's own log."""
        if not self.database.postgresql:
            path = Path(self.database.url.database)
            return sorted(path.parent.glob(path.name + "*"))
        with self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("CHECKPOINT")
            folder = Path(connection.exec_driver_sql("SHOW data_directory").scalar())
            own = connection.exec_driver_sql("SELECT oid FROM pg_database WHERE datname = current_database()").scalar()
        logs = [path for path in folder.iterdir() if path.is_file()]
        return [folder / "base" / str(own), folder / "pg_wal", *logs]

    def backup(self) -> Path:
        """A new backup of the database, as an operator makes one."""
        path = self.backups / f"backup-{len(list(self.backups.iterdir()))}"
        back_up(self.database.url, path)
        return path

    def search(self, *, valkey=None) -> None:
        """Look for every address in everything, a new backup and those before it too; fail where one is found."""
        assert self.addresses
        self.backup()
        paths = [self.inside, self.backups, *self.database_files()]
        assert_no_trace(self.addresses, paths=paths, octets=self.output, valkey=valkey, database=self.database)
