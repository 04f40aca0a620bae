"""How fast subscribers are imported and exported, and how much memory that takes.

    python -m benchmarks.subscribers [--lines 200000] [--postgresql URL] [--chunk N]

Each step runs in a process of its own, so that the peak is of that step alone. `again` imports the same file a second
time: every line is known. The PostgreSQL database must be empty; it is not emptied afterwards.

Measured with a million lines on two cores that other work kept busy (load 4 to 6): SQLite import 5,500 to 17,000
lines/s by the clock, 22,000 by processor time, 112 MB peak, 234 MB file; PostgreSQL import 15,400 lines/s, 111 MB;
export 40,000 lines/s, 83 MB. Larger chunks write less (10,000 lines: 6.3 GB in all, 20,000: 3.8, 40,000: 2.2).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from service.audience import exporting
from service.audience.importing import CHUNK, import_file
from service.domain.content import Publication
from service.domain.keys import Keyring
from service.store import Database, Sealer, publication, schema
from service.store.departures import DepartureLog

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
CHAINS = ('"be,ru"', "be", "BE/RU", "en", "ru be", "be|ru|en")


def write_file(path: Path, lines: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("email,languages\n")
        for number in range(lines):
            file.write(f"reader.{number * 7919 % lines}@host{number % 997}.example,{CHAINS[number % len(CHAINS)]}\n")


def prepare(database: Database) -> None:
    schema.upgrade(database)
    schema.adopt_keyring(database)
    words = dict.fromkeys(("en", "be", "ru"), "Week")
    with database.begin() as session:
        publication.save(
            session,
            Publication(
                key="bench", timezone="Europe/Minsk", base_url="https://weekly.example", languages=("en", "be", "ru"),
                sender="weekly@weekly.example", reply_to="", operators=(), list_id="bench.weekly.example",
                postal_address="", titles=words, taglines={}, subjects={}, sections=(), trends={},
            ),
            NOW,
        )  # fmt: skip


def step(name: str, url: str, folder: Path, chunk: int) -> dict[str, float]:
    database = Database(url, Sealer(Keyring({1: bytes(range(32))})))
    if name == "prepare":
        prepare(database)
    started, used = time.perf_counter(), time.process_time()
    if name in {"import", "again", "dry-run"}:
        report = import_file(
            database,
            DepartureLog(folder / "departures.log"),
            folder / "readers.csv",
            languages=None,
            consent=None,
            actor="benchmark",
            now=NOW,
            dry_run=name == "dry-run",
            chunk=chunk,
        )
        assert report.new + report.known == report.lines, report
        assert (report.new == 0) == (name == "again"), report
    elif name == "export":
        with database.read() as session, Path("/dev/null").open("w") as sink:
            sink.writelines(",".join(exporting.guarded(row)) + "\n" for row in exporting.exported(session))
    seconds, busy = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    database.close()
    return {"seconds": seconds, "processor_seconds": busy, "peak_mb": peak}


def measure(title: str, url: str, folder: Path, lines: int, chunk: int) -> None:
    for name in ("prepare", "dry-run", "import", "again", "export"):
        command = [
            sys.executable,
            "-m",
            "benchmarks.subscribers",
            "--step",
            name,
            "--url",
            url,
            "--folder",
            str(folder),
        ]
        done = subprocess.run([*command, "--chunk", str(chunk)], check=True, stdout=subprocess.PIPE)
        found = json.loads(done.stdout)
        if name != "prepare":
            speed = lines / found["seconds"]
            print(
                f"{title:10} {name:8} {lines:>9,} lines {found['seconds']:7.1f} s {speed:>9,.0f} lines/s "
                f"{found['processor_seconds']:6.1f} s processor {found['peak_mb']:6.0f} MB peak",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=200_000)
    parser.add_argument("--chunk", type=int, default=CHUNK)
    parser.add_argument("--postgresql", metavar="URL")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(step(arguments.step, arguments.url, arguments.folder, arguments.chunk)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_file(folder / "readers.csv", arguments.lines)
        measure("SQLite", f"sqlite:///{folder}/bench.sqlite3", folder, arguments.lines, arguments.chunk)
        print(f"{'SQLite':10} {'file':8} {(folder / 'bench.sqlite3').stat().st_size / 2**20:,.0f} MB")
        if arguments.postgresql:
            measure("PostgreSQL", arguments.postgresql, folder, arguments.lines, arguments.chunk)


if __name__ == "__main__":
    main()
