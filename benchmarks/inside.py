r"""Where one sending process spends its time: CPU per letter of its threads, of the database and of the sink.

    python -m benchmarks.inside [--readers 20000] [--database postgresql|sqlite] [--hide CHUNKING] [--wait]
    valgrind --tool=callgrind --separate-threads=yes --instr-atstart=no \
        python -m benchmarks.inside --readers 3000 --count

The same parts as in a worker, but in this process and without Celery, so that a profiler can look at it: `--wait` says
its process id and waits for Enter before the first letter. CPU time is the kernel's own count by thread, in
nanoseconds; of all batches the lower quartile is told, which bears a busy machine better than a mean does.

With `--count` callgrind counts the instructions of this process from the second batch on, and of nothing else: a number
that no other work on the machine changes. `callgrind_annotate` then says whose they are. Only the loop's are those of
real life: fifty times slower, groups are small, and what the database's thread does for each is shared by few letters.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import sqlalchemy as sa

from benchmarks import parts
from benchmarks.installation import installation
from service.delivery.process import SendingProcess
from service.embedded import valkey
from service.pace.places import Places
from service.store.tables import batches


def thread_seconds() -> dict[str, float]:
    """CPU seconds of the threads of this process by name: the loop's is `MainThread`."""
    names = {thread.native_id: thread.name.partition("_")[0] for thread in threading.enumerate()}
    used: dict[str, float] = {}
    for folder in Path("/proc/self/task").iterdir():
        name = names.get(int(folder.name), "others")
        used[name] = used.get(name, 0.0) + int((folder / "schedstat").read_text().split()[0]) / 1e9
    return used


def server_seconds(pid: int | None) -> float:
    """CPU seconds of the database's processes that are alive."""
    total = 0.0
    for one in parts.descendants(pid) if pid else []:
        for stat in Path(f"/proc/{one}/task").glob("*/schedstat"):
            total += int(stat.read_text().split()[0]) / 1e9
    return total


def seconds_by_kind(server: int | None, sink: int) -> dict[str, float]:
    """CPU seconds so far of each thread here, of the database and of the sink."""
    return {**thread_seconds(), "PostgreSQL": server_seconds(server), "sink": server_seconds(sink)}


def count_instructions(process: SendingProcess, todo: list[tuple[int, int]]) -> None:
    """Send these batches while callgrind counts."""
    control = ["callgrind_control", "-i"]
    subprocess.run([*control, "on", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
    for number, _ in todo:
        process.send_batch(number)
    subprocess.run([*control, "off", str(os.getpid())], check=True, stdout=subprocess.DEVNULL)
    print(f"{sum(letters for _, letters in todo)} letters were counted")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=20_000)
    parser.add_argument("--database", choices=["postgresql", "sqlite"], default="postgresql")
    parser.add_argument("--hide", action="append", default=[], help="an extension that the sink does not offer")
    parser.add_argument("--delay", type=int, default=0, help="microseconds that the sink takes over a letter")
    parser.add_argument("--wait", action="store_true")
    parser.add_argument("--count", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        port = parts.free_port()
        hidden = [word for name in options.hide for word in ("-x", name)]
        command = [parts.fast_sink(Path(folder)), str(port), "-d", str(options.delay), *hidden]
        with parts.sink(command, port) as sink, installation(options.database, port) as made:
            made.fill(options.readers)
            services = made.services
            with valkey.running(made.folder):
                assert services.planner.plan(made.release())
                places = Places.of_new_worker(made.folder / "places", 1)
                process = services.sending_process(places, lambda: False)
                process.dispatcher.follow_seconds = 0  # batch by batch, to look in between
                with services.database.read() as session:
                    wanted = sa.select(batches.c.id, batches.c.pending).order_by(batches.c.pending, batches.c.id)
                    todo = [(row.id, row.pending) for row in session.execute(wanted)]
                if options.wait:
                    input(f"pid {os.getpid()}, Enter starts: ")
                process.send_batch(todo.pop()[0])  # what is done once: connections, statements, the rendition
                if options.count:
                    count_instructions(process, todo)
                    return 0
                seen: dict[str, list[float]] = {}
                before = seconds_by_kind(made.server, sink.pid)
                started = time.perf_counter()
                for number, letters in todo:
                    process.send_batch(number)
                    after = seconds_by_kind(made.server, sink.pid)
                    for kind, used in after.items():
                        seen.setdefault(kind, []).append((used - before.get(kind, 0.0)) / letters * 1e6)
                    before = after
                rate = sum(letters for _, letters in todo) / (time.perf_counter() - started)
                lows = {kind: statistics.quantiles(used, n=4)[0] for kind, used in seen.items()}
                print(
                    f"{len(todo)} batches, letters of {made.letter_size()} octets, {rate:.0f}/s; lower quartile: "
                    + ", ".join(f"{kind} {used:.1f}" for kind, used in sorted(lows.items()))
                    + f" µs a letter; {parts.usage(os.getpid()).megabytes:.0f} MB"
                )
                process.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
