"""What befalls processes, hosts and all that they share, at moments that the seed chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from service.queue import SEND_BATCH
from service.store import tables
from tests.simulation.machines import Host

if TYPE_CHECKING:
    from tests.simulation.seed import Run


class Accidents:
    """Kills, stops, starves and cuts off whatever one seed's site is made of, and has it begin again."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.world = run.world
        self.site = run.site
        self.relay = run.relay
        self.network = run.network
        self.facts = run.facts
        self.counts = run.counts
        self.processes: list[Any] = []
        self.calm = False
        self.asleep: dict[Any, float] = {}  # workers that are stopped for hours, and until when
        self.crashing = self.world.rng.choice((0.0, 0.3, 0.6, 0.9))

    # Processes and hosts

    def spawn(self, host: Host) -> None:
        if not host.up:
            return
        worker = host.new_worker()
        self.counts["workers"] += 1
        process = worker.process
        rng = self.world.rng
        if not self.calm and rng.random() < self.crashing:
            if rng.random() < 0.6:
                process.dies_at = int(rng.choice((30, 150, 600)) * rng.random()) + 1
            else:
                worker.dies_at_point = rng.randrange(1, 30)
        die = self._run.operator.die
        if not self.calm and die is not None and die.random() < 0.4:
            # Between two transactions that follow each other at once, where no moment by chance would find it.
            worker.stops_at_point = die.randrange(1, die.choice((3, 10, 40))), self._stop_for_a_while
        process.on_death.append(lambda: self._died(worker))
        self.processes.append(process)
        self.site.hand_out()

    def _died(self, worker: Any) -> None:
        if not worker.stopping:
            self.counts["crashes"] += 1
        self.world.later(self.world.rng.uniform(0.05, 3.0), None, self.spawn, worker.host)

    def _worker(self) -> Any:
        workers = [worker for host in self.site.hosts for worker in host.workers]
        busy = [worker for worker in workers if worker.job]
        return self.world.rng.choice(busy or workers) if workers else None

    def stop_worker(self) -> None:
        worker = self._worker()
        if worker is not None and not worker.process.stopped:
            self._stop_for_a_while(worker)

    def _stop_for_a_while(self, worker: Any) -> None:
        long = self.site.lease_seconds * 1.5
        seconds = self.world.rng.choice((0.3, 2.0, long, long)) * self.world.rng.uniform(0.5, 1.5)
        self.world.tell(worker.process.name, f"is stopped for {seconds:.1f} s")
        worker.process.stop()
        self.world.later(seconds, None, self._wake, worker)

    def stop_for_hours(self, seconds: float) -> None:
        """Far beyond its lease, and beyond the hour after which a host counts as away; the host itself goes on."""
        worker = self._worker()
        if worker is not None and not worker.process.stopped:
            self._put_to_sleep(worker, seconds)
            self.world.later(seconds, None, self._wake, worker)

    def suspend_host(self, seconds: float) -> None:
        """All that runs on a host stands still, as a machine does whose lid is shut, and then goes on."""
        host = self.world.rng.choice(self.site.hosts)
        if not host.up:
            return
        self.counts["hosts suspended"] += 1
        self.world.tell(host.name, f"is suspended for {seconds:.0f} s")
        host.up, host.suspended, host.back_at = False, True, self.world.now + seconds
        for worker in host.workers:
            self._put_to_sleep(worker, seconds)
        self.world.at(host.back_at, None, self._wake_host, host)

    def _put_to_sleep(self, worker: Any, seconds: float) -> None:
        self.counts["stopped for hours"] += 1
        self.world.tell(worker.process.name, f"is stopped for {seconds:.0f} s")
        worker.process.stop()
        self.asleep[worker] = self.world.now + seconds

    def _wake_host(self, host: Host) -> None:
        self.world.tell(host.name, "goes on")
        host.up, host.suspended = True, False
        for worker in list(host.workers):
            self._wake(worker)
        if not host.workers:
            self.spawn(host)

    def _wake(self, worker: Any) -> None:
        if worker.host.suspended:
            return  # it goes on with its host
        self.asleep.pop(worker, None)
        if worker.process.alive and worker.process.stopped:
            self.counts["wake-ups"] += 1
            self.world.tell(worker.process.name, "goes on")
            worker.process.go_on()
            self.site.hand_out()

    def terminate(self) -> None:
        worker = self._worker()
        if worker is not None and not worker.stopping:
            self.counts["graceful stops"] += 1
            self.world.tell(worker.process.name, "is asked to stop")
            worker.terminate()

    def power_cut(self) -> None:
        host = self.world.rng.choice(self.site.hosts)
        if not host.up:
            return
        self.counts["power cuts"] += 1
        self.world.tell(host.name, "loses its power")
        self.facts.power_cuts.setdefault(host.name, []).append(self.world.now)
        host.power_off()
        host.lose_pages()
        self._boot_later(host)

    def kill_host(self) -> None:
        """All workers of a host at once, as a container's end does; or for so long that the host counts as away."""
        host = self.world.rng.choice(self.site.hosts)
        if host.up:
            self.world.tell(host.name, "goes down")
            host.power_off()
            host.same_boot = True
            self._boot_later(host)

    def _boot_later(self, host: Host) -> None:
        seconds = self.world.rng.choice((2.0, 30.0, 5000.0))
        host.back_at = self.world.now + seconds * self.world.rng.uniform(0.5, 1.5)
        self.world.at(host.back_at, None, self.boot, host)

    def boot(self, host: Host) -> None:
        if host.up:
            return
        self.world.tell(host.name, "is back")
        if host.same_boot:
            host.up = True
        else:
            host.start()
        host.same_boot = False
        self.spawn(host)

    def fill_disk(self) -> None:
        host = self.world.rng.choice(self.site.hosts)
        host.disk_full = True
        self.world.tell(host.name, "has a full disk")
        self.world.later(self.world.rng.uniform(0.5, 20), None, setattr, host, "disk_full", False)

    # What they share

    def _for_a_while(self, what: str, part: Any, name: str, longest: float) -> None:
        self.world.tell("site", what)
        self.counts[what] += 1
        setattr(part, name, True)
        self.world.later(self.world.rng.uniform(0.2, longest), None, setattr, part, name, False)

    def database_away(self) -> None:
        self._for_a_while("database away", self.site, "database_away", 30)

    def pace_away(self) -> None:
        self._for_a_while("pace away", self.site.pace, "away", 10)

    def relay_away(self) -> None:
        self.relay.away = True
        self._for_a_while("relay away", self.relay, "away", 60)
        for link in self.network.links:
            link.break_off()

    def break_link(self) -> None:
        alive = [link for link in self.network.links if not link.closed and not link.cut]
        if alive:
            link = self.world.rng.choice(alive)
            self.world.tell("network", f"link {link.number} breaks")
            link.break_off()

    def slow_database(self) -> None:
        for host in self.site.hosts:
            for worker in host.workers:
                worker.slow_database = self.world.rng.choice((0.05, 0.4, 2.0))

    def forge_hints(self) -> None:
        numbers = [batch for (batch,) in self._run.rows(sa.select(tables.batches.c.id))]
        for _ in range(self.world.rng.choice((1, 5))):
            self.counts["hints forged"] += 1
            self.site.hints.append((SEND_BATCH, self.world.rng.choice([*numbers, *numbers, 4711])))
        self.site.hand_out()
