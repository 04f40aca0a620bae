"""No memory for a worker: the kernel kills in it, or nothing more is given to it for a while."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.store import tables
from tests.chaos import run as chaos
from tests.chaos.memory import bound_address_space, group, hindrance
from tests.chaos.run import is_alive, journals_of, letters_past_dot, taken_along
from tests.chaos.test_faults import is_sent, url_of
from tests.installation import audit

pytestmark = pytest.mark.long

KILLS, CONCURRENCY = 6, 3
ROOM = 1 << 20  # octets
HUNGRY = """
import sys, time
sys.stdin.read()
kept = []
while True:
    kept.append(b"x" * 65536)
    time.sleep(0.01)
"""


class Killer:
    """Has the kernel kill in a random worker, as `kill_one` does: whom it likes of the pool, or the parent, in turn."""

    def __init__(self, groups):
        self._groups = groups
        self._pool = itertools.cycle([True, False])
        self.made = []
        self.journals = set()

    @property
    def kills(self):
        return sum(one.kills for one in self.made)

    def __call__(self, made, supervisor, chance):
        with supervisor.lock:
            worker = chance.choice(supervisor.workers)
            made.wait_for(lambda: sum(map(is_alive, worker.children())) == CONCURRENCY, 30, "the pool is not whole")
            held, killed = self._kill(worker, worker.children() if next(self._pool) else [worker.pid])
            made.wait_for(lambda: len(held) - len(look(held)) >= killed, 30, "killed, and not ended")
            if not is_alive(worker.pid):
                worker.process.wait()
                made.wait_for(lambda: not look(held), 30, "children outlive their parent")
        dead = {path for pid, paths in held.items() if not is_alive(pid) for path in paths}
        self.journals |= dead
        return ("child" if worker.alive else "parent"), letters_past_dot(dead)

    def _kill(self, worker, pids):
        """Let the kernel kill one of these or more; the journals of each process of the worker, and how many it killed."""
        found = self._groups.enter_context(group())
        self.made.append(found)
        found.bound(ROOM)
        with hungry_neighbour() as neighbour:
            with standing_still(pids):
                held = {worker.pid: set()}
                look_around([worker], held)
                found.take_in([*pids, neighbour.pid])
            neighbour.stdin.close()
            give_up = time.monotonic() + 90
            while not found.kills:
                look_around([worker], held)
                assert time.monotonic() < give_up, "the kernel kills nobody"
                time.sleep(0.005)
            found.lift()
        # The neighbour has its turn when nobody else is left.
        return held, min(found.kills, len(pids))


@contextlib.contextmanager
def hungry_neighbour():
    """A process that is smaller than any of a worker, and takes more and more memory once its input is closed."""
    with subprocess.Popen([sys.executable, "-ISc", HUNGRY], stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def standing_still(pids):
    """So that none of these does anything between two looks."""
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if number == signal.SIGSTOP:
            yield


def look(held):
    """Add to the journals of each process those that it holds now; who is alive."""
    for pid in held:
        held[pid] |= journals_of([pid])
    return [pid for pid in held if is_alive(pid)]


def look_around(workers, held):
    """As `look`, at whoever is now in the pools of these workers."""
    for worker in workers:
        for pid in worker.children():
            held.setdefault(pid, set())
    return look(held)


def test_nobody_is_lost_or_mailed_twice_while_the_kernel_kills_for_want_of_memory(database, tmp_path):
    why = hindrance()
    if why:
        pytest.skip(why)
    plan = chaos.Plan(readers=1500, concurrency=CONCURRENCY, kills=KILLS, flushes=0, hurry=True, seed=3)
    # The groups end after their processes.
    with contextlib.ExitStack() as groups, chaos.arena(tmp_path / "run", url_of(database), plan) as made:
        killer = Killer(groups)
        report = chaos.run(made, plan, kill=killer)
        print(report.table())
        report.complain()
        assert killer.kills >= KILLS
        assert set(report.kills) == {"parent", "child"}
        assert uncertain_ones(made, report.mailing) <= taken_along(killer.journals)


def address_space(pid):
    """Octets; none of a process that has ended."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    return None


@contextlib.contextmanager
def nothing_more(pids):
    """Each of these gets no more address space than it has."""
    before = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if size := address_space(pid):
                before[pid] = bound_address_space(pid, size)
    try:
        yield
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_AS, limits)


@pytest.mark.parametrize("whom", ["pool", "whole"])
def test_a_worker_that_gets_no_memory_for_seconds_loses_nobody_and_goes_on_by_itself(database, tmp_path, whom):
    plan = chaos.Plan(readers=2000, workers=1, concurrency=CONCURRENCY, dot_seconds=0.02)
    seen = {}
    with chaos.arena(tmp_path / "run", url_of(database), plan) as made:
        made.fill(plan.readers)
        made.start_sweeps()
        # Who ends of it is begun anew, as after any other end.
        with chaos.supervised(made, plan) as supervisor, chaos.hurried(made):
            mailing = made.send()
            for due in (0, 400, 800, 1200):
                made.wait_for(lambda due=due: look_around(made.workers, seen) and made.taken() > due, 90)
                (worker,) = supervisor.workers
                with nothing_more([*worker.children(), *([worker.pid, *worker.sweeps()] if whom == "whole" else [])]):
                    over = time.monotonic() + 3
                    made.wait_for(lambda over=over: look_around(made.workers, seen) and time.monotonic() > over)
                chaos.time_passes(made)
            made.wait_for(
                lambda: look_around(made.workers, seen) and (chaos.time_passes(made) or is_sent(made, mailing)), 120
            )
            dead = {path for pid in seen.keys() - set(look(seen)) for path in seen[pid]}
        assert sum(one.log.read_text("utf-8", "replace").count("MemoryError") for one in made.workers) > 4
        found = audit(made, mailing)
        found.complain()
        assert found.planned == plan.readers
        # Each was past its dot when its process ended, or its connection was broken.
        left = uncertain_ones(made, mailing) - taken_along(dead)
        assert set(words_of(made, left)) <= {
            f"the worker failed at a {what} after the final dot" for what in ("letter", "reply")
        }


def uncertain_ones(made, mailing):
    return {one for one, (state, _) in made.states(mailing).items() if state is DeliveryState.UNCERTAIN}


def words_of(made, numbers):
    """What is noted of the attempts of these deliveries."""
    a = tables.attempts
    with made.database.read() as session:
        return list(session.execute(sa.select(a.c.reply).where(a.c.delivery_id.in_(numbers))).scalars())
