"""The kill matrix: real worker processes die at each named point, while the relay answers in each of six ways.

python -m tests.chaos.matrix                       all of it, a Markdown table at the end
python -m tests.chaos.matrix --points after-write,mid-body --classes accept,hang --seeds 1
python -m tests.chaos.matrix --actions term        SIGTERM at every point

A cell is a mailing of its own to new readers. A third of them meet what the class says; the order is the seed's. What
the sink wrote down before each reply is held against the database, and each uncertain letter must be explained: it
was past its dot, by the journal of a process that was killed, or on a session that the sink itself broke after the dot,
of which each explains one, or with CHUNKING a window. Who is stopped, or told to end, explains none: it hears its replies
out.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import sqlalchemy as sa

from service import faults
from service.delivery import notices as notice_rules
from service.domain.delivery import DeliveryState
from service.store import DatabaseAwayError, tables
from service.store.engine_tables import breakers
from tests.chaos import arming
from tests.chaos.arming import Order, give_orders
from tests.factories import OPERATORS, add_readers
from tests.installation import _SIGNER, Installation, installed, mailing_state, miscounted, unanswered
from tests.smtp_sink import Entry, Rule, broken_file

CLASSES = ("accept", "4xx", "5xx", "drop-before", "drop-after", "hang")
READERS = 40
ACTIONS = ("kill", "stop", "term")
CONNECTIONS = 2  # of each process
SLOW_DATA = 1.3  # seconds; longer than a gate is good for
TIMEOUT = 2.5  # seconds that the armed workers wait for a reply
# Seconds that a stopped process stands still, which is longer than its lease; and then goes on before it is judged.
_STOPPED, _AWAKE = 6, 2
WINDOW = 4  # letters that may be past their dot at once on one session, by BDAT

# What the readers of a class meet, by a word in their address.
FATES: dict[str, tuple[str, ...]] = {
    "accept": ("fine",),
    "4xx": ("rcpt451", "dot451", "dot421"),
    "5xx": ("rcpt550", "dot550", "dot552"),
    "drop-before": ("rcptdrop", "rcptreset", "datadrop"),
    "drop-after": ("dotdroptook", "dotdropleft", "dotresettook", "bodydrop"),
    "hang": ("rcpthang", "dothangtook", "dothangleft"),
}
RULES = [
    Rule("RCPT", "451 4.3.0 later", recipient="rcpt451", once_each=True),
    Rule("DOT", "451 4.3.0 later", recipient="dot451", once_each=True),
    Rule("DOT", "421 4.3.2 going down", recipient="dot421", once_each=True, then="drop"),
    Rule("RCPT", "550 5.1.1 no such user", recipient="rcpt550"),
    Rule("DOT", "550 5.1.1 no such user", recipient="dot550"),
    Rule("DOT", "552 5.2.2 mailbox full", recipient="dot552", once_each=True),
    Rule("RCPT", recipient="rcptdrop", once_each=True, then="drop"),
    Rule("RCPT", recipient="rcptreset", once_each=True, then="reset"),
    Rule("DATA", recipient="datadrop", once_each=True, then="drop"),
    # Body and dot are one write: the kernel has the dot when the relay leaves at the body's first octets.
    Rule("BODY", recipient="bodydrop", then="drop"),
    Rule("DOT", recipient="dotdroptook", then="drop", take=True),
    Rule("DOT", recipient="dotdropleft", then="drop", take=False),
    Rule("DOT", recipient="dotresettook", then="reset", take=True),
    Rule("RCPT", recipient="rcpthang", once_each=True, then="hang"),
    Rule("DOT", recipient="dothangtook", then="hang", take=True),
    Rule("DOT", recipient="dothangleft", then="hang", take=False),
    Rule("DATA", recipient="slow", delay=SLOW_DATA, once_each=True),
    Rule("DOT", delay=0.015),
]
# Fates that may leave a letter uncertain whoever dies.
_BROKEN_AFTER_DOT = ("dotdrop", "dotreset", "dothang", "bodydrop")


@dataclass(frozen=True)
class Ground:
    """What a cell runs on: the database, and how the relay is spoken to."""

    name: str
    database: str
    hide: frozenset[str]


GROUNDS = (
    Ground("postgresql, pipelining", "postgresql", frozenset({"CHUNKING"})),
    Ground("postgresql, chunking", "postgresql", frozenset()),
    Ground("sqlite, lockstep", "sqlite", frozenset({"CHUNKING", "PIPELINING"})),
)

# No mailing passes those of a database that was set back: see `test_restoring`.
POINTS = tuple(
    point for point in sorted(faults.POINTS | faults.PER_LETTER.keys()) if not point.startswith("reconcile-")
)
# Passed once in a mailing, or nearly: to wait for a later time there would be to wait in vain.
_ONCE = ("plan-", "line-", "settle-", "notice-", "sweep-", "gate-again", "mid-body")
# Where a process holds no lock of the database, so that others go on while it is stopped.
STOPPABLE = (
    "after-claim",
    "after-tokens",
    "after-gate",
    "after-dot-record",
    "after-write",
    "reply-read",
    "after-record",
)


@dataclass(frozen=True)
class Cell:
    """One point, one class of replies, one seed, one deed."""

    number: int
    point: str
    reply: str
    seed: int
    action: str = "kill"
    patient: bool = False  # fires the first time: a second go at what a first did not reach

    @property
    def chance(self) -> random.Random:
        return random.Random(f"{self.point} {self.reply} {self.seed}")

    def orders(self) -> list[Order]:
        """The deed itself, after what must have happened before it can."""
        skip = 0
        if not (self.patient or self.point.startswith(_ONCE)):
            skip = self.chance.randrange(6 if self.point in faults.PER_LETTER else 2)
        made = [Order(f"{self.number}", self.point, self.action, skip)]
        if self.point.startswith("settle-"):
            # There must be a dead worker before there is a journal to settle.
            made.append(Order(f"{self.number}-before", "after-write", "kill", 2))
        elif self.point in {"sweep-begun", "sweep-locked", "sweep-part-commit", "sweep-part-done"}:
            pass
        elif self.seed % 2 and not self.point.startswith(_ONCE):
            # Another process, or the next one, dies as well.
            made.append(Order(f"{self.number}-again", self.point, self.action, skip))
        return made


@dataclass
class Result:
    """What came out of a cell."""

    cell: Cell
    kills: int = 0
    planned: int = 0
    lost: int = 0
    twice: int = 0
    uncertain: int = 0
    unexplained: int = 0
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def bad(self) -> bool:
        return bool(self.lost or self.twice or self.unexplained or self.wrong)

    def line(self) -> str:
        cell = self.cell
        words = (
            f"{cell.point} × {cell.reply} #{cell.seed} {cell.action}: {self.kills} kills, {self.lost} lost, "
            f"{self.twice} twice, {self.uncertain} uncertain, {self.unexplained} unexplained, {self.seconds:.1f} s"
        )
        return words + "".join(f"\n    {wrong}" for wrong in self.wrong)


class Arena:
    """An installation with armed workers, on which one cell after another is run."""

    def __init__(self, made: Installation, ground: Ground, orders: Path) -> None:
        self.made = made
        self.ground = ground
        self._orders = orders
        self._ledger_at = 0
        self._entries: list[Entry] = []
        self._weeks = iter(_weeks())
        self._sweeper: subprocess.Popen | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path, database_url: str, ground: Ground, *, concurrency: int = 3) -> Iterator[Arena]:
        """A new one in `folder`, with a worker and a sweep under way."""
        orders = folder / "orders"
        orders.mkdir(parents=True)
        with installed(
            folder / "run",
            database_url,
            connections=CONNECTIONS,
            hide=ground.hide,
            batch_size=8,
            lease_seconds=5,
            **cls._settings(folder, ground),
        ) as made:
            made.environment |= {
                "CHAOS_ORDERS": str(orders),
                "CHAOS_TIMEOUT": str(TIMEOUT),
                "CHAOS_SLICES": "2",
                # Who sends two batches has worn a journal out, so that lines end in every mailing.
                "CHAOS_WEAR": "24",
                **cls.environment,
            }
            made.fill(0)
            arena = cls(made, ground, orders)
            arena.concurrency = concurrency
            arena._keep_alive()
            yield arena

    concurrency = 3
    result_class = Result
    environment: ClassVar[dict[str, str]] = {}  # further variables of its processes

    @staticmethod
    def _settings(folder: Path, ground: Ground) -> dict[str, Any]:
        """What else its installation is made with."""
        return {"rules": RULES, "own_process": True}

    def entries(self) -> list[Entry]:
        """The ledger, of which only what is new is read."""
        with self.made.sink.ledger.open("rb") as file:
            file.seek(self._ledger_at)
            whole = file.read().rpartition(b"\n")[0]
        if whole:
            self._ledger_at += len(whole) + 1
            self._entries += [Entry(**json.loads(line)) for line in whole.splitlines()]
        return self._entries

    def breaks(self, cell: Cell) -> list[dict[str, Any]]:
        """What the sink wrote down of each session that it broke on a reader of that cell."""
        path = broken_file(self.made.sink.ledger)
        lines = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
        return [line for line in lines if line["recipient"].startswith(f"c{cell.number}x")]

    def run(self, cell: Cell) -> Result:
        """Send a mailing in which that happens, and judge it."""
        result = self.result_class(cell)
        started = time.monotonic()
        if cell.patient and cell.point in {"line-registered", "line-opened"} and self.made.workers[-1].alive:
            # Where every process has a line already, none begins one.
            self.made.workers[-1].end(60)
        self._keep_alive()
        chance = cell.chance
        names = [f"c{cell.number}x{n}-{fate}-" for n, fate in enumerate(_fates(cell, chance))]
        # A provider of its own: one that refused so many in other cells would be left alone for minutes.
        domain = f"cell{cell.number}.test"
        readers = [add_readers(self.made.database, 1, chains=("en",), prefix=name, domain=domain)[0] for name in names]
        with self.made.database.begin() as session:
            session.execute(breakers.delete())
        week = next(self._weeks)
        self.made.fill(0, week=week)
        orders = self._begin(cell)
        mailing = self.made.send(week, readers=readers)
        if cell.point.startswith("notice-"):
            self._enqueue_notices(cell)
        try:
            self._see_through(cell, orders, mailing)
        except AssertionError as error:
            result.wrong.append(f"it did not end: {error}"[:2000])
        give_orders(self._orders)
        self._judge(result, orders, mailing, cell)
        result.seconds = time.monotonic() - started
        return result

    def _begin(self, cell: Cell) -> list[Order]:
        """Have all ready for its mailing to be sent."""
        orders = cell.orders()
        give_orders(self._orders, *orders)
        return orders

    def _keep_alive(self) -> None:
        if not (self.made.workers and self.made.workers[-1].alive):
            self.made.start_worker(concurrency=self.concurrency, app="tests.chaos.worker")
        if self._sweeper is None or self._sweeper.poll() is not None:
            # Where it is the sweep that comes to the point, it is the sweep that is told to end.
            self._sweeper = self.made.start_module("tests.chaos.sweeper", "--every", "0.2")

    def _enqueue_notices(self, cell: Cell) -> None:
        with self.made.database.begin() as session:
            for number in range(3):
                notice_rules.enqueue(
                    session,
                    self.made._bell,
                    notice_rules.MAILING_TROUBLE,
                    once=f"chaos-{cell.number}-{number}",
                    address=f"n{cell.number}x{number}-{OPERATORS[0]}",
                    language="en",
                    parameters={"week": "2019-W22", "problem": "made up by the tests"},
                    now=dt.datetime.now(dt.UTC),
                )

    def _see_through(self, cell: Cell, orders: Sequence[Order], mailing: int) -> None:
        """Wait for the end, while each second passes for minutes, and wake who was stopped once its lease is over."""
        give_up = time.monotonic() + 120
        wake_at = float("inf")
        while True:
            time.sleep(0.05)
            deed = arming.done(self._orders, orders[0].id)
            if cell.action == "stop" and deed is not None:
                wake_at = min(wake_at, time.monotonic() + _STOPPED)
                if time.monotonic() > wake_at:
                    _wake(deed.pid)
            # It is awake for a while before it is judged, whether or not others have done all its work.
            asleep = cell.action == "stop" and deed is not None and time.monotonic() < wake_at + _AWAKE
            if cell.action == "term":
                # Before the deed, too: who was told to end in the cell before may only be ending now.
                self._keep_alive()
            self._hurry(mailing, planning=deed is not None or cell.point.startswith("settle-"))
            over = mailing_state(self.made, mailing) in {"sent", "cancelled"} and not self._open_notices(cell)
            if over and not asleep and (deed is not None or not self._may_come(cell)):
                return
            if over and time.monotonic() > give_up - 90:
                return
            assert time.monotonic() < give_up, f"{self.made.status(mailing).mailing.state.value} " + str(
                self.made.status(mailing).counts
            )

    def _may_come(self, cell: Cell) -> bool:
        """Whether the point may still be reached when all is sent: the sweep goes on, and lines end late."""
        return cell.point.startswith(("settle-", "sweep-"))

    def _open_notices(self, cell: Cell) -> bool:
        if not cell.point.startswith("notice-"):
            return False
        return any(row.state in _OPEN for row in self._notices(cell))

    def _notices(self, cell: Cell) -> list[sa.Row]:
        with self.made.database.read() as session:
            wanted = tables.notices.c.once.like(f"chaos-{cell.number}-%")
            return list(session.execute(sa.select(tables.notices).where(wanted)))

    def _hurry(self, mailing: int, *, planning: bool) -> None:
        batches, deliveries, notices, locks = tables.batches, tables.deliveries, tables.notices, tables.locks
        with contextlib.suppress(DatabaseAwayError), self.made.database.begin() as session:
            session.execute(
                batches.update()
                .where(batches.c.mailing_id == mailing, batches.c.open)
                .values(rung_at=0, due_at=0, not_before=0)
            )
            deferred = deliveries.c.state == int(DeliveryState.DEFERRED)
            session.execute(deliveries.update().where(deliveries.c.mailing_id == mailing, deferred).values(due_at=0))
            if planning:
                # The lock of a planner that died runs out, and a notice's lease.
                session.execute(locks.update().values(until=0))
                late = notices.c.state.in_(_OPEN)
                session.execute(notices.update().where(late).values(due_at=0, rung_at=0, lease_until=0))
            else:
                session.execute(locks.update().where(locks.c.name == "sweep").values(until=0))

    # Judging

    def _judge(self, result: Result, orders: Sequence[Order], mailing: int, cell: Cell) -> None:
        deeds = self._deeds(orders)
        result.kills = len(deeds)
        if orders and all(deed.id != orders[0].id for deed in deeds):
            result.wrong.append("the point was not reached")
        entries = [entry for entry in self.entries() if entry.recipient.startswith(f"c{cell.number}x")]
        named = [_SIGNER.read_envelope(entry.mail_from.partition("@")[0]) for entry in entries]
        copies = Counter(named)
        states = self.made.states(mailing)
        result.planned = len(states)
        accepted = {number for number, (state, _) in states.items() if state is DeliveryState.ACCEPTED}
        uncertain = {number for number, (state, _) in states.items() if state is DeliveryState.UNCERTAIN}
        result.twice = sum(1 for times in copies.values() if times > 1)
        unfinished = [number for number, (state, _) in states.items() if state in _OPEN]
        result.lost = (
            len(accepted - copies.keys())
            + len(copies.keys() - accepted - uncertain)
            + len(unfinished)
            + READERS
            - len(states)
        )
        result.uncertain = len(uncertain)
        result.unexplained = len(self._unexplained(uncertain, deeds, entries, named, cell))
        if any(set(self.made.status(mailing).editions) - {"en"}) or len(named) != sum(copies.values()):
            result.wrong.append("there are letters that nobody planned")
        wrong_batches = miscounted(self.made.database, mailing)
        if wrong_batches:
            result.wrong.append(f"batches {wrong_batches} do not count right")
        if cell.point.startswith("notice-"):
            self._judge_notices(result, deeds, cell)

    def _deeds(self, orders: Sequence[Order]) -> list[arming.Deed]:
        return [deed for order in orders if (deed := arming.done(self._orders, order.id)) is not None]

    def _judge_notices(self, result: Result, deeds: Iterable[arming.Deed], cell: Cell) -> None:
        taken = Counter(e.recipient for e in self.entries() if e.recipient.startswith(f"n{cell.number}x"))
        result.twice += sum(1 for times in taken.values() if times > 1)
        rows = self._notices(cell)
        accepted = sum(1 for row in rows if row.state == int(DeliveryState.ACCEPTED))
        uncertain = {-row.id for row in rows if row.state == int(DeliveryState.UNCERTAIN)}
        result.uncertain += len(uncertain)
        result.unexplained += len(uncertain - _past_dot(deeds))
        if accepted > len(taken) or accepted + len(uncertain) < 3:
            result.lost += 3 - accepted

    def _unexplained(
        self,
        uncertain: set[int],
        deeds: Iterable[arming.Deed],
        entries: Sequence[Entry],
        named: Sequence[int | None],
        cell: Cell,
    ) -> set[int]:
        """The uncertain ones that were not past their dot when their process was killed, nor on a broken session.

        All of the rest where they are more than the sessions that the sink broke can have left.
        """
        left = uncertain - _past_dot(deeds)
        if not left:
            return left
        broken = {line["session"] for line in self.breaks(cell)}
        taken = dict(zip(named, entries, strict=True))
        said = {number for number in left if number in taken and taken[number].session in broken}
        # Those that the sink did not take have no line in the ledger; their address says what was done to them.
        addresses = self._addresses(left - said)
        said |= {number for number in left - said if any(word in addresses[number] for word in _BROKEN_AFTER_DOT)}
        if "CHUNKING" not in self.ground.hide:
            # Up to a window of letters was behind the one on which the sink broke the session.
            said |= self._without_reply(left)
        return left - said if len(said) <= self._may_be_uncertain(cell) else left

    def _may_be_uncertain(self, cell: Cell) -> int:
        """How many letters of this cell the sessions that the sink broke can have left past their dot, at most."""
        window = 1 if "CHUNKING" in self.ground.hide else WINDOW
        return window * len({line["session"] for line in self.breaks(cell)})

    def _without_reply(self, numbers: set[int]) -> set[int]:
        """Those whose own process says that it has read no reply to their dot."""
        a = tables.attempts
        statement = sa.select(a.c.delivery_id).where(
            a.c.delivery_id.in_(numbers), a.c.reply.like("%after the final dot%")
        )
        with self.made.database.read() as session:
            return set(session.execute(statement).scalars())

    def _addresses(self, numbers: set[int]) -> dict[int, str]:
        d, s = tables.deliveries, tables.subscribers
        with self.made.database.read() as session:
            statement = sa.select(d.c.id, s.c.id.label("reader"), s.c.sealed).join(s, s.c.id == d.c.subscriber_id)
            rows = session.execute(statement.where(d.c.id.in_(numbers))).all()
            return {row.id: session.sealer.open(row.reader, row.sealed) for row in rows}


_OPEN = {int(DeliveryState.PENDING), int(DeliveryState.ATTEMPTING), int(DeliveryState.DEFERRED)}


def _fates(cell: Cell, chance: random.Random) -> list[str]:
    """What each reader's address says."""
    fates = list(FATES.get(cell.reply, ()) * (READERS // 8)) if cell.reply != "accept" else []
    if cell.reply in {"drop-after", "hang", "drop-before"}:
        # Each breaks a connection: with more of them there would hardly be one that works.
        fates = fates[:6]
    if cell.point == "gate-again":
        fates += ["slow"] * 2
    fates += ["fine"] * (READERS - len(fates))
    chance.shuffle(fates)
    return fates


def _past_dot(deeds: Iterable[arming.Deed]) -> set[int]:
    """The deliveries (notices below zero) whose dot was recorded and whose reply was not, by the killed ones' journals."""
    names = {name for deed in deeds if deed.action == "kill" for name in deed.journals}
    places = {Path(name).with_suffix(end) for name in names for end in (".journal", ".settled")}
    return set().union(*map(unanswered, places))


def _wake(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _weeks() -> Iterator[str]:
    for year in range(1950, 2100):
        for week in range(1, 53):
            yield f"{year}-W{week:02}"


def cells(points: Sequence[str], classes: Sequence[str], seeds: int, actions: Sequence[str] = ACTIONS) -> list[Cell]:
    """The cells of a matrix. A seed is also the ground it is run on; with one seed only, the grounds take turns."""
    made: list[tuple[str, str, int, str]] = []
    if "kill" in actions:
        made += [
            (point, reply, (seed + row + column) % max(seeds, len(GROUNDS)), "kill")
            for row, point in enumerate(points)
            for column, reply in enumerate(classes)
            for seed in range(seeds)
        ]
    if "stop" in actions:
        made += [(point, "accept", 0, "stop") for point in STOPPABLE if point in points]
    if "term" in actions:
        # The seed is a point's own, whichever of them are asked for.
        made += [(point, "accept", seed, "term") for seed, point in enumerate(POINTS) if point in points]
    return [Cell(number, *words) for number, words in enumerate(made, start=1)]


def reachable(cell: Cell, ground: Ground) -> bool:
    """Whether there is such a point on that ground: BDAT asks no gate again, and its bodies go whole."""
    return not (cell.point == "gate-again" and "CHUNKING" not in ground.hide)


def ground_of(cell: Cell) -> Ground:
    """Where a cell is run."""
    ground = GROUNDS[cell.seed % len(GROUNDS)]
    return ground if reachable(cell, ground) else GROUNDS[0]


def table(results: Sequence[Result]) -> str:
    """Markdown: kills / lost / twice / uncertain / unexplained, by point and class."""
    by_place: defaultdict[tuple[str, str], list[Result]] = defaultdict(list)
    for result in results:
        column = result.cell.reply if result.cell.action == "kill" else "SIG" + result.cell.action.upper()
        by_place[result.cell.point, column].append(result)
    columns = [name for name in (*CLASSES, "SIGSTOP", "SIGTERM") if any(place[1] == name for place in by_place)]
    lines = [
        "| point | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
    ]
    for point in sorted({place[0] for place in by_place}):
        found = [_sums(by_place.get((point, column), [])) for column in columns]
        lines.append(f"| {point} | " + " | ".join(found) + " |")
    lines.append(
        "| **all** | "
        + " | ".join(_sums([r for p, rs in by_place.items() if p[1] == c for r in rs]) for c in columns)
        + " |"
    )
    return "\n".join(lines)


def _sums(results: Sequence[Result]) -> str:
    if not results:
        return ""
    names = ("kills", "lost", "twice", "uncertain", "unexplained")
    text = " / ".join(str(sum(getattr(result, name) for result in results)) for name in names)
    return f"**{text}** !" if any(result.bad for result in results) else text


def run(
    wanted: Sequence[Cell],
    folder: Path,
    urls: dict[str, str],
    *,
    say: bool = True,
    jobs: int = len(GROUNDS),
    arenas: type[Arena] = Arena,
    place_of: Callable[[Cell], Ground] = ground_of,
) -> list[Result]:
    """Every cell on its ground, the grounds side by side; `urls` are databases by the ground's name."""
    lock = threading.Lock()
    results: list[Result] = []

    def one_ground(ground: Ground) -> None:
        mine = [cell for cell in wanted if place_of(cell) == ground]
        place = folder / ground.name.replace(", ", "-")
        with arenas.open(place, urls[ground.name], ground) as arena:
            for cell in mine:
                result = arena.run(cell)
                if result.wrong == ["the point was not reached"]:
                    # Chance had it that no process passed it so often: the first time will do.
                    result = arena.run(replace(cell, number=cell.number + 1_000_000, patient=True))
                with lock:
                    results.append(result)
                    if say or result.bad:
                        print(f"{len(results):5}/{len(wanted)} {result.line()}", file=sys.stderr, flush=True)
                if result.bad:
                    (place / f"cell-{cell.number}.log").write_text(arena.made.logs())

    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(one_ground, ground) for ground in {place_of(cell): None for cell in wanted}]:
            done.result()
    return results


@contextlib.contextmanager
def places(grounds: Iterable[Ground]) -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder to run in, and a database for each of these grounds, by its name."""
    from tests.chaos.run import database_url

    with tempfile.TemporaryDirectory(prefix="tydzen-chaos-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        yield (
            folder,
            {
                ground.name: stack.enter_context(database_url(folder / f"db-{n}", ground.database))
                for n, ground in enumerate(dict.fromkeys(grounds))
            },
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", default="all", help="names with commas between, or the start of names")
    parser.add_argument("--classes", default=",".join(CLASSES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=len(GROUNDS))
    parser.add_argument("--actions", default=",".join(ACTIONS), help="stop is SIGSTOP, term SIGTERM, of one class each")
    options = parser.parse_args()
    wanted_points = [
        point
        for point in POINTS
        if options.points == "all" or any(point.startswith(start) for start in options.points.split(","))
    ]
    wanted = cells(wanted_points, options.classes.split(","), options.seeds, options.actions.split(","))
    started = time.monotonic()
    with places(map(ground_of, wanted)) as (folder, urls):
        results = run(wanted, folder, urls, jobs=options.jobs)
    print(table(results))
    kills = sum(result.kills for result in results)
    bad = [result for result in results if result.bad]
    print(
        f"\n{len(results)} mailings of {READERS} readers, {kills} kills, {sum(r.lost for r in results)} lost, "
        f"{sum(r.twice for r in results)} twice, {sum(r.uncertain for r in results)} uncertain, "
        f"{sum(r.unexplained for r in results)} unexplained, {time.monotonic() - started:.0f} s"
    )
    for result in bad:
        print(result.line())
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
