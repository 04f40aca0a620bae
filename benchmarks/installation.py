"""An installation to be measured: a data directory, a database, a Valkey, readers, an issue, workers and their sink."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from benchmarks import parts
from benchmarks.parts import Usage
from service import bootstrap
from service.delivery import progress, release
from service.domain.chains import Chain
from service.domain.mailing import SETTLED
from service.domain.slots import MARKERS, SlotValues
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.editorial.issue_folder import read_issue
from service.editorial.publication_file import read_publication
from service.embedded import valkey
from service.mail.segments import Rendition
from service.store import issues, publication, subscribers
from service.store.subscribers import NewSubscriber
from service.store.tables import renditions

PROJECT = Path(__file__).resolve().parents[1]
EXAMPLES = PROJECT / "examples"
WEEK = "2019-W22"
# Two of the sample issue's articles, without pictures, make letters of 44.6 KiB in the mean of the three chains.
ARTICLES = (1, 4)
CHAINS = ("en", "be,ru", "ru")
# So high that it never limits: the bucket in Valkey is asked as in real use.
UNREACHED_RATE = 1_000_000.0
_CHUNK = 20_000
_VALUES = SlotValues(*(marker.encode() for marker in MARKERS.values()))


@dataclass(frozen=True, slots=True)
class Run:
    """What one mailing took: letters per second, seconds until the first, use of the processor and memory by kind."""

    rate: float
    freeze: float
    usages: dict[str, Usage]
    readers: int

    def microseconds(self, *kinds: str) -> float:
        """CPU per letter of these kinds of processes together."""
        return sum(used.cpu for kind, used in self.usages.items() if kind in kinds) / self.readers * 1e6

    def used(self) -> str:
        """For people: CPU per letter and peak memory, by kind."""
        return ", ".join(
            f"{who} {self.microseconds(who):.1f} µs {one.megabytes:.0f} MB" for who, one in self.usages.items()
        )


class Installation:
    """Made by `installation`; the settings of this process and of all that it starts point to it."""

    def __init__(
        self, folder: Path, database_url: str | None, port: int, *, server: int | None, **settings: str
    ) -> None:
        self.folder = folder
        self.server = server
        for name in [name for name in os.environ if name.startswith("TYDZEN_")]:
            del os.environ[name]
        named = {
            "data_dir": str(folder),
            "smtp_url": f"smtp://127.0.0.1:{port}?tls=none&connections={parts.CONNECTIONS}",
            "rate": str(UNREACHED_RATE),
            "log_level": "WARNING",
            **({"database_url": database_url} if database_url else {}),
            **settings,
        }
        os.environ.update({f"TYDZEN_{name.upper()}": value for name, value in named.items()})
        self.services = bootstrap.services()
        self.services.upgrade_database()

    def fill(self, readers: int, *, first: int = 0, week: str = WEEK) -> None:
        """The sample publication, the issue as that `week`'s, and active readers of three chains in turn.

        Readers are numbered from `first` on.
        """
        services = self.services
        weekly = read_publication(EXAMPLES)
        issue = read_issue(EXAMPLES / "issues" / WEEK, weekly)
        issue = dataclasses.replace(
            issue, week=Week.parse(week), articles=tuple(issue.articles[number] for number in ARTICLES)
        )
        with services.database.begin() as session:
            publication.save(session, weekly, services.clock.now())
            issues.save(session, issue, services.clock.now())
        for start in range(first, first + readers, _CHUNK):
            rows = [self._reader(number) for number in range(start, min(start + _CHUNK, first + readers))]
            with services.database.begin() as session:
                subscribers.insert(session, rows, week=Week.parse(WEEK))
        if services.database.postgresql:
            # They have been there for long: what the server does once after an import is not the mailing's.
            with services.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM (ANALYZE) subscribers")

    def _reader(self, number: int) -> NewSubscriber:
        return subscribers.prepared(
            self.services.sealer,
            f"reader{number}@example.test",
            Chain(tuple(CHAINS[number % len(CHAINS)].split(","))),
            status=SubscriberStatus.ACTIVE,
            consent="benchmark",
            week=Week.parse(WEEK),
        )

    def release(self, week: str = WEEK) -> int:
        """The id of a new mailing to everybody; whoever hears the bell plans it."""
        services = self.services
        with services.database.begin() as session:
            return release.send(session, week, services.bell, lambda *_: [], actor="bench", now=services.clock.now())

    @contextlib.contextmanager
    def workers(self, count: int, *, module: str = "worker") -> Iterator[list[subprocess.Popen[bytes]]]:
        """`count` workers of one sending process each, and Valkey."""
        command = [sys.executable, "-m", "celery", "-q", "-A", module, "worker", "-Q", "bulk", "--concurrency=1"]
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

    def mail(
        self,
        workers: list[subprocess.Popen[bytes]],
        readers: int,
        *,
        sink: int | None = None,
        meanwhile: Callable[[int], None] | None = None,
        week: str = WEEK,
    ) -> Run:
        """Send to everybody; the clock of the rate starts with the first letter and stops with the last."""
        services = self.services
        # Who asks stands still for a tenth of a second when this whole process is looked through for what could go; an
        # operator's command is as old as its question.
        gc.collect()
        gc.freeze()
        number = self.release(week)
        asked, first, before = time.perf_counter(), 0.0, {}
        while True:
            with services.database.look() as session:
                status = progress.status(session, number)
            if not first and status.mailing.started_at:
                first, before = time.perf_counter(), self._usages(workers, sink)
            if status.mailing.state in SETTLED:
                break
            if first and meanwhile is not None:
                meanwhile(number)
            time.sleep(0.05)
        seconds = time.perf_counter() - first
        after = self._usages(workers, sink)
        assert status.counts.accepted == readers, status.counts
        used = {who: Usage(one.cpu - before[who].cpu, one.megabytes, one.private) for who, one in after.items()}
        return Run(readers / seconds, first - asked, used, readers)

    def _usages(self, workers: list[subprocess.Popen[bytes]], sink: int | None) -> dict[str, Usage]:
        made = {"workers": sum((parts.usage_of_all(worker.pid) for worker in workers), Usage())}
        if self.server:
            made["PostgreSQL"] = parts.usage_of_all(self.server)
        if sink:
            made["sink"] = parts.usage(sink)
        return made

    def letter_size(self) -> int:
        """The mean size of a letter on the wire, in octets: the 8-bit form, which both sinks take."""
        with self.services.database.read() as session:
            stored = session.execute(sa.select(renditions.c.content)).scalars().all()
        forms = [Rendition.from_bytes(content).eight_bit for content in stored]
        return round(statistics.mean(len(form.join(_VALUES)) for form in forms if form is not None))


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
def installation(kind: str, port: int, **settings: str) -> Iterator[Installation]:
    """An empty installation on `postgresql` or `sqlite` that sends to a port of this machine."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tydzen-bench-")))
        url, server = stack.enter_context(parts.postgresql()) if kind == "postgresql" else (None, None)
        yield Installation(folder, url, port, server=server, **settings)
