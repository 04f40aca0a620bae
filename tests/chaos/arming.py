"""Arms this process: at a point that the orders name it writes down where it is, and dies, or does what else is asked.

The orders lie in a file, `orders.json` of the folder CHAOS_ORDERS, and may change while processes run:

    [{"id": "7", "point": "after-gate", "action": "kill", "skip": 2}]

An order is carried out once, by the process that comes to its point first after having passed it `skip` times. What it
was is in `done-ID.json` before it happens. Only the tests' own entry points import this: a worker of production cannot.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import importlib
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service import faults
from service.mail.letter import Timeouts

# Octets that a write must have to be one of a body.
_BODY = 2000

# Moments of a session's opening, of which the engine has no points; as in `faults.PER_LETTER`.
OPENING: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "session-connected": ("after", ("service.mail.channel:Channel.connection_made",)),
    "session-heard": ("before", ("service.mail.channel:Channel.data_received",)),
    "session-refused": ("before", ("service.mail.opener:Opener._not_let_in",)),
    "session-let-in": ("before", ("service.mail.wire:Wire._opened",)),
    "session-set-back": ("before", ("service.mail.opener:Opener._wait",)),
}


@dataclass(frozen=True)
class Order:
    """Carry out `action` at `point`: kill, stop (until SIGCONT), term (the worker), hold (until `release`), fail.

    `hold` waits with the thread that came to the point alone; `fail` is the loss of the database there.
    """

    id: str
    point: str
    action: str = "kill"
    skip: int = 0


@dataclass(frozen=True)
class Deed:
    """An order as it was carried out."""

    id: str
    point: str
    action: str
    pid: int
    at: float
    journals: list[str]


def give_orders(folder: Path, *orders: Order) -> None:
    """Replace the orders in force."""
    hidden = folder / "orders.new"
    hidden.write_text(json.dumps([dataclasses.asdict(order) for order in orders]))
    hidden.rename(folder / "orders.json")


def done(folder: Path, order: str) -> Deed | None:
    """What was done of that order, if it has been."""
    try:
        return Deed(**json.loads((folder / f"done-{order}.json").read_text()))
    except FileNotFoundError:
        return None


def release(folder: Path, order: str) -> None:
    """Let the process go on that holds at that order's point."""
    (folder / f"released-{order}").touch()


def journals_of(pid: int) -> list[str]:
    """The journals that a process has open."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:
            continue
        if target.endswith((".journal", ".settled")):
            found.append(target)
    return found


class Hook:
    """Called at every point that an armed process passes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "orders.json"
        self._seen = (0, 0)
        self._orders: list[Order] = []
        self._passed: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, point: str) -> None:
        order = self.due(point)
        if order is not None:
            self.carry_out(order)

    def due(self, point: str) -> Order | None:
        """The order to be carried out here and now by this process, and by no other."""
        with self._lock:
            self._look()
            for order in self._orders:
                if order.point == point:
                    self._passed[order.id] += 1
                    if self._passed[order.id] > order.skip and self._claim(order):
                        return order
        return None

    def _look(self) -> None:
        try:
            now = os.stat(self._file)
        except FileNotFoundError:
            return
        if (now.st_ino, now.st_mtime_ns) != self._seen:
            self._seen = (now.st_ino, now.st_mtime_ns)
            self._orders = [Order(**order) for order in json.loads(self._file.read_text())]

    def _claim(self, order: Order) -> bool:
        path = self._folder / f"done-{order.id}.json"
        hidden = path.with_suffix(f".{os.getpid()}")
        deed = Deed(order.id, order.point, order.action, os.getpid(), time.time(), journals_of(os.getpid()))
        hidden.write_text(json.dumps(dataclasses.asdict(deed)))
        try:
            os.link(hidden, path)
        except FileExistsError:
            return False
        finally:
            hidden.unlink()
        return True

    def carry_out(self, order: Order) -> None:
        """Do it."""
        if order.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        elif order.action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif order.action == "term":
            os.kill(os.getppid(), signal.SIGTERM)
        elif order.action == "hold":
            while not (self._folder / f"released-{order.id}").exists():
                time.sleep(0.01)
        elif order.action == "fail":
            from service.store import DatabaseAwayError

            raise DatabaseAwayError("the tests took the database away")
        else:
            raise ValueError(order.action)


def arm(folder: Path) -> Hook:
    """Arm this process and those that it forks."""
    hook = Hook(folder)
    faults.arm(hook)
    for name, (place, methods) in {**faults.PER_LETTER, **OPENING}.items():
        for where in methods:
            _hook_method(hook, name, place, where)
    return hook


def _hook_method(hook: Hook, name: str, place: str, where: str) -> None:
    module, _, path = where.partition(":")
    owner_name, method_name = path.split(".")
    owner = getattr(importlib.import_module(module), owner_name)
    method = getattr(owner, method_name)
    made = {"before": _before, "after": _after, "within": _within}[place](hook, name, method)
    setattr(owner, method_name, functools.wraps(method)(made))


def _before(hook: Hook, name: str, method: Callable[..., object]) -> Callable[..., object]:
    def hooked(*args: object, **more: object) -> object:
        hook(name)
        return method(*args, **more)

    return hooked


def _after(hook: Hook, name: str, method: Callable[..., object]) -> Callable[..., object]:
    def hooked(*args: object, **more: object) -> object:
        answer = method(*args, **more)
        hook(name)
        return answer

    return hooked


def _within(hook: Hook, name: str, write: Callable[..., object]) -> Callable[..., object]:
    """A write in two parts, with the point between; small ones, which hold no body, are left whole."""

    def hooked(channel: object, parts: Sequence[bytes]) -> object:
        octets = b"".join(parts)
        order = hook.due(name) if len(octets) > _BODY else None
        if order is None:
            return write(channel, parts)
        write(channel, [octets[: len(octets) // 2]])
        hook.carry_out(order)
        return write(channel, [octets[len(octets) // 2 :]])

    return hooked


def hurry_timeouts(seconds: float) -> None:
    """No reply of a relay is waited for longer than so many seconds."""
    Timeouts.__init__.__defaults__ = tuple(min(seconds, value) for value in Timeouts.__init__.__defaults__)


def _set_waits(logins: str | None, setbacks: str | None) -> None:
    """After a refused login nobody waits for longer than so many seconds, and after any setback for exactly so many."""
    from service.mail import opener

    if logins:
        opener._LOCKED_OUT = tuple(min(float(logins), value) for value in opener._LOCKED_OUT)
    if setbacks:
        opener._BACK_OFF = (float(setbacks),)


def arm_by_environment() -> None:
    """As the variables say that the tests' entry points take: CHAOS_ORDERS, and those that are looked for here."""
    arm(Path(os.environ["CHAOS_ORDERS"]))
    _set_waits(os.environ.get("CHAOS_LOGINS"), os.environ.get("CHAOS_SETBACKS"))
    if os.environ.get("CHAOS_TIMEOUT"):
        hurry_timeouts(float(os.environ["CHAOS_TIMEOUT"]))
    if os.environ.get("CHAOS_SLICES"):
        from service.delivery import plan

        slices = int(os.environ["CHAOS_SLICES"])
        plan.freezing.candidate_count = lambda _session: slices
        defaults = list(plan.Planner.__init__.__defaults__)
        plan.Planner.__init__.__defaults__ = (*defaults[:-1], 1)
    if os.environ.get("CHAOS_CLOCK"):
        # This machine's own clock is wrong by so many seconds; the database's is not.
        from service.clock import SystemClock

        wrong_by = dt.timedelta(seconds=float(os.environ["CHAOS_CLOCK"]))
        SystemClock.now = lambda _self: dt.datetime.now(dt.UTC) + wrong_by
    if os.environ.get("CHAOS_WEAR"):
        from service.delivery import line

        line._RECORDS_PER_JOURNAL = int(os.environ["CHAOS_WEAR"])
