"""Hosts, worker processes and what ties them together: the database as each sees it, the bell, the tokens, the hints.

`Worker` is put together as `bootstrap` does it, from the real parts.
"""

from __future__ import annotations

import shutil
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from service.audience.departures import Nowhere, OwnLog
from service.delivery.dispatch import Dispatcher
from service.delivery.letters import Stationery
from service.delivery.limits import Limits, defaults
from service.delivery.line import LineKeeper, open_line
from service.delivery.offload import Offload
from service.delivery.plan import Planner
from service.delivery.reconciling import Reconciler
from service.delivery.recovery import Recovery
from service.delivery.sweep import Sweep
from service.domain.errors import UnavailableError
from service.domain.keys import Purpose
from service.domain.tokens import DeliverySigner, LinkSigner
from service.mail.relay import Relay
from service.mail.tls import Tls
from service.pace.bucket import FOR_EVER
from service.queue import PLAN_MAILING, SEND_BATCH
from service.store import Database
from tests.conftest import KEYRING
from tests.fakes import FakePace
from tests.simulation import substitutes
from tests.simulation.network import Network
from tests.simulation.seen import SeenDatabase
from tests.simulation.templates import TinyPress
from tests.simulation.world import Killed, Process, World

STATIONERY = Stationery(
    LinkSigner(KEYRING, Purpose.UNSUBSCRIBE), LinkSigner(KEYRING, Purpose.PREFERENCES), DeliverySigner(KEYRING)
)


class Site:
    """What all hosts share: database, broker, Valkey, network."""

    def __init__(self, world: World, database: Database, network: Network) -> None:
        self.world = world
        self.database = database
        self.network = network
        self.database_away = False
        self.database_trouble = 0.0  # of a transaction: lost, or committed and not said so
        self.hint_loss = 0.0
        self.hint_copies = 0.0
        self.rate = 0.0
        self.lease_seconds = 60.0
        self.connections = 2
        self.window = 4
        self.relays: tuple[str, ...] = ("relay1.test",)
        self.weight: int | None = None
        self.hints: deque[tuple[str, int]] = deque()
        self.hosts: list[Host] = []
        self.counts: Counter[str] = Counter()
        self.pace = FakePace()
        self.lone: Lone | None = None
        self.on_claim: Callable[[], None] = lambda: None  # whom it concerns that a batch has been claimed
        self.planner_dies_at: int | None = None  # of the next that plans: at which named point

    # Hints

    def ring(self, job: str, number: int, *_: Any) -> bool:
        """A hint goes to the broker, or is lost, or comes twice, sooner or later."""
        chance = self.world.rng.random()
        if chance < self.hint_loss:
            self.counts["hints lost"] += 1
            return chance < self.hint_loss / 2
        copies = 1
        if self.hint_copies and self.world.rng.random() < self.hint_copies:
            copies = 2
            self.counts["hints twice"] += 1
        for _ in range(copies):
            delay = 0.002 if self.world.rng.random() < 0.8 else self.world.rng.uniform(0, 20)
            self.world.later(delay, None, self._queue, job, number)
        return True

    def _queue(self, job: str, number: int) -> None:
        self.hints.append((job, number))
        self.hand_out()

    def hand_out(self) -> None:
        """Give waiting hints to workers that have nothing to do."""
        while self.hints:
            idle = [worker for host in self.hosts for worker in host.workers if worker.idle]
            if not idle:
                return
            job, number = self.hints.popleft()
            self.world.rng.choice(idle).take(job, number)

    # Tokens

    def reserve_all(self, rates: Mapping[str, float], count: int, patience: float = FOR_EVER) -> dict[str, float]:
        """As `Pace.reserve_all`."""
        self.pace.now = self.world.now
        return self.pace.reserve_all(rates, count, patience)

    def at_hand(self, rates: Mapping[str, float], count: int) -> None:
        """As `Pace.at_hand`: there is never anything."""
        return

    def point(self, name: str) -> None:
        """A process has come to a named point of `service.faults`."""
        if name == "after-claim":
            self.on_claim()
        process = self.world.current or self.lone
        if process is not None:
            process.come_to(name)


class Host:
    """One machine: its disk, its boot, its processes and the sweep beside them."""

    def __init__(self, site: Site, number: int, folder: Path) -> None:
        self.site = site
        self.name = f"host{number}"
        self.data_dir = folder / self.name
        self.data_dir.mkdir()
        (self.data_dir / "host-id").write_text(f"00000000-0000-4000-8000-{number:012d}\n")
        self.boots = 0
        self.boot = ""
        self.up = False
        self.suspended = False
        self.back_at = 0.0
        self.same_boot = False
        self.disk_full = False
        self.workers: list[Worker] = []
        self.made = 0
        site.hosts.append(self)
        self.start()

    def start(self) -> None:
        """Boot."""
        self.boots += 1
        self.boot = f"00000000-0000-4000-9000-{self.boots:012d}"
        self.up = True

    def new_worker(self) -> Worker:
        self.made += 1
        worker = Worker(self, f"{self.name}-w{self.made}")
        self.workers.append(worker)
        return worker

    def sweep(self, *, dies_at: int | None = None) -> bool:
        """Run the sweep, as a process of its own; it may be killed at its n-th step. Whether it came to its end."""
        site = self.site
        process = Lone(site, self, dies_at)
        recovery = Recovery(process.database, self.data_dir, Wall(), 3600)
        # Slots, releases and notices are no part of what is simulated: looking for them now and then is enough.
        kind = Sweep if site.world.rng.random() < 0.1 else _EngineSweep
        books = Reconciler(process.database, self.data_dir, Wall(), OwnLog(Nowhere(), "test"))
        sweep = kind(process.database, process, lambda *_: [], Wall(), recovery, books)
        return process.run(sweep.run)

    def plan(self, mailing: int, *, dies_at: int | None = None) -> bool:
        """Plan the mailing, as a process of its own."""
        process = Lone(self.site, self, dies_at)
        planner = Planner(process.database, TinyPress(), process, Wall(), 0.0, batch_limit=3, slice_readers=4)
        return process.run(lambda: planner.plan(mailing))

    def power_off(self) -> None:
        """All processes die at once."""
        for worker in list(self.workers):
            worker.process.die("with its host")
        self.workers.clear()
        self.up = False

    def lose_pages(self) -> None:
        """What a power cut does to journals: pages that were not written back yet are gone."""
        rng = self.site.world.rng
        for path in sorted((self.data_dir / "journals").glob("*.journal")):
            octets = bytearray(path.read_bytes())
            fate = rng.choice(("whole", "tail", "hole", "empty", "gone"))
            if not octets:
                continue
            if fate == "gone":
                path.unlink()
            elif fate == "empty":
                path.write_bytes(b"")
            elif fate != "whole":
                # Sectors of 512 octets stand for pages, since these journals are short.
                sectors = range(0, len(octets), 512)
                at = rng.choice(sectors)
                end = len(octets) if fate == "tail" else at + 512
                octets[at:end] = bytes(end - at)
                path.write_bytes(octets)

    def clear(self) -> None:
        shutil.rmtree(self.data_dir, ignore_errors=True)


class Wall:
    """The wall clock."""

    def now(self) -> Any:
        return substitutes.now.wall()


class _EngineSweep(Sweep):
    """A sweep without the parts that find nothing here."""

    def _parts(self) -> Any:
        return self._plan, self._uncertain, self._tidy, self._ring


class Lone:
    """A process without a loop, whose steps are its transactions: a sweep, a planner. Rings as itself."""

    def __init__(self, site: Site, host: Host, dies_at: int | None) -> None:
        self.site = site
        self.host = host
        self.database = SeenDatabase(site)
        self._left = dies_at

    def come_to(self, where: str) -> None:
        """Die here, if it is time."""
        if self._left is None:
            return
        self._left -= 1
        if self._left <= 0:
            raise Killed(where)

    def ring(self, job: str, *ids: int | str) -> bool:
        return self.site.ring(job, int(ids[0]))

    def empty(self) -> bool:
        """As far as the queue knows: what is under way is not in it."""
        return not self.site.hints

    def run(self, job: Callable[[], Any]) -> bool:
        substitutes.now.host = self.host
        self.site.lone = self
        try:
            job()
        except Killed as death:
            self.site.world.tell(self.host.name, f"a lone process dies {death}")
            self.site.counts["lone crashes"] += 1
            return False
        except UnavailableError:
            return False
        finally:
            substitutes.now.host = self.site.lone = None
        return True


class Worker:
    """One sending process: the real dispatcher with its lines, on a virtual loop, doing one job at a time."""

    def __init__(self, host: Host, name: str) -> None:
        site, world = host.site, host.site.world
        self.site = site
        self.host = host
        self.process = Process(world, name)
        self.process.host = host
        self.process.come_to = self._come_to
        self.dies_at_point: int | None = None  # how many named points it still passes
        self.stops_at_point: tuple[int, Callable[[Worker], None]] | None = None  # likewise, and who stops it then
        self.process.on_death.append(self._died)
        self.process.loop.network = site.network
        self.process.loop.offload_seconds = self._database_seconds
        self.slow_database = 0.002
        self.stopping = False
        self.job: str | None = None
        self.database = SeenDatabase(site)
        relays = [
            Relay(name, 25, Tls.NONE, connections=site.connections, window=site.window, weight=site.weight)
            for name in site.relays
        ]
        self.lines = LineKeeper(
            self.database,
            [partial(open_line, self.database, host.data_dir, relay, helo_name="sender.example") for relay in relays],
        )
        self.dispatcher = Dispatcher(
            self.database,
            site,
            STATIONERY,
            TinyPress(),
            self,
            Wall(),
            self.lines,
            Offload(self.database.run_short),
            lambda: self.stopping,
            Limits(defaults(site.rate, relays)),
            site.lease_seconds,
            books=Reconciler(self.database, host.data_dir, Wall(), OwnLog(Nowhere(), "test")),
        )

    @property
    def idle(self) -> bool:
        """Whether it would take a hint now."""
        return self.process.alive and not self.process.stopped and self.job is None and not self.stopping

    def _database_seconds(self) -> float:
        return self.slow_database * self.site.world.rng.uniform(0.3, 2.0)

    # As bell, and as one that may die

    def ring(self, job: str, *ids: int | str) -> bool:
        return self.site.ring(job, int(ids[0]))

    def _come_to(self, where: str) -> None:
        if self.stops_at_point is not None:
            left, stop = self.stops_at_point
            self.stops_at_point = (left - 1, stop) if left > 1 else None
            if left == 1:
                stop(self)
        if self.dies_at_point is not None:
            self.dies_at_point -= 1
            if self.dies_at_point <= 0:
                self.process.die_here(where)

    # Jobs

    def take(self, job: str, number: int) -> None:
        """Begin a job; the loop turns until it is done."""
        if job == PLAN_MAILING:
            dies_at, self.site.planner_dies_at = self.site.planner_dies_at, None
            self.host.plan(number, dies_at=dies_at)
            return
        if job != SEND_BATCH:
            return  # notices are not simulated
        self._start(f"{job} {number}", self._send_batch(number))

    def _start(self, name: str, work: Any) -> None:
        self.job = name
        self.process.start_turning()
        task = self.process.loop.create_task(work)
        task.add_done_callback(self._done)

    async def _send_batch(self, batch: int) -> None:
        try:
            await self.dispatcher.send_batch(batch)
        except UnavailableError as error:
            said = str(error).replace(str(self.host.data_dir), "its disk")
            self.site.world.tell(self.process.name, f"fails with batch {batch}: {said}")
            self.site.counts["jobs failed"] += 1
        try:
            self.dispatcher.ring_next()
        except UnavailableError:
            self.site.counts["jobs failed"] += 1

    def _done(self, task: Any) -> None:
        self.job = None
        self.process.stand_still()
        if not task.cancelled() and task.exception() is not None:
            self.site.world.complaints.append(f"{self.process.name}: {task.exception()!r}")
        if self.stopping:
            self._leave()
        else:
            self.site.world.later(0, None, self.site.hand_out)

    def terminate(self) -> None:
        """SIGTERM: finish what is past the dot, give back the rest, and go."""
        self.stopping = True
        if self.job is None:
            self._leave()

    def _leave(self) -> None:
        if self.job is None:
            self._start("leave", self._close())

    async def _close(self) -> None:
        try:
            await self.lines.close()
        except UnavailableError:
            self.site.counts["jobs failed"] += 1
        self.process.doomed = True

    def _died(self) -> None:
        if self in self.host.workers:
            self.host.workers.remove(self)
