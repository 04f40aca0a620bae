"""One seed: a mailing or two, a few workers, everything that may go wrong for a while, then calm, and the oracle's word."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from pathlib import Path
from random import Random
from typing import Any

import sqlalchemy as sa

from service import faults
from service.domain.mailing import MailingState
from service.mail.letter import Timeouts
from service.queue import PLAN_MAILING, SEND_BATCH
from service.store import mailings, senders, tables
from tests.simulation import oracle, substitutes
from tests.simulation.accidents import Accidents
from tests.simulation.facts import Facts, Result
from tests.simulation.machines import STATIONERY, Host, Site
from tests.simulation.network import Network
from tests.simulation.people import Operator, Readers
from tests.simulation.relay import Relay
from tests.simulation.templates import Plan, Shelf
from tests.simulation.whims import Whims
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
# Open batches, but for those of a paused mailing: nothing happens to these by itself.
_GOING_ON = (
    sa.select(tables.batches.c.due_at, tables.batches.c.lease_until, tables.batches.c.rung_at)
    .join(tables.mailings, tables.mailings.c.id == tables.batches.c.mailing_id)
    .where(tables.batches.c.open, tables.mailings.c.state != MailingState.PAUSED.value)
)
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


def sleeper(seed: int) -> Random | None:
    """The die for those seeds in which a worker or a host sleeps for hours; one of its own, as is that of logins."""
    die = Random(f"sleep {seed}")
    return die if die.random() < 0.08 else None


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
        self.site = Site(world, database, self.network)
        self.facts = Facts()
        self.counts = self.site.counts
        self.finished = False
        self.accidents = Accidents(self)
        self.readers = Readers(self)
        self.operator = Operator(self)
        self.horizon = rng.choice((2.0, 5.0, 10.0, 40.0))
        self._choose_circumstances()
        for number in range(rng.choice((1, 1, 2))):
            Host(self.site, number + 1, folder)
        for _ in range(rng.choice((1, 1, 2, 2, 3))):
            self.accidents.spawn(rng.choice(self.site.hosts))
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
        befall, readers, operator = self.accidents, self.readers, self.operator
        happenings = [
            befall.stop_worker, befall.stop_worker, befall.terminate, befall.power_cut, befall.kill_host,
            befall.database_away, befall.pace_away, befall.relay_away, befall.break_link, befall.break_link,
            befall.forge_hints, readers.goodbye, readers.goodbye, readers.goodbye, readers.change_chain, operator.pause,
            operator.pause, operator.cancel, operator.retry, operator.change_rate, befall.fill_disk,
            befall.slow_database,
        ]  # fmt: skip
        for _ in range(rng.choice((0, 1, 2, 4, 8))):
            # Most letters are under way in the first moments.
            soon = rng.choice((0.1, 0.6, 3.0, self.horizon))
            self.world.later(rng.random() * min(soon, self.horizon), None, rng.choice(happenings))
        for _ in range(rng.choice((0, 1, 1, 2))):
            self.world.later(rng.random() * self.horizon, None, self._sweep_by_chance)
        sleep = sleeper(self.world.seed)
        if sleep is not None:
            deed = sleep.choice((befall.stop_for_hours, befall.suspend_host))
            self.world.later(sleep.random() * min(3.0, self.horizon), None, deed, 3600 * sleep.uniform(1.1, 4))
        operator.choose(self.horizon)
        self.world.later(self.horizon, None, self._become_calm)
        if self.planned:
            for (batch,) in self.rows(sa.select(tables.batches.c.id)):
                self.site.ring(SEND_BATCH, batch)
        else:
            self.site.ring(PLAN_MAILING, self.template.mailing)

    # The end

    def _become_calm(self) -> None:
        """Nothing goes wrong any more: from here on each mailing must come to its end."""
        self.accidents.calm = True
        self.world.tell("site", "calm")
        site, whims = self.site, self.relay.whims
        whims.trouble = whims.at_dot = whims.refusal = whims.full_buffer = whims.policy_storm = 0.0
        whims.login = 0.0
        site.hint_loss = site.hint_copies = site.database_trouble = 0.0
        site.database_away = site.pace.away = self.relay.away = False
        for host in site.hosts:
            host.disk_full = False
            for worker in list(host.workers):
                worker.process.dies_at = worker.dies_at_point = worker.stops_at_point = None
                worker.slow_database = 0.002
        # Who is stopped wakes up when its time has come: another may have gone on with its batch by then.
        if not any(not worker.process.stopped for host in site.hosts for worker in host.workers):
            host = next((host for host in site.hosts if not host.suspended), None)
            if host is not None:
                self.accidents.boot(host)
                self.accidents.spawn(host)
        self.operator.calm()
        self._sweep_on()

    def _sweep_by_chance(self) -> None:
        up = [host for host in self.site.hosts if host.up]
        if not up or self.accidents.calm:
            return
        rng = self.world.rng
        dies_at = rng.randrange(1, 30) if rng.random() < self.accidents.crashing / 2 else None
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
        if awake and self.accidents.asleep:
            workers = [worker for worker in workers if worker not in self.accidents.asleep]
            if not workers:
                return False
        return bool(self.site.hints) or any(worker.job for worker in workers)

    def _at_rest(self) -> bool:
        states = self.rows(sa.select(tables.mailings.c.state))
        if (
            self._busy()
            or self.operator.deeds_to_come
            or any(state in {MailingState.PLANNING, MailingState.SENDING} for (state,) in states)
        ):
            return False
        if not all(host.up for host in self.site.hosts):
            return False
        attempting = self.rows(sa.select(sa.func.sum(tables.batches.c.attempting)))[0][0]
        return not attempting and not self.rows(_GOING_ON)

    def _next_sweep(self) -> float:
        """The next tick; where nobody does anything, the first at which anything can be due."""
        tick = self.world.now + 15
        if self._busy(awake=True):
            return tick
        lines = tables.senders.c
        now = int(substitutes.now.seconds() * 1000)
        instants = [host.back_at for host in self.site.hosts if not host.up]
        found = self.rows(_GOING_ON)
        waits = [max(due, leased, rung + 60_000 if rung else 0) for due, leased, rung in found]
        left = self.rows(sa.select(lines.started_at, lines.seen_at).where(lines.settled_at.is_(None)))
        waits += [instant for begun, seen in left for instant in (begun + 600_000, seen + 3_600_000) if instant > now]
        instants += [STARTED + wait / 1000 - substitutes.MORNING.timestamp() for wait in waits]
        if self.accidents.asleep:
            # What was due before and nobody took up is the sleeper's. Often enough that no host that sweeps is away.
            instants = [instant for instant in instants if instant > self.world.now]
            instants += [min(until, self.world.now + 1500) for until in self.accidents.asleep.values()]
        return max(tick, min(instants, default=0.0) + 0.01)

    # Looking

    def rows(self, statement: Any) -> list[Any]:
        with self.site.database.read() as session:
            return list(session.execute(statement))

    def state(self, mailing: int) -> MailingState:
        with self.site.database.read() as session:
            return mailings.get(session, mailing).state


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
        for process in run.accidents.processes:
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
