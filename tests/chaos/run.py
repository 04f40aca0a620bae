"""Sends an issue while workers are killed at random, and holds the database against what the sink wrote down.

python -m tests.chaos.run --readers 20000 --kills 10 --flushes 2 --database postgresql
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service.domain.delivery import DeliveryState
from service.store import DatabaseAwayError, tables
from tests.installation import Audit, Installation, Worker, audit, installed, mailing_state, unanswered
from tests.smtp_sink import Rule


@dataclass(frozen=True)
class Plan:
    """What is sent, and what is done to it. Each mail takes the relay `dot_seconds`, so that there is time to die."""

    readers: int = 1500
    workers: int = 2
    concurrency: int = 3
    connections: int = 4
    kills: int = 3
    flushes: int = 1
    dot_seconds: float = 0.05
    batch_size: int = 100
    seconds: float = 120
    hurry: bool = False  # see `hurried`
    seed: int = 0


@dataclass
class Report:
    """What came out."""

    plan: Plan
    mailing: int = 0
    kills: list[str] = field(default_factory=list)
    flushes: int = 0
    at_risk: int = 0  # letters past their dot at the kills, as the journals say
    seconds: float = 0.0
    result: Audit | None = None

    def table(self) -> str:
        found = self.result
        assert found is not None
        states = ", ".join(f"{state.label} {count}" for state, count in sorted(found.states.items()))
        rows = {
            "readers": self.plan.readers,
            "kills": f"{len(self.kills)} ({', '.join(self.kills)})",
            "FLUSHALL": self.flushes,
            "seconds": f"{self.seconds:.1f}",
            "states": states,
            "taken by the sink": found.taken,
            "lost": len(found.lost) + len(found.unfinished) + len(found.unaccounted),
            "twice": len(found.twice),
            "uncertain": f"{found.uncertain} of {self.at_risk} past the dot at a kill",
        }
        return "\n".join(f"{name:20} {value}" for name, value in rows.items())

    def complain(self) -> None:
        assert self.result is not None
        self.result.complain()
        assert self.result.planned == self.plan.readers
        assert self.result.uncertain <= self.at_risk, "more are uncertain than were past the dot at the kills"


class Supervisor:
    """Starts workers, and again each one whose parent died; as systemd or compose would."""

    def __init__(self, made: Installation, plan: Plan) -> None:
        self._made = made
        self._plan = plan
        self._stopping = threading.Event()
        self.lock = threading.Lock()
        self.workers: list[Worker] = [self._start() for _ in range(plan.workers)]
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _start(self) -> Worker:
        return self._made.start_worker(concurrency=self._plan.concurrency)

    def _watch(self) -> None:
        while not self._stopping.wait(0.1):
            with self.lock:
                for place, worker in enumerate(self.workers):
                    if not worker.alive:
                        self.workers[place] = self._start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()


@contextlib.contextmanager
def supervised(made: Installation, plan: Plan) -> Iterator[Supervisor]:
    supervisor = Supervisor(made, plan)
    try:
        yield supervisor
    finally:
        supervisor.stop()


def journals_of(pids: Iterable[int]) -> set[Path]:
    """The journals that these processes hold."""
    found = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                target = os.readlink(link)
                if target.endswith((".journal", ".settled")):
                    found.add(Path(target))
    return found


def kill_one(made: Installation, supervisor: Supervisor, chance: random.Random) -> tuple[str, int]:
    """SIGKILL for a random process of a random worker; what it was, and how many letters it had past the dot.

    The children of a parent that is gone end by themselves, whatever they have in hand.
    """
    while (done := _kill_chosen(supervisor, chance)) is None:
        time.sleep(0.05)
    return done


def _kill_chosen(supervisor: Supervisor, chance: random.Random) -> tuple[str, int] | None:
    """As `kill_one`; None where the chosen one has ended a moment ago."""
    with supervisor.lock:
        done = kill_in(chance.choice(supervisor.workers), chance)
    return done and (done[0], letters_past_dot(done[1]))


def kill_in(worker: Worker, chance: random.Random) -> tuple[str, set[Path]] | None:
    """SIGKILL for a random process of that worker: which it was, and the journals of who died by it; None as above."""
    children = worker.children()
    victim = chance.choice([worker.pid, *children])
    dying = children if victim == worker.pid else [victim]
    try:
        os.kill(victim, signal.SIGSTOP)
    except ProcessLookupError:
        return None
    journals = journals_of(dying)
    os.kill(victim, signal.SIGKILL)
    if victim == worker.pid:
        worker.process.wait()
    give_up = time.monotonic() + 90
    while any(map(is_alive, dying)):
        journals |= journals_of(dying)
        assert time.monotonic() < give_up, "children outlive their parent"
        time.sleep(0.005)
    return ("parent" if victim == worker.pid else "child"), journals


def kill_everything(supervisor: Supervisor) -> int:
    """SIGKILL for all processes of all workers in one moment; how many letters they had past the dot."""
    with supervisor.lock:
        dying = [pid for worker in supervisor.workers for pid in (worker.pid, *worker.children())]
        _signal(dying, signal.SIGSTOP)
        journals = journals_of(dying)
        _signal(dying, signal.SIGKILL)
        for worker in supervisor.workers:
            worker.kill()
        give_up = time.monotonic() + 90
        while any(map(is_alive, dying)):
            assert time.monotonic() < give_up, "some outlive SIGKILL"
            time.sleep(0.005)
    return letters_past_dot(journals)


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def letters_past_dot(journals: Iterable[Path]) -> int:
    """How many letters the owners of these journals took to their graves, settled since or not."""
    return len(taken_along(journals))


def taken_along(journals: Iterable[Path]) -> set[int]:
    """The deliveries of these letters."""
    return {one for path in journals for one in unanswered(path) or unanswered(path.with_suffix(".settled"))}


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# Kills in a worker: which of its processes, and how many letters that had past the dot.
Kill = Callable[[Installation, Supervisor, random.Random], tuple[str, int]]


def run(made: Installation, plan: Plan, kill: Kill = kill_one) -> Report:
    """Send to everybody while doing the worst that the plan asks for."""
    chance = random.Random(plan.seed)
    report = Report(plan)
    made.fill(plan.readers)
    made.start_sweeps()
    deeds = ["kill"] * plan.kills + ["flush"] * plan.flushes
    chance.shuffle(deeds)
    with supervised(made, plan) as supervisor, hurried(made) if plan.hurry else contextlib.nullcontext():
        mailing = report.mailing = made.send()
        started = time.monotonic()
        made.wait_for(made.taken, 60)
        step = plan.readers / (len(deeds) + 1)
        for number, deed in enumerate(deeds, start=1):
            # Spread over the run by what has been sent, so that none falls into its end.
            due = int(step * (number - chance.random() / 2))
            made.wait_for(lambda due=due: made.taken() >= due, plan.seconds, f"{due} mails")
            if deed == "flush":
                made.valkey.flushall()
                report.flushes += 1
                continue
            what, at_risk = kill(made, supervisor, chance)
            report.kills.append(what)
            report.at_risk += at_risk
        made.wait_for(lambda: mailing_state(made, mailing) == "sent", plan.seconds, "sent")
        report.seconds = time.monotonic() - started
    report.result = audit(made, mailing)
    return report


@contextlib.contextmanager
def hurried(made: Installation) -> Iterator[None]:
    """Let each second pass for a minute: lost hints are rung again at once, and every sweep does all of its work."""
    over = threading.Event()

    def hurry() -> None:
        while not over.wait(1):
            with contextlib.suppress(DatabaseAwayError), made.database.begin() as session:
                session.execute(tables.batches.update().values(rung_at=0))
                session.execute(tables.locks.update().where(tables.locks.c.name == "sweep").values(until=0))

    thread = threading.Thread(target=hurry)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def time_passes(made: Installation) -> None:
    """Whatever was put off is due."""
    d, b = tables.deliveries, tables.batches
    with contextlib.suppress(DatabaseAwayError), made.database.begin() as session:
        deferred = d.c.state == int(DeliveryState.DEFERRED)
        session.execute(d.update().where(deferred).values(due_at=0))
        session.execute(b.update().where(b.c.open).values(due_at=0, not_before=0))


@contextlib.contextmanager
def arena(folder: Path, database_url: str, plan: Plan) -> Iterator[Installation]:
    """An installation for a run of that plan."""
    with installed(
        folder,
        database_url,
        rules=[Rule("DOT", delay=plan.dot_seconds)],
        connections=plan.connections,
        own_process=True,
        batch_size=plan.batch_size,
    ) as made:
        yield made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--flushes", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="postgresql")
    words = vars(parser.parse_args())
    kind = words.pop("database")
    plan = Plan(**words, batch_size=1000)
    print(f"seed {plan.seed}", file=sys.stderr)
    with (
        tempfile.TemporaryDirectory(prefix="tydzen-chaos-") as folder,
        database_url(Path(folder), kind) as url,
        arena(Path(folder) / "run", url, plan) as made,
    ):
        report = run(made, plan)
        print(report.table())
        report.complain()


@contextlib.contextmanager
def database_url(folder: Path, kind: str) -> Iterator[str]:
    """A migrated database of a run of its own."""
    from service.store import Database, Sealer, schema
    from tests.conftest import KEYRING
    from tests.servers import postgresql_server

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if kind == "sqlite":
        url = f"sqlite:///{folder / 'chaos.sqlite3'}"
        database = Database(url, Sealer(KEYRING))
        schema.upgrade(database)
        schema.adopt_keyring(database)
        database.close()
        yield url
        return

    class Folders:
        def getbasetemp(self) -> Path:
            return folder

    with postgresql_server(Folders(), Sealer(KEYRING)) as server:
        yield server.create("chaos")


if __name__ == "__main__":
    main()
