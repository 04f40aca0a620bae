"""What `tydzen up` runs, in the order of their start: Valkey, inbox, site, workers, scheduler."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from service.domain.errors import ConflictError
from service.embedded import valkey
from service.embedded.supervisor import Program

# The folder of worker.py, which Celery imports by name.
PROJECT = Path(__file__).resolve().parents[2]
INBOX_HOST = "127.0.0.1"
# A worker may wait ten minutes for the reply to a final dot (RFC 5321, 4.5.3.2.6).
_WORKER_STOP_SECONDS = 640.0
_LETTERS = "is finishing the letters whose last dot is on its way"


@dataclass(frozen=True, slots=True)
class Installation:
    """What differs from one machine to the next. `environment` holds the settings for every child, by variable.

    `proxies` are addresses and networks of reverse proxies in front of the site.
    """

    data_dir: Path
    web_host: str
    web_port: int
    inbox_port: int
    embedded_redis: bool
    local_inbox: bool
    concurrency: int = 2
    proxies: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def stages(installation: Installation) -> list[list[Program]]:
    """The programs, stage by stage; each stage starts when the one before is ready."""
    data_dir, environment = installation.data_dir, dict(installation.environment)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH"))))
    environment["PYTHONUNBUFFERED"] = "1"
    made: list[list[Program]] = []
    if installation.embedded_redis:
        valkey.prepare(data_dir)
        path = valkey.socket_path(data_dir)
        made.append([Program("valkey", valkey.command(data_dir), ready=lambda: valkey.answers(path), echo=False)])
    inbox = [_inbox(installation, environment)] if installation.local_inbox else []
    made.append([*inbox, _site(installation, environment)])
    made.append(
        [
            _celery("bulk", "worker", "-Q", "bulk", f"--concurrency={installation.concurrency}", to=environment),
            _celery("notices", "worker", "-Q", "notices", "--concurrency=1", to=environment),
        ]
    )
    made.append([_celery("beat", "beat", to=environment)])
    return made


def _inbox(installation: Installation, environment: Mapping[str, str]) -> Program:
    port, folder = installation.inbox_port, installation.data_dir / "inbox"
    command = [sys.executable, "-m", "service.embedded.inbox", INBOX_HOST, str(port), str(folder)]
    return Program("inbox", command, environment, ready=lambda: listening(INBOX_HOST, port))


def _site(installation: Installation, environment: Mapping[str, str]) -> Program:
    host, port = installation.web_host, installation.web_port
    proxies = [f"--proxy-at={proxy}" for proxy in installation.proxies]
    command = [sys.executable, "-m", "service.cli", "web", *proxies]
    return Program("site", command, environment, ready=lambda: listening(host, port))


def _celery(name: str, *words: str, to: Mapping[str, str]) -> Program:
    # Said once by `up` in our own words, not by each worker over seven lines.
    quiet = "ignore:You're running the worker with superuser privileges"
    command = [sys.executable, "-W", quiet, "-m", "celery", "--quiet", "-A", "worker", *words]
    if words[0] == "worker":
        command.append(f"--hostname={name}@%h")
        return Program(name, command, to, stop_seconds=_WORKER_STOP_SECONDS, stopping=_LETTERS)
    # The beat is given no file: what is due stands in the database.
    return Program(name, [*command, "--pidfile="], to)


def listening(host: str, port: int) -> bool:
    """Whether something takes connections there."""
    try:
        with socket.create_connection((reachable(host), port), timeout=1.0):
            return True
    except OSError:
        return False


def reachable(host: str) -> str:
    """Where to connect on this machine to what listens at `host`, which may mean all of its addresses."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104  # not a bind


def require_free(host: str, port: int, setting: str) -> None:
    """Raise ConflictError naming the port and its setting, where something listens there already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
            raise ConflictError(
                f"port {port} on {host} {why}: end what listens there, or set {setting} to another port"
            ) from None


def free_port_near(port: int) -> int:
    """That port, or where it is taken any free one: for things to try out that must not fail over it."""
    for wanted in (port, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((INBOX_HOST, wanted))
                return int(probe.getsockname()[1])
    raise ConflictError("this machine has no free port left")


@contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data directory's lock; raises ConflictError naming the process that has it already."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (data_dir / "up.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise ConflictError(
                f"the services of {data_dir} run already (process {file.read().strip() or 'unknown'}); "
                "end that one first, or set TYDZEN_DATA_DIR to another folder"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
