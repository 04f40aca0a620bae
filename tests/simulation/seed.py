"""One seed: a mailing, a few workers, everything that may go wrong for a while, then calm, and the oracle's word."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import sqlalchemy as sa

from service import faults
from service.audience import departures as leaving
from service.delivery import control
from service.delivery.correcting import Proofreader
from service.domain.chains import Chain
from service.domain.errors import ConflictError
from service.domain.mailing import MailingState
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.mail.letter import Timeouts
from service.queue import PLAN_MAILING, SEND_BATCH
from service.store import mailings, senders, subscribers, suppressions, tables
from tests.simulation import oracle, substitutes
from tests.simulation.machines import STATIONERY, Host, Site
from tests.simulation.network import Network
from tests.simulation.relay import Relay, Whims
from tests.simulation.templates import OTHER_CHAIN, Plan, Shelf, TinyPress
from tests.simulation.world import STARTED, World

# Deferrals are given up after two days, a host after an hour; a sound run ends long before.
LONGEST = STARTED + 4 * 86400
TURNS = 400_000
SHORT = Timeouts(connect=1, greeting=2, command=2, setup=4, mail=2, rcpt=2, data=2, body=2, dot=5, idle=5, quit=0.5)
PLANS = [
    Plan(readers, chains, batch_limit)
    for readers, chains, batch_limit in (
        (3, 1, 1000), (4, 2, 2), (5, 1, 2), (6, 3, 1000), (6, 2, 3), (8, 1, 4), (9, 3, 2), (12, 2, 5), (30, 3, 9),
    )
]  # fmt: skip
_WEEK = Week.parse("2019-W23")
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


def sleeper(seed: int) -> Random | None:
    """The die for those seeds in which a worker or a host sleeps for hours; one of its own, as is that of logins."""
    die = Random(f"sleep {seed}")
    return die if die.random() < 0.08 else None


@dataclass
class Result:
    """What became of one seed."""

    seed: int
    violations: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    story: list[tuple[float, str, str]] = field(default_factory=list)


@dataclass
class Facts:
    """What the simulated people did, for the oracle."""

    gone: dict[bytes, float] = field(default_factory=dict)  # when each reader's departure was committed
    shut: list[tuple[float, float]] = field(default_factory=list)  # when the mailing was paused or cancelled, and until
    power_cuts: dict[str, list[float]] = field(default_factory=dict)  # by host


class Run:
    """Everything of one seed."""

    def __init__(self, seed: int, shelf: Shelf, folder: Path) -> None:
        self.world = world = World(seed)
        rng = world.rng
        self.shelf = shelf
        sizes = [8, 8, 8, 5, 8, 6, 4, 4, 1]
        self.plan = rng.choices(PLANS, sizes)[0]
        self.planned = rng.random() < 0.85
        self.template = shelf.template(self.plan, planned=self.planned)
        database = shelf.lay_out(self.template)
        self.relay = Relay(world, STATIONERY.delivery_ids.read_envelope)
        self.network = Network(world, self.relay)
        timeouts = Timeouts() if rng.random() < 0.01 else SHORT
        substitutes.begin(world, self.network, timeouts)
        self.site = Site(world, database, self.network, self.template.mailing)
        self.facts = Facts()
        self.counts = self.site.counts
        self.processes: list[Any] = []
        self.calm = False
        self.finished = False
        self.asleep: dict[Any, float] = {}  # workers that are stopped for hours, and until when
        self.crashing = rng.choice((0.0, 0.3, 0.6, 0.9))
        self.horizon = rng.choice((2.0, 5.0, 10.0, 40.0))
        self._choose_circumstances()
        for number in range(rng.choice((1, 1, 2))):
            Host(self.site, number + 1, folder)
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            self._spawn(rng.choice(self.site.hosts))
        self._choose_events()
        faults.arm(self.site.point)

    # What the seed chooses

    def _choose_circumstances(self) -> None:
        rng, site = self.world.rng, self.site
        self.relay.whims = Whims(
            trouble=rng.choice((0.0, 0.0, 0.02, 0.08, 0.25)),
            at_dot=rng.choice((0.0, 0.05, 0.2)),
            refusal=rng.choice((0.0, 0.0, 0.1, 0.4)),
            full_buffer=rng.choice((0.0, 0.0, 0.0, 0.1)),
            travel=rng.choice((0.0005, 0.01, 0.15)),
            patience=rng.choice((0.5, 2.0, 6.0)),
            extensions=rng.choice(
                (
                    (b"PIPELINING", b"8BITMIME"),
                    (b"PIPELINING", b"8BITMIME", b"SIZE 10000000"),
                    (b"PIPELINING", b"CHUNKING", b"8BITMIME"),
                    (b"PIPELINING", b"CHUNKING"),
                    (b"CHUNKING",),
                    (b"HELP",),
                )
            ),
            policy_storm=rng.choice((0.0,) * 9 + (0.7,)),
        )
        # By a die of its own, so that the stories of most seeds are what they were.
        self.relay.whims.login = Random(f"login {self.world.seed}").choice((0.0,) * 7 + (0.03, 0.2, 0.9))
        site.window = rng.choice((4, 4, 0))
        site.relays = rng.choice((("relay1.test",),) * 3 + (("relay1.test", "relay2.test"),))
        site.weight = rng.choice((None, 1))
        site.connections = rng.choice((1, 2, 3))
        site.lease_seconds = rng.choice((5.0, 20.0, 60.0))
        site.rate = rng.choice((0.0, 0.0, 0.0, 3.0, 50.0))
        site.hint_loss = rng.choice((0.0, 0.2, 0.7))
        site.hint_copies = rng.choice((0.0, 0.3))
        site.database_trouble = rng.choice((0.0, 0.0, 0.0, 0.03, 0.15))

    def _choose_events(self) -> None:
        rng = self.world.rng
        happenings = [
            self._stop_worker, self._stop_worker, self._terminate, self._power_cut, self._kill_host, self._database_away,
            self._pace_away, self._relay_away, self._break_link, self._break_link, self._forge_hints, self._goodbye,
            self._goodbye, self._goodbye, self._change_chain, self._pause, self._pause, self._cancel, self._retry,
            self._change_rate, self._fill_disk, self._slow_database,
        ]  # fmt: skip
        for _ in range(rng.choice((0, 1, 2, 4, 8))):
            # Most letters are under way in the first moments.
            soon = rng.choice((0.1, 0.6, 3.0, self.horizon))
            self.world.later(rng.random() * min(soon, self.horizon), None, rng.choice(happenings))
        for _ in range(rng.choice((0, 1, 1, 2))):
            self.world.later(rng.random() * self.horizon, None, self._sweep_by_chance)
        sleep = sleeper(self.world.seed)
        if sleep is not None:
            deed = sleep.choice((self._stop_for_hours, self._suspend_host))
            self.world.later(sleep.random() * min(3.0, self.horizon), None, deed, 3600 * sleep.uniform(1.1, 4))
        self.world.later(self.horizon, None, self._become_calm)
        if self.planned:
            for (batch,) in self._rows(sa.select(tables.batches.c.id)):
                self.site.ring(SEND_BATCH, batch)
        else:
            self.site.ring(PLAN_MAILING, self.template.mailing)

    # Processes and hosts

    def _spawn(self, host: Host) -> None:
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
        process.on_death.append(lambda: self._died(worker))
        self.processes.append(process)
        self.site.hand_out()

    def _died(self, worker: Any) -> None:
        if not worker.stopping:
            self.counts["crashes"] += 1
        self.world.later(self.world.rng.uniform(0.05, 3.0), None, self._spawn, worker.host)

    def _worker(self) -> Any:
        workers = [worker for host in self.site.hosts for worker in host.workers]
        busy = [worker for worker in workers if worker.job]
        return self.world.rng.choice(busy or workers) if workers else None

    def _stop_worker(self) -> None:
        worker = self._worker()
        if worker is None or worker.process.stopped:
            return
        long = self.site.lease_seconds * 1.5
        seconds = self.world.rng.choice((0.3, 2.0, long, long)) * self.world.rng.uniform(0.5, 1.5)
        self.world.tell(worker.process.name, f"is stopped for {seconds:.1f} s")
        worker.process.stop()
        self.world.later(seconds, None, self._wake, worker)

    def _stop_for_hours(self, seconds: float) -> None:
        """Far beyond its lease, and beyond the hour after which a host counts as away; the host itself goes on."""
        worker = self._worker()
        if worker is not None and not worker.process.stopped:
            self._put_to_sleep(worker, seconds)
            self.world.later(seconds, None, self._wake, worker)

    def _suspend_host(self, seconds: float) -> None:
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
            self._spawn(host)

    def _wake(self, worker: Any) -> None:
        if worker.host.suspended:
            return  # it goes on with its host
        self.asleep.pop(worker, None)
        if worker.process.alive and worker.process.stopped:
            self.counts["wake-ups"] += 1
            self.world.tell(worker.process.name, "goes on")
            worker.process.go_on()
            self.site.hand_out()

    def _terminate(self) -> None:
        worker = self._worker()
        if worker is not None and not worker.stopping:
            self.counts["graceful stops"] += 1
            self.world.tell(worker.process.name, "is asked to stop")
            worker.terminate()

    def _power_cut(self) -> None:
        host = self.world.rng.choice(self.site.hosts)
        if not host.up:
            return
        self.counts["power cuts"] += 1
        self.world.tell(host.name, "loses its power")
        self.facts.power_cuts.setdefault(host.name, []).append(self.world.now)
        host.power_off()
        host.lose_pages()
        self._boot_later(host)

    def _kill_host(self) -> None:
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
        self.world.at(host.back_at, None, self._boot, host)

    def _boot(self, host: Host) -> None:
        if host.up:
            return
        self.world.tell(host.name, "is back")
        if host.same_boot:
            host.up = True
        else:
            host.start()
        host.same_boot = False
        self._spawn(host)

    def _fill_disk(self) -> None:
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

    def _database_away(self) -> None:
        self._for_a_while("database away", self.site, "database_away", 30)

    def _pace_away(self) -> None:
        self._for_a_while("pace away", self.site.pace, "away", 10)

    def _relay_away(self) -> None:
        self.relay.away = True
        self._for_a_while("relay away", self.relay, "away", 60)
        for link in self.network.links:
            link.break_off()

    def _break_link(self) -> None:
        alive = [link for link in self.network.links if not link.closed and not link.cut]
        if alive:
            link = self.world.rng.choice(alive)
            self.world.tell("network", f"link {link.number} breaks")
            link.break_off()

    def _slow_database(self) -> None:
        for host in self.site.hosts:
            for worker in host.workers:
                worker.slow_database = self.world.rng.choice((0.05, 0.4, 2.0))

    def _forge_hints(self) -> None:
        numbers = [batch for (batch,) in self._rows(sa.select(tables.batches.c.id))]
        for _ in range(self.world.rng.choice((1, 5))):
            self.counts["hints forged"] += 1
            self.site.hints.append((SEND_BATCH, self.world.rng.choice([*numbers, *numbers, 4711])))
        self.site.hand_out()

    # People

    def _goodbye(self) -> None:
        rng = self.world.rng
        with self.site.database.begin() as session:
            address = rng.choice(self.template.addresses)
            reader = subscribers.find(session, address)
            if reader is None or reader.id in self.facts.gone:
                return
            how = rng.choice(("leaves", "is erased", "is suppressed"))
            if how == "leaves":
                assert leaving.leave(session, reader, _WEEK) or reader.status is not SubscriberStatus.ACTIVE
            elif how == "is erased":
                suppressions.add(session, reader.address_hash, SuppressionReason.ERASED, _WEEK)
                subscribers.erase(session, reader.id, week=_WEEK)
            else:
                suppressions.add(session, reader.address_hash, SuppressionReason.COMPLAINED, _WEEK)
        self.facts.gone[reader.id] = self.world.now
        self.counts["goodbyes"] += 1
        self.world.tell("reader", f"{address.partition('@')[0]} {how}")

    def _change_chain(self) -> None:
        with self.site.database.begin() as session:
            reader = subscribers.find(session, self.world.rng.choice(self.template.addresses))
            if reader is not None:
                chain = self.world.rng.choice(("en", "ru,en", OTHER_CHAIN, "be"))
                subscribers.set_chain(session, reader.id, Chain(tuple(chain.split(","))), week=_WEEK)
                self.world.tell("reader", f"now reads {chain}")

    def _control(self, verb: str, *arguments: Any, **more: Any) -> bool:
        try:
            with self.site.database.begin() as session:
                getattr(control, verb)(
                    session, self.template.mailing, *arguments, actor="test", now=substitutes.now.wall(), **more
                )
        except ConflictError:
            return False
        self.world.tell("operator", verb)
        return True

    def _pause(self) -> None:
        if self._control("pause"):
            self.facts.shut.append((self.world.now, float("inf")))
            self.world.later(self.world.rng.choice((0.1, 3.0, 100.0)), None, self._resume)

    def _resume(self) -> None:
        proofs = Proofreader(TinyPress(), lambda *_: [])
        if self._control("resume", self.site, proofs=proofs):
            self._open_again()

    def _cancel(self) -> None:
        if self.world.rng.random() < 0.5 and self._control("cancel"):
            self.facts.shut.append((self.world.now, float("inf")))

    def _retry(self) -> None:
        proofs = Proofreader(TinyPress(), lambda *_: [])
        if self._control("retry", self.site, lambda *_: [], proofs=proofs) and (
            self._state() in {MailingState.SENDING, MailingState.PLANNING}
        ):
            self._open_again()

    def _open_again(self) -> None:
        self.facts.shut = [(since, min(until, self.world.now)) for since, until in self.facts.shut]

    def _change_rate(self) -> None:
        self._control("set_rate", self.world.rng.choice((0.0, 1.5, 20.0)))

    # The end

    def _become_calm(self) -> None:
        """Nothing goes wrong any more: from here on the mailing must come to its end."""
        self.calm = True
        self.world.tell("site", "calm")
        site, whims = self.site, self.relay.whims
        whims.trouble = whims.at_dot = whims.refusal = whims.full_buffer = whims.policy_storm = 0.0
        whims.login = 0.0
        site.hint_loss = site.hint_copies = site.database_trouble = 0.0
        site.database_away = site.pace.away = self.relay.away = False
        for host in site.hosts:
            host.disk_full = False
            for worker in list(host.workers):
                worker.process.dies_at = worker.dies_at_point = None
                worker.slow_database = 0.002
        # Who is stopped wakes up when its time has come: another may have gone on with its batch by then.
        if not any(not worker.process.stopped for host in site.hosts for worker in host.workers):
            host = next((host for host in site.hosts if not host.suspended), None)
            if host is not None:
                self._boot(host)
                self._spawn(host)
        if self._state() is MailingState.PAUSED and self.world.rng.random() < 0.9:
            self._resume()
        self._sweep_on()

    def _sweep_by_chance(self) -> None:
        up = [host for host in self.site.hosts if host.up]
        if not up or self.calm:
            return
        rng = self.world.rng
        dies_at = rng.randrange(1, 30) if rng.random() < self.crashing / 2 else None
        self.counts["sweeps"] += 1
        rng.choice(up).sweep(dies_at=dies_at)

    def _sweep_on(self) -> None:
        for host in self.site.hosts:
            if host.up:
                self.counts["sweeps"] += 1
                host.sweep()
        if self._at_rest():
            self.finished = True
            return
        self.world.at(self._next_sweep(), None, self._sweep_on)

    def _busy(self, *, awake: bool = False) -> bool:
        """Whether anybody has something to do; with `awake`, whether anybody does who does not sleep for hours."""
        workers = [worker for host in self.site.hosts for worker in host.workers]
        if awake and self.asleep:
            workers = [worker for worker in workers if worker not in self.asleep]
            if not workers:
                return False
        return bool(self.site.hints) or any(worker.job for worker in workers)

    def _at_rest(self) -> bool:
        if self._busy() or self._state() in {MailingState.PLANNING, MailingState.SENDING}:
            return False
        if not all(host.up for host in self.site.hosts):
            return False
        batches = tables.batches.c
        attempting = self._rows(sa.select(sa.func.sum(batches.attempting)))[0][0]
        opened = self._rows(sa.select(sa.func.count()).select_from(tables.batches).where(batches.open))[0][0]
        return not attempting and (not opened or self._state() is MailingState.PAUSED)

    def _next_sweep(self) -> float:
        """The next tick; where nobody does anything, the first at which anything can be due."""
        tick = self.world.now + 15
        if self._busy(awake=True):
            return tick
        batches, lines = tables.batches.c, tables.senders.c
        now = int(substitutes.now.seconds() * 1000)
        instants = [host.back_at for host in self.site.hosts if not host.up]
        found = self._rows(sa.select(batches.due_at, batches.lease_until, batches.rung_at).where(batches.open))
        waits = [max(due, leased, rung + 60_000 if rung else 0) for due, leased, rung in found]
        left = self._rows(sa.select(lines.started_at, lines.seen_at).where(lines.settled_at.is_(None)))
        waits += [instant for begun, seen in left for instant in (begun + 600_000, seen + 3_600_000) if instant > now]
        instants += [STARTED + wait / 1000 - substitutes.MORNING.timestamp() for wait in waits]
        if self.asleep:
            # What was due before and nobody took up is the sleeper's. Often enough that no host that sweeps is away.
            instants = [instant for instant in instants if instant > self.world.now]
            instants += [min(until, self.world.now + 1500) for until in self.asleep.values()]
        return max(tick, min(instants, default=0.0) + 0.01)

    # Looking

    def _rows(self, statement: Any) -> list[Any]:
        with self.site.database.read() as session:
            return list(session.execute(statement))

    def _state(self) -> MailingState:
        with self.site.database.read() as session:
            return mailings.get(session, self.template.mailing).state


def simulate(seed: int, shelf: Shelf) -> Result:
    """Run one seed from its beginning to the oracle's word."""
    folder = Path(tempfile.mkdtemp(prefix="tydzen-", dir=_FOLDER))
    result = Result(seed)
    try:
        run = Run(seed, shelf, folder)
        try:
            run.world.run(until=LONGEST, turns=TURNS, done=lambda: run.finished)
        except Exception as error:
            result.violations.append(f"progress: {type(error).__name__}: {error}")
            run.world.tell("simulation", traceback.format_exc())
        result.violations += oracle.judge(run)
        result.counts = run.counts
        result.story = run.world.story
        for process in run.processes:
            process.bury()
    finally:
        faults.arm(None)
        substitutes.locks.clear()
        shutil.rmtree(folder, ignore_errors=True)
    return result


def senders_left(run: Run) -> int:
    """Processes whose letters nobody has accounted for."""
    with run.site.database.read() as session:
        return sum(len(senders.unsettled(session, path.name)) for path in run.site.hosts)
