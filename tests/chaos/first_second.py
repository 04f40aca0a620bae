"""A session's first second: relays that end it, refuse it or promise something else, while workers are killed.

python -m tests.chaos.first_second                         all of it, a Markdown table at the end
python -m tests.chaos.first_second --classes banner-421 --points random,session-heard --seeds 1

A cell is a mailing of its own, as in `tests.chaos.matrix`, and goes through up to three times: in every second one a dark
one, in which the relay ends every session as its class says (where that keeps it from taking any letter); a rough one,
in which it does so on a part of them, and in every second cell ends the others after a letter each, so that there are
many; and a calm one. In the first two a process dies, or a worker is told to stop. Besides what the matrix asks,
nobody may be refused for what a relay says to a session; a relay that ends every session is not dialled more often than
docs/faults.md says; and once it is well, mail goes on within the wait that was in force, and comes to its end.
"""

from __future__ import annotations

import argparse
import itertools
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from service.domain.delivery import DeliveryState
from tests.chaos import arming, matrix
from tests.chaos.arming import Deed, Order, give_orders
from tests.chaos.matrix import CONNECTIONS, TIMEOUT, WINDOW, Arena, Cell, Ground, Result
from tests.chaos.openings import CALM, CLASSES, GROUNDS, POINTS, SECURE, EarlyCell, cells
from tests.chaos.run import kill_in
from tests.installation import BUSY, Worker, mailing_state
from tests.smtp_sink import Entry, make_certificates

DARK = 4.0  # seconds from the first dial on
ROUGH = 8.0  # with a worker there; less where the deed is done and the mailing sent
LOGINS = 3.0  # seconds that the armed workers wait after a login that was refused, instead of minutes
# After so many sessions without any use the next is tried after so many seconds: docs/faults.md, "nobody listens".
WAITS = (0, 0, 1, 2, 5, 10, 20, 30)
# A worker starts within so many seconds, beside whatever else keeps the machine busy, and takes up what a dead one's
# lease (five seconds) holds; and a mailing of forty letters is sent.
START = 30.0
# A worker ends so soon where it is owed no reply to a dot for longer than `TIMEOUT`.
STOP = 20.0
_LOGIN = ("news", "s3cret-pass")


@dataclass
class Course:
    """How a cell went; times are Unix seconds, as in the sink's ledger."""

    cell: Cell
    began: float
    dark: tuple[float, float] | None = None
    calm_from: float = 0.0
    calm: float = 0.0  # seconds until the mailing was sent
    deeds: list[Deed] = field(default_factory=list)  # those at random moments
    stopping: dict[int, tuple[Worker, float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    dials: int = 0  # in the dark


@dataclass
class EarlyResult(Result):
    """What came out of a cell, and how it went."""

    course: Course | None = None

    def line(self) -> str:
        course = self.course
        if course is None:
            return super().line()
        first, *rest = super().line().split("\n")
        more = f", {course.dials} dials in the dark, sent {course.calm:.1f} s after the calm began"
        return "\n".join([first + more, *rest])


class EarlyArena(Arena):
    """Runs cells of openings."""

    environment: ClassVar = {"CHAOS_LOGINS": str(LOGINS)}
    result_class = EarlyResult
    dark_seconds: ClassVar[float] = DARK
    course: Course

    @staticmethod
    def _settings(folder: Path, ground: Ground) -> dict[str, Any]:
        if ground not in SECURE:
            return {"rules": CALM, "keep_in_memory": False}
        return {"rules": CALM, "keep_in_memory": False, "certificates": make_certificates(folder), "login": _LOGIN}

    def _begin(self, cell: Cell) -> list[Order]:
        assert isinstance(cell, EarlyCell)
        self.made.sink.set_rules(*cell.rules(dark=cell.dark))
        self.made.sink.settings.letters_per_session = 1 if cell.brisk else None
        # Those of the cell before know the relay as one that is well.
        self.made.sink.drop_all()
        self.course = Course(cell, time.time())
        return super()._begin(cell)

    def _see_through(self, cell: Cell, orders: Sequence[Order], mailing: int) -> None:
        assert isinstance(cell, EarlyCell)
        course = self.course
        try:
            due = [course.began + cell.chance.uniform(0.5, DARK + 2)] if cell.point == "random" else []
            if cell.dark:
                self._pass_dark(cell, orders, mailing, due)
            self.made.sink.set_rules(*cell.rules())
            self._pass_rough(cell, orders, mailing, due)
        finally:
            give_orders(self._orders)
            self.made.sink.set_rules(*CALM)
            self.made.sink.settings.letters_per_session = None
            course.calm_from = time.time()
        while not self._over(mailing):
            self._tend(cell, orders, mailing, [])
            late = time.time() - course.calm_from > self._patience() + START
            assert not late, f"{self.made.status(mailing).mailing.state} {self.made.status(mailing).counts}"
        course.calm = time.time() - course.calm_from

    def _pass_dark(self, cell: EarlyCell, orders: Sequence[Order], mailing: int, due: list[float]) -> None:
        """Some seconds from the first dial on: a worker may have to start first, of which nothing is promised."""
        dials, course = self.made.sink.dials, self.course
        until = time.time() + BUSY * START
        while time.time() < (course.dark[1] if course.dark else until):
            self._tend(cell, orders, mailing, due)
            first = next((at for at in dials[-1000:] if at >= course.began), None)
            if course.dark is None and first is not None:
                course.dark = first, first + self.dark_seconds
        if course.dark is None:
            course.wrong.append("nobody dialled")

    def _pass_rough(self, cell: EarlyCell, orders: Sequence[Order], mailing: int, due: list[float]) -> None:
        """So long as a worker is there to notice, or until all is done."""
        left, at = ROUGH, time.time()
        give_up = at + 2 * (ROUGH + BUSY * START)
        while left > 0 and at < give_up and not (self._all_done(orders, due) and self._over(mailing)):
            self._tend(cell, orders, mailing, due)
            before, at = at, time.time()
            if self.made.workers[-1].children():
                left -= at - before

    def _tend(self, cell: EarlyCell, orders: Sequence[Order], mailing: int, due: list[float]) -> None:
        time.sleep(0.05)
        self._watch_stopping(orders)
        self._keep_alive()
        self._hurry(mailing, planning=bool(self._deeds(orders)))
        if due and time.time() >= due[0] and (deed := self._do_at_random(cell)) is not None:
            self.course.deeds.append(deed)
            due.pop(0)

    def _do_at_random(self, cell: EarlyCell) -> Deed | None:
        worker = self.made.workers[-1]
        if not worker.children():
            return None  # it is only starting
        if cell.action == "term":
            worker.signal(signal.SIGTERM)
            return Deed(f"{cell.number}", "random", "term", worker.pid, time.time(), [])
        done = kill_in(worker, cell.chance)
        if done is None:
            return None
        return Deed(f"{cell.number}", done[0], "kill", worker.pid, time.time(), [str(path) for path in done[1]])

    def _watch_stopping(self, orders: Sequence[Order]) -> None:
        """Whoever was told to stop does so in time."""
        course = self.course
        for deed in self._deeds(orders):
            worker = self.made.workers[-1]
            if deed.action == "term" and not any(at == deed.at for _, at in course.stopping.values()):
                course.stopping[worker.pid] = worker, deed.at
        for worker, at in course.stopping.values():
            if worker.alive and time.time() - at > STOP and not any("told to stop" in text for text in course.wrong):
                course.wrong.append(f"a worker that was told to stop went on for more than {STOP} s")

    def _over(self, mailing: int) -> bool:
        return mailing_state(self.made, mailing) in {"sent", "cancelled"}

    def _all_done(self, orders: Sequence[Order], due: Sequence[float]) -> bool:
        return not due and (not orders or arming.done(self._orders, orders[0].id) is not None)

    def _deeds(self, orders: Sequence[Order]) -> list[Deed]:
        return [*super()._deeds(orders), *self.course.deeds]

    # Judging

    def _patience(self) -> float:
        """How long a worker may wait, when the relay is well again, before it knows."""
        trouble = self.course.calm_from - self.course.began
        ends = zip(WAITS, itertools.accumulate(WAITS), strict=True)
        wait = next((wait for wait, end in ends if end >= trouble), WAITS[-1])
        return max(wait, LOGINS) + TIMEOUT

    def _judge(self, result: Result, orders: Sequence[Order], mailing: int, cell: Cell) -> None:
        super()._judge(result, orders, mailing, cell)
        assert isinstance(result, EarlyResult)
        course = result.course = self.course
        if cell.patient and "the point was not reached" in result.wrong:
            # Where most sessions end early few letters may have come so far: it is judged without a deed, and the
            # table counts one less.
            result.wrong.remove("the point was not reached")
        result.wrong += course.wrong
        if cell.point == "random" and not course.deeds:
            result.wrong.append("the random moment did not come")
        ends = {DeliveryState.ACCEPTED, DeliveryState.UNCERTAIN}
        blamed = [number for number, (state, _) in self.made.states(mailing).items() if state not in ends]
        if blamed:
            result.wrong.append(f"{len(blamed)} readers pay for what was said to sessions: {blamed[:5]}")
        self._judge_dials(result, orders, cell)

    def _judge_dials(self, result: Result, orders: Sequence[Order], cell: Cell) -> None:
        course = self.course
        dials = [at for at in self.made.sink.dials if at >= course.began]
        processes = self.concurrency
        for deed in self._deeds(orders):
            # Each new process begins anew; of a worker that ends, as many.
            processes += 1 if deed.action == "kill" and deed.point != "parent" else self.concurrency
        if course.dark is not None:
            since, until = course.dark
            course.dials = sum(1 for at in dials if since <= at < until)
            allowed = processes * tries(until - since)
            if course.dials > allowed:
                result.wrong.append(
                    f"{course.dials} dials in {until - since:g} s of the dark, by {processes} processes"
                )
        taken = [entry.at for entry in self._taken(cell)]
        for at in dials:
            # A letter that was answered speaks for the relay, and its next two setbacks cost no wait.
            answered = sum(1 for one in taken if at - 0.5 <= one < at + 1)
            if sum(1 for one in dials if at <= one < at + 1) > (processes + answered) * tries(1):
                result.wrong.append(f"dialled again and again, {at - course.began:.1f} s after the beginning")
                break

    def _taken(self, cell: Cell) -> list[Entry]:
        return [entry for entry in self.entries() if entry.recipient.startswith(f"c{cell.number}x")]

    def _unexplained(
        self,
        uncertain: set[int],
        deeds: Iterable[Deed],
        entries: Sequence[Entry],
        named: Sequence[int | None],
        cell: Cell,
    ) -> set[int]:
        """Those past their dot at no kill, and more of the rest than there were windows that the sink broke off."""
        left = uncertain - matrix._past_dot(deeds)
        said = self._without_reply(left)
        return left - said if len(said) <= self._may_be_uncertain(cell) else left

    def _may_be_uncertain(self, cell: Cell) -> int:
        """How many letters of this cell the sink left in the middle of a BDAT, at most."""
        broken = Counter(line["when"] for line in self.breaks(cell))
        # Where CHUNKING is promised without PIPELINING the body is on its way as soon as its recipient was accepted.
        return WINDOW * broken["CHUNK"] + (broken["RCPT"] if cell.reply == "mixed" else 0)


def tries(seconds: float) -> int:
    """How often one process dials within so many seconds a relay that never takes a letter: first on all connections."""
    return CONNECTIONS + sum(1 for after in itertools.accumulate(WAITS) if after <= seconds)


def run(wanted: Sequence[EarlyCell], folder: Path, urls: dict[str, str]) -> list[Result]:
    """Every cell on its ground; `urls` are databases by the ground's name."""
    return matrix.run(wanted, folder, urls, arenas=EarlyArena, place_of=lambda cell: cell.ground, jobs=len(GROUNDS))


def table(results: Sequence[Result]) -> str:
    """Markdown: what became of each class."""
    lines = [
        "| class | mailings | deeds | lost | twice | uncertain | unexplained | most dials in the dark | longest calm, s | bad |",
        "|---" * 10 + "|",
    ]
    for name in [*dict.fromkeys(result.cell.reply for result in results), "all"]:
        found = [result for result in results if name in {result.cell.reply, "all"}]
        courses = [result.course for result in found if isinstance(result, EarlyResult) and result.course]
        sums = [sum(getattr(r, n) for r in found) for n in ("kills", "lost", "twice", "uncertain", "unexplained")]
        dials = max((course.dials for course in courses), default=0)
        calm = max((course.calm for course in courses), default=0.0)
        bad = sum(1 for result in found if result.bad)
        lines.append(f"| {name} | {len(found)} | {' | '.join(map(str, sums))} | {dials} | {calm:.1f} | {bad} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", default=",".join(CLASSES))
    parser.add_argument("--points", default=",".join(POINTS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--start", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    wanted = cells(options.classes.split(","), options.points.split(","), options.seeds, options.start)
    started = time.monotonic()
    with matrix.places(cell.ground for cell in wanted) as (folder, urls):
        results = run(wanted, folder, urls)
    print(table(results))
    print(f"\n{len(results)} mailings of {matrix.READERS} readers, {time.monotonic() - started:.0f} s")
    bad = [result for result in results if result.bad]
    for result in bad:
        print(result.line())
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
