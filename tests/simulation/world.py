"""Virtual time: one heap of events, and for each simulated process an event loop that takes its turns from it.

Nothing here waits. The clock jumps to the next event; which process may take it is decided when its turn comes, so that
a process can be stopped, killed or put to sleep between any two callbacks. A seed decides everything that is random.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from asyncio import events
from collections.abc import Callable
from random import Random
from typing import Any

# Clocks of a machine that has been up for a while: zero would look like "never".
STARTED = 100_000.0


class Killed(BaseException):
    """The process dies here: what it had not committed did not happen."""


class TooLongError(Exception):
    """The simulation has made more events, or lasted longer, than any sound run does."""


class World:
    """The clock, the events to come and the chance of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.now = STARTED
        self.turns = 0
        self.story: list[tuple[float, str, str]] = []
        self.complaints: list[str] = []  # of product code: an exception that nobody took, a callback that raised
        self.current: Process | None = None
        self._heap: list[tuple[float, int, Process | None, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = 0

    def at(self, when: float, owner: Process | None, call: Callable[..., None], *args: Any) -> None:
        """Have `call` run at `when`, as part of `owner`, or of nobody in particular."""
        self._serial += 1
        heapq.heappush(self._heap, (max(when, self.now), self._serial, owner, call, args))

    def later(self, delay: float, owner: Process | None, call: Callable[..., None], *args: Any) -> None:
        """As `at`, so many seconds from now."""
        self.at(self.now + delay, owner, call, *args)

    def serial(self) -> int:
        """A number that is given out once."""
        self._serial += 1
        return self._serial

    def tell(self, who: str, what: str) -> None:
        """Add a line to the story of this seed."""
        self.story.append((self.now - STARTED, who, what))

    def run(self, *, until: float, turns: int, done: Callable[[], bool]) -> None:
        """Take events in order until `done`; raises TooLongError at the time or the number of turns given."""
        heap = self._heap
        limit = self.turns + turns
        while heap and not done():
            if self.turns > limit:
                raise TooLongError(f"{turns} turns were not enough")
            when, _, owner, call, args = heapq.heappop(heap)
            if when > until:
                raise TooLongError(f"not done after {until - STARTED:g} seconds")
            self.now = when
            self.turns += 1
            if owner is None:
                call(*args)
            elif owner.takes_turn(call, args):
                self.current = owner
                events._set_running_loop(owner.loop)
                try:
                    call(*args)
                finally:
                    events._set_running_loop(None)
                    self.current = None
                owner.after_turn()


class Process:
    """Something that the machine runs, and may kill or stop between any two turns of its loop.

    `turning` is whether its loop runs: between two jobs a worker's stands still, and what comes then waits.
    """

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped = False
        self.turning = False
        self.steps = 0
        self.dies_at: int | None = None  # the turn at which it is killed
        self.doomed = False
        self.in_thread = False  # what runs at this moment is not the loop
        self.loop = VirtualLoop(self)
        self.on_death: list[Callable[[], None]] = []
        self._parked: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def takes_turn(self, call: Callable[..., None], args: tuple[Any, ...]) -> bool:
        """Whether the event is to happen now; else it is kept for later, or lost with the process."""
        if not self.alive:
            return False
        if self.stopped or not self.turning:
            self._parked.append((call, args))
            return False
        self.steps += 1
        if self.steps == self.dies_at:
            self.die(f"at turn {self.steps}")
            return False
        return True

    def after_turn(self) -> None:
        if self.doomed and self.alive:
            self.die("inside a turn")

    def start_turning(self) -> None:
        self.turning = True
        self._unpark()

    def stand_still(self) -> None:
        self.turning = False

    def die_here(self, where: str) -> None:
        """Die at once where that is in the midst of a transaction, else with the end of this turn."""
        if self.in_thread:
            raise Killed(f"at {where}")
        self.doomed = True

    def stop(self) -> None:
        """SIGSTOP."""
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT: all that came meanwhile comes at once, timers before sockets or sockets before timers."""
        self.stopped = False
        if self.turning:
            self._unpark()

    def _unpark(self) -> None:
        parked, self._parked = self._parked, []
        if len(parked) > 1:
            late = self.world.rng.random() < 0.5
            parked.sort(key=lambda event: (getattr(event[0], "__func__", None) is VirtualLoop._expire) is late)
        for call, args in parked:
            self.world.at(self.world.now, self, call, *args)

    def die(self, how: str) -> None:
        """SIGKILL: no turn is taken any more; the kernel closes what was open."""
        if not self.alive:
            return
        self.alive = False
        self.world.tell(self.name, f"dies {how}")
        for call in self.on_death:
            call()

    def bury(self) -> None:
        """Take the process's coroutines apart, once the seed is over and nothing they do is looked at."""
        self.alive = False
        for task in self.loop.tasks:
            task._log_destroy_pending = False
            if not task.done():
                with contextlib.suppress(BaseException):
                    task.get_coro().close()
        self.loop.tasks.clear()
        self._parked.clear()


class _Future(asyncio.Future):
    """A future whose place in a set does not depend on where it lies in memory."""

    def __init__(self, number: int, loop: VirtualLoop) -> None:
        super().__init__(loop=loop)
        self._number = number

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Task(asyncio.Task):
    """A task of the same kind."""

    def __init__(self, number: int, coro: Any, loop: VirtualLoop) -> None:
        self._number = number
        super().__init__(coro, loop=loop)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.AbstractEventLoop):
    """The event loop of one process. Its executors are threads that take their time, one call after the other."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.tasks: list[asyncio.Task] = []
        self.network: Any = None
        self.offload_seconds: Callable[[], float] = lambda: 0.0
        self._lanes: dict[int, list[Callable[[], None]]] = {}

    # Time and turns

    def time(self) -> float:
        return self.process.world.now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self.process.turning

    def is_closed(self) -> bool:
        return False

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        world = self.process.world
        world.at(world.now, self.process, handle._run)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        return self.call_at(self.process.world.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.process.world.at(when, self.process, self._expire, handle)
        return handle

    def _expire(self, handle: asyncio.TimerHandle) -> None:
        if not handle._cancelled:
            handle._run()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future:
        return _Future(self.process.world.serial(), self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task:
        task = _Task(self.process.world.serial(), coro, self)
        self.tasks.append(task)
        return task

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.process.alive:
            error = context.get("exception")
            self.process.world.complaints.append(f"{self.process.name}: {context['message']}: {error!r}")

    # Threads

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future:
        future = self.create_future()
        lane = self._lanes.setdefault(id(executor), [])
        lane.append(lambda: self._offloaded(lane, future, func, args))
        if len(lane) == 1:
            self._begin(lane)
        return future

    def _begin(self, lane: list[Callable[[], None]]) -> None:
        self.process.world.later(self.offload_seconds(), self.process, lane[0])

    def _offloaded(
        self, lane: list[Callable[[], None]], future: asyncio.Future, func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        events._set_running_loop(None)  # a thread has none
        self.process.in_thread = True
        try:
            answer, error = func(*args), None
        except Killed as death:
            self.process.die(str(death))
            return
        except Exception as raised:
            answer, error = None, raised
        finally:
            self.process.in_thread = False
        lane.pop(0)
        if lane:
            self._begin(lane)
        self.process.world.later(self.offload_seconds(), self.process, self._answer, future, answer, error)

    def _answer(self, future: asyncio.Future, answer: Any, error: Exception | None) -> None:
        if future.cancelled():
            return
        if error is None:
            future.set_result(answer)
        else:
            future.set_exception(error)

    # Sockets

    async def create_connection(self, protocol_factory: Any, host: str, port: int, **_: Any) -> Any:
        return await self.network.connect(self.process, protocol_factory, host, port)
