"""The whole run, end to end, as a ratio to Postfix's smtp-source in the same run.

    python -m benchmarks.sending [--readers 50000] [--sink fast|postfix|both] [--database postgresql|sqlite|both]

Real Celery workers, gate, journal, all checks on; three chains of the sample issue. `--rates` measures instead how well
a set rate is kept by two workers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from benchmarks import parts
from service import bootstrap
from service.delivery import progress, release
from service.domain.chains import Chain
from service.domain.mailing import SETTLED
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.editorial.issue_folder import read_issue
from service.editorial.publication_file import read_publication
from service.embedded import valkey
from service.mail.segments import Rendition
from service.store import issues, publication, subscribers
from service.store.tables import renditions

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLES = PROJECT / "examples"
WEEK = "2019-W22"
CHAINS = ("en", "be,ru", "ru")
CHUNK = 20_000


@dataclass(frozen=True, slots=True)
class Run:
    """What one mailing took: letters per second, CPU µs per letter and peak MB by process."""

    rate: float
    freeze: float
    usages: dict[str, parts.Usage]
    readers: int

    def line(self, name: str, against: float) -> str:
        used = "  ".join(
            f"{who} {one.cpu / self.readers * 1e6:.1f} µs {one.megabytes:.0f} MB" for who, one in self.usages.items()
        )
        return f"{name:34} {self.rate:8.0f}/s  {self.rate / against:5.2f} × smtp-source   {used}"


class Installation:
    """A data directory, a database, a Valkey and two workers that send into a sink."""

    def __init__(self, folder: Path, database_url: str | None, port: int, *, server: int | None, rate: float) -> None:
        self.folder = folder
        self.server = server
        os.environ["TYDZEN_DATA_DIR"] = str(folder)
        os.environ["TYDZEN_SMTP_URL"] = f"smtp://127.0.0.1:{port}?tls=none&connections={parts.CONNECTIONS}"
        os.environ["TYDZEN_RATE"] = str(rate)
        os.environ["TYDZEN_LOG_LEVEL"] = "WARNING"
        os.environ.pop("TYDZEN_DATABASE_URL", None)
        if database_url:
            os.environ["TYDZEN_DATABASE_URL"] = database_url
        self.services = bootstrap.services()
        self.services.upgrade_database()

    def fill(self, readers: int) -> None:
        services = self.services
        week = Week.parse(WEEK)
        weekly = read_publication(EXAMPLES)
        with services.database.begin() as session:
            publication.save(session, weekly, services.clock.now())
            issues.save(session, read_issue(EXAMPLES / "issues" / WEEK, weekly), services.clock.now())
        for start in range(0, readers, CHUNK):
            rows = [
                subscribers.prepared(
                    services.sealer,
                    f"reader{number}@example.test",
                    Chain(tuple(CHAINS[number % len(CHAINS)].split(","))),
                    status=SubscriberStatus.ACTIVE,
                    consent="benchmark",
                    week=week,
                )
                for number in range(start, min(start + CHUNK, readers))
            ]
            with services.database.begin() as session:
                subscribers.insert(session, rows)

    @contextlib.contextmanager
    def workers(self, count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
        """`count` workers of one sending process each."""
        command = [sys.executable, "-m", "celery", "-q", "-A", "worker", "worker", "-Q", "bulk", "--concurrency=1"]
        with valkey.running(self.folder):
            started = [
                subprocess.Popen([*command, f"--hostname=w{number}@%h"], cwd=PROJECT, stdout=subprocess.DEVNULL)
                for number in range(count)
            ]
            try:
                _until_quiet(started)
                yield started
            finally:
                for worker in started:
                    worker.send_signal(signal.SIGTERM)
                for worker in started:
                    worker.wait(30)

    def mail(self, workers: list[subprocess.Popen[bytes]], readers: int) -> Run:
        """Send to everybody; the clock of the rate starts with the first letter and stops with the last."""
        services = self.services
        with services.database.begin() as session:
            number = release.send(
                session, WEEK, services.bell, services.blocking, actor="bench", now=services.clock.now()
            )
        asked, first, before = time.perf_counter(), 0.0, {}
        while True:
            with services.database.read() as session:
                status = progress.status(session, number)
            if not first and status.mailing.started_at:
                first, before = time.perf_counter(), self._usages(workers)
            if status.mailing.state in SETTLED:
                break
            time.sleep(0.05)
        seconds = time.perf_counter() - first
        after = self._usages(workers)
        assert status.counts.accepted == readers, status.counts
        used = {who: parts.Usage(one.cpu - before[who].cpu, one.megabytes) for who, one in after.items()}
        return Run(readers / seconds, first - asked, used, readers)

    def _usages(self, workers: list[subprocess.Popen[bytes]]) -> dict[str, parts.Usage]:
        made = {"workers": sum((parts.usage_of_all(worker.pid) for worker in workers), parts.Usage())}
        if self.server:
            made["PostgreSQL"] = parts.usage_of_all(self.server)
        return made

    def letter_size(self) -> int:
        """The mean size of a letter on the wire, in octets: the 8-bit form, which both sinks take."""
        with self.services.database.read() as session:
            stored = session.execute(sa.select(renditions.c.content)).scalars().all()
        forms = [Rendition.from_bytes(content).eight_bit for content in stored]
        return round(statistics.mean(sum(map(len, form.statics)) for form in forms if form is not None))


def _until_quiet(workers: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the workers, and the sweep beside each, have started and have nothing to do."""
    before, deadline = -1.0, time.monotonic() + 60
    while time.monotonic() < deadline:
        now = sum(parts.usage_of_all(worker.pid).cpu for worker in workers)
        if now - before < 0.05 and now > 1:
            return
        before = now
        time.sleep(2)


@contextlib.contextmanager
def installation(kind: str, port: int, rate: float = 0) -> Iterator[Installation]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tydzen-bench-")))
        url, server = stack.enter_context(parts.postgresql()) if kind == "postgresql" else (None, None)
        yield Installation(folder, url, port, server=server, rate=rate)


def compare(name: str, command: list[str], port: int, kind: str, readers: int) -> None:
    with parts.sink(command, port), installation(kind, port) as made:
        made.fill(readers)
        with made.workers(2) as workers:
            run = made.mail(workers, readers)
        size = made.letter_size()
        # The peer is measured twice around nothing else, because a shared machine drifts.
        peers = [parts.source(port, min(readers, 30_000), size) for _ in range(3)]
        rate, used = statistics.median(peer[0] for peer in peers), statistics.median(peer[1] for peer in peers)
        print(f"\n{name}, {kind}, {readers} readers, letters of {size} octets, frozen and cut in {run.freeze:.1f} s")
        print(f"{'smtp-source':34} {rate:8.0f}/s   1.00 × smtp-source   {used:.1f} µs")
        print(run.line("end to end, two workers", rate))


def keep_rates(command: list[str], port: int) -> None:
    print("\nset rate, two workers, SQLite:")
    for rate, readers in ((50, 1_000), (500, 10_000)):
        with parts.sink(command, port), installation("sqlite", port, rate) as made:
            made.fill(readers)
            with made.workers(2) as workers:
                run = made.mail(workers, readers)
        print(f"{rate:6}/s set  {run.rate:8.1f}/s measured  {100 * (run.rate / rate - 1):+.1f} %")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=50_000)
    parser.add_argument("--sink", choices=["fast", "postfix", "both"], default="both")
    parser.add_argument("--database", choices=["postgresql", "sqlite", "both"], default="both")
    parser.add_argument("--rates", action="store_true")
    options = parser.parse_args()
    if not Path(parts.SMTP_SOURCE).exists() or not shutil.which("cc"):
        print("smtp-source (Postfix) and a C compiler are needed to compare", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        fast = parts.fast_sink(Path(folder))
        if options.rates:
            port = parts.free_port()
            keep_rates([fast, str(port)], port)
            return 0
        for kind in ("postgresql", "sqlite") if options.database == "both" else (options.database,):
            if options.sink in {"fast", "both"}:
                port = parts.free_port()
                compare("fast_sink", [fast, str(port)], port, kind, options.readers)
            if options.sink in {"postfix", "both"}:
                port = parts.free_port()
                command = [parts.SMTP_SINK, "-u", "nobody", f"127.0.0.1:{port}", "512"]
                compare("smtp-sink", command, port, kind, options.readers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
