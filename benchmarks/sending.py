"""Whole mailings, end to end: real Celery workers, gate, journal, rate in Valkey, all checks on, three chains.

Each run is a new installation with new readers; what several rows need is run once.
"""

from __future__ import annotations

import functools
import os
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import parts
from benchmarks.installation import PROJECT, WEEK, Run, installation
from benchmarks.parts import Turns
from benchmarks.table import Row
from service.delivery import progress
from service.store import Session

_PEER_LETTERS = 30_000
_ENGINE = ("workers", "PostgreSQL")
_WARMING = 6_000  # letters: each worker has sent a few batches of each edition
_NEXT_WEEK = "2019-W23"
_LATER_WEEKS = ("2019-W24", "2019-W25", "2019-W26", "2019-W27")
_SHORT = 200_000  # letters: fewer are sent in a few seconds, and one run says little
_TINY = 50_000  # letters: of fewer, which are sent within a second, not even one mailing of each run does


@dataclass(frozen=True, slots=True)
class Asked:
    """One answer: seconds by the clock, and the turns that who asks and who answers had in them."""

    seconds: float
    asking: Turns
    answering: Turns

    @property
    def waited(self) -> float:
        """Seconds that they waited for a core."""
        return self.asking.waited + self.answering.waited


@dataclass(frozen=True, slots=True)
class Sending:
    """One mailing and, around nothing else, its peer: letters per second and CPU µs per letter of smtp-source."""

    run: Run
    size: int
    peer: float
    peer_cpu: float
    status: list[Asked] = field(default_factory=list)  # the query behind `mailing status`
    command: list[float] = field(default_factory=list)  # seconds of the whole command

    @property
    def ratio(self) -> float:
        return self.run.rate / self.peer

    @property
    def engine(self) -> float:
        """CPU µs per letter of workers and database together."""
        return self.run.microseconds(*_ENGINE)


@functools.cache
def fast_sink() -> str:
    return parts.fast_sink(Path(tempfile.mkdtemp(prefix="tydzen-sink-")))


def sink_command(sink: str, port: int, delay: int = 0) -> list[str]:
    if sink == "postfix":
        return [parts.SMTP_SINK, "-u", "nobody", f"127.0.0.1:{port}", "512"]
    return [fast_sink(), str(port), *(("-d", str(delay)) if delay else ())]


@functools.cache
def once(
    kind: str,
    readers: int,
    sink: str = "fast",
    *,
    workers: int = 2,
    delay: int = 0,
    number: int = 0,  # noqa: ARG001  # part of the key
    safe: bool = True,
    watched: bool = False,
    warm: bool = False,
    later: int = 0,
) -> Sending:
    """One run; `number` tells repetitions apart. While it is `watched`, the status is asked for as operators do.

    With `warm` the workers have sent another issue before, to a few thousand: what they do once is not counted. Where
    they send so many `later` issues to all, what is told is of the one with the median cost.
    """
    port = parts.free_port()
    module = "worker" if safe else "benchmarks.unsafe"
    with parts.sink(sink_command(sink, port, delay), port) as far_end, installation(kind, port) as made:
        few = min(readers, _WARMING) if warm else 0
        made.fill(few or readers)
        asked: list[Asked] = []
        commanded: list[float] = []

        def ask(mailing: int) -> None:
            own, started = parts.turns(os.getpid()), time.perf_counter()
            with made.services.database.look() as session:
                server = _server_of(session) if session.postgresql else 0
                before = parts.turns(server)
                progress.status(session, mailing)
            seconds = time.perf_counter() - started
            asked.append(Asked(seconds, parts.turns(os.getpid()) - own, parts.turns(server) - before))
            if watched and len(asked) % 100 == 1:  # every five seconds or so: Python's own start takes processor time
                started = time.perf_counter()
                tydzen = Path(parts.PYTHON).with_name("tydzen")
                command = [str(tydzen), "mailing", "status", str(mailing)]
                subprocess.run(command, check=True, cwd=PROJECT, stdout=subprocess.DEVNULL)
                commanded.append(time.perf_counter() - started)

        with made.workers(workers, module=module) as running:
            if warm:
                made.mail(running, few)
                made.fill(readers - few, first=few, week=_NEXT_WEEK)
            week = _NEXT_WEEK if warm else WEEK
            runs = [made.mail(running, readers, sink=far_end.pid, meanwhile=ask, week=week)]
            for week in _LATER_WEEKS[:later]:
                made.fill(0, week=week)
                runs.append(made.mail(running, readers, sink=far_end.pid, meanwhile=ask, week=week))
            run = sorted(runs, key=lambda one: one.microseconds(*_ENGINE))[len(runs) // 2]
        size = made.letter_size()
        peers = [parts.source(port, min(readers, _PEER_LETTERS), size) for _ in range(1 if delay else 3)]
    peer, cpu = (statistics.median(column) for column in zip(*peers, strict=True))
    found = Sending(run, size, peer, cpu, asked, commanded)
    print(
        f"  {kind} {readers} readers to {sink}: {run.rate:.0f}/s = {found.ratio:.2f} × {peer:.0f}/s; {run.used()}",
        flush=True,
    )
    return found


def _server_of(session: Session) -> int:
    """The process id of the PostgreSQL server that answers this session."""
    driver: Any = session.connection.connection.driver_connection
    return int(driver.info.backend_pid)


def repeated(kind: str, readers: int, sink: str, repeat: int, *, safe: bool = True) -> Sending:
    """Of so many runs the one with the median ratio to its peer."""
    runs = _runs(kind, readers, sink, repeat, safe=safe)
    return sorted(runs, key=lambda one: one.ratio)[(len(runs) - 1) // 2]


def _runs(kind: str, readers: int, sink: str, repeat: int, *, safe: bool = True) -> list[Sending]:
    return [once(kind, readers, sink, number=number, safe=safe) for number in range(repeat)]


def _readers(scale: float, readers: int = 100_000) -> int:
    return max(3_000, round(readers * scale))


def _row(what: str, must: str, found: Sending, measured: str) -> Row:
    cpu = ", ".join(f"{who} {found.run.microseconds(who):.1f} µs" for who in found.run.usages)
    memory = ", ".join(_memory(who, one) for who, one in found.run.usages.items() if who != "sink")
    return Row(what, must, measured, cpu, memory)


def _memory(who: str, used: parts.Usage) -> str:
    # What all of its processes share, as much as they were told to, shows in each of them.
    own = who == "PostgreSQL"
    return f"{who} {used.private:.0f} MB of its own" if own else f"{who} {used.megabytes:.0f} MB"


def end_to_end(scale: float, repeat: int) -> list[Row]:
    """Both sinks, PostgreSQL."""
    rows = []
    for sink, name, must in (
        ("fast", "a fast sink", "≥ 1.0 × smtp-source, goal 1.3"),
        ("postfix", "Postfix's `smtp-sink`", "≥ 1.0 × smtp-source"),
    ):
        found = repeated("postgresql", _readers(scale), sink, repeat)
        peer = f"{found.peer:.0f}/s, {found.peer_cpu:.1f} µs"
        what = f"end to end → {name}, {found.run.readers} readers, {found.size} octets a letter"
        rows.append(_row(what, must, found, f"{found.run.rate:.0f}/s = {found.ratio:.2f} × smtp-source ({peer})"))
        if sink == "fast":
            # The runs are those of the row above: each is made once.
            engines = [one.engine for one in _runs("postgresql", _readers(scale), sink, repeat)]
            told = f"{statistics.median(engines):.1f} µs, the median of {', '.join(f'{one:.1f}' for one in engines)}"
            rows.append(Row("CPU, workers and database, per letter", "≤ 45 µs, goal 35", told))
    return rows


def million(scale: float, _repeat: int) -> list[Row]:
    """A million readers, with somebody who asks for the status all the time."""
    found = once("postgresql", _readers(scale, 1_000_000), watched=True)
    # None where it was over before the first look.
    asked = sorted(found.status, key=lambda one: one.seconds) or [Asked(0.0, Turns(), Turns())]
    ms = [1000 * one.seconds for one in asked]
    answering = 1e6 * statistics.mean(one.answering.had for one in asked)
    whole = statistics.median(found.command or [0.0]) * 1000
    return [
        _row(
            f"{found.run.readers} readers → a fast sink",
            "completes; ≤ 150 MB a process",
            found,
            f"{found.run.rate:.0f}/s = {found.ratio:.2f} × smtp-source, planned and frozen in {found.run.freeze:.1f} s",
        ),
        Row(
            "its `mailing status` meanwhile",
            "≤ 50 ms",
            f"the query 99 % ≤ {ms[len(ms) * 99 // 100]:.1f} ms, longest {ms[-1]:.1f} ms of {len(ms)}, "
            f"{1000 * asked[-1].waited:.1f} ms of these waiting for a core; "
            f"the command with Python's start {whole:.0f} ms",
            f"PostgreSQL {answering:.0f} µs an answer",
        ),
    ]


def sqlite(scale: float, repeat: int) -> list[Row]:
    """SQLite against PostgreSQL."""
    readers = _readers(scale)
    small, large = (repeated(kind, readers, "fast", repeat) for kind in ("sqlite", "postgresql"))
    measured = (
        f"{small.run.rate:.0f}/s = {small.run.rate / large.run.rate:.2f} × PostgreSQL, {small.ratio:.2f} × smtp-source"
    )
    return [_row(f"SQLite, {readers} readers → a fast sink", "≥ 0.5 × the PostgreSQL figure", small, measured)]


def workers(scale: float, _repeat: int) -> list[Row]:
    """Two workers against one, where neither the sink's nor this machine's processor is the limit."""
    readers = _readers(scale, 20_000)
    one, two = (once("postgresql", readers, workers=count, delay=5_000) for count in (1, 2))
    measured = f"{two.run.rate:.0f}/s against {one.run.rate:.0f}/s = {two.run.rate / one.run.rate:.2f} ×"
    return [_row("two workers against one, a sink that waits 5 ms per letter", "≥ 1.7 ×", two, measured)]


def price(scale: float, repeat: int) -> list[Row]:
    """What journal and gate cost: against workers of the benchmark that have neither."""
    readers = _readers(scale)
    safe = repeated("postgresql", readers, "fast", repeat)
    bare = repeated("postgresql", readers, "fast", repeat, safe=False)
    slower = 1 - safe.ratio / bare.ratio
    dearer = safe.engine / bare.engine - 1
    measured = (
        f"{100 * slower:.1f} % of the rate; {safe.engine:.1f} against {bare.engine:.1f} µs ({100 * dearer:+.1f} %)"
    )
    return [Row("safety's price: the same without journal and gate", "≤ 15 %", measured)]


def growth(scale: float, repeat: int) -> list[Row]:
    """Cost per letter of small and large mailings."""
    sizes = [_readers(scale, size) for size in (10_000, 100_000, 1_000_000)]
    costs = [_cost(size, repeat if size < _SHORT else 1) for size in sizes]
    listed = ", ".join(f"{size}: {cost:.1f} µs" for size, cost in zip(sizes, costs, strict=True))
    apart = 100 * (max(costs) / min(costs) - 1)
    return [Row("CPU of workers and database per letter, by readers", "within 15 %", f"{listed}: {apart:.0f} % apart")]


def _cost(readers: int, repeat: int) -> float:
    """CPU µs per letter of workers and database, the median of so many runs."""
    later = len(_LATER_WEEKS) if readers < _TINY else 0
    runs = [once("postgresql", readers, warm=True, later=later, number=number) for number in range(repeat)]
    return statistics.median(run.engine for run in runs)


def rates(scale: float, _repeat: int) -> list[Row]:
    """How well a set rate is kept by two workers."""
    rows = []
    for rate, readers in ((50, 1_000), (500, 10_000)):
        port = parts.free_port()
        count = max(300, round(readers * min(1.0, scale)))
        with parts.sink(sink_command("fast", port), port), installation("sqlite", port, rate=str(rate)) as made:
            made.fill(count)
            with made.workers(2) as running:
                run = made.mail(running, count)
        measured = f"{run.rate:.1f}/s, off by {100 * (run.rate / rate - 1):+.1f} %"
        rows.append(Row(f"a set rate of {rate}/s, two workers", "", measured))
    return rows
