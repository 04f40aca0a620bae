"""Runs the processes of one machine: starts them in order, restarts what dies, stops them in the reverse order.

Each child writes its own log file, which is copied line by line to stderr: a child must not break with its supervisor.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from service.domain.errors import UnavailableError
from service.embedded.logfile import LogFile
from service.embedded.tied import tied

_TICK_SECONDS = 0.05
# A life shorter than this is a quick death: so many in a row and starting again is no mend.
_QUICK_SECONDS = 10.0
_QUICK_DEATHS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_PATIENCE_SECONDS = 3.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Program:
    """One process to be kept running. `ready` is asked until it is true; None: ready as soon as it lives."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: Callable[[], bool] | None = None
    ready_seconds: float = 30.0
    stop_seconds: float = 10.0
    # What a person is told while its stop takes long.
    stopping: str = "is still stopping"
    # Whether its log lines go to stderr too, or into its file alone.
    echo: bool = True


@dataclass
class _Child:
    """A program, its process and what became of it so far."""

    program: Program
    log: LogFile
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    quick_deaths: int = 0
    start_at: float | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Supervisor:
    """Keeps stages of programs running: those of one stage start together, stages one after the other."""

    def __init__(
        self,
        stages: Sequence[Sequence[Program]],
        log_dir: Path,
        say: Say,
        echo: Say,
        *,
        first_pause: float = _FIRST_PAUSE,
    ) -> None:
        """`say` gets what the supervisor tells a person, `echo` each line that a child logs, with its name.

        `first_pause` (seconds) is half of what passes after a first quick death; it doubles with each further one.
        """
        log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._stages = [
            [_Child(program, LogFile(log_dir / f"{program.name}.log")) for program in stage] for stage in stages
        ]
        self._say = say
        self._echo = echo
        self._first_pause = first_pause
        self._asked = 0

    def run(self, when_ready: Callable[[], None] = lambda: None) -> int:
        """Start all, keep them running until SIGINT or SIGTERM, stop all. A second signal stops them at once.

        Returns the exit code: 0 after an orderly end, 1 where a program could not be kept running, or was not ready
        in time.
        """
        handlers = {number: signal.signal(number, self._stop_asked) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._start_all()
            if not self._asked:
                when_ready()
            while not self._asked:
                self._tick()
        except UnavailableError as error:
            self._say(str(error))
            return 1
        finally:
            self._stop_all()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return 0

    @property
    def _children(self) -> list[_Child]:
        return [child for stage in self._stages for child in stage]

    def _stop_asked(self, _number: int, _frame: object) -> None:
        self._asked += 1

    def _start_all(self) -> None:
        for stage in self._stages:
            for child in stage:
                if not self._asked:
                    self._start(child)
            for child in stage:
                self._await_ready(child)

    def _start(self, child: _Child) -> None:
        child.start_at = None
        child.started = time.monotonic()
        # A session of its own: Ctrl-C in the terminal is for the supervisor, which stops them in order.
        child.process = subprocess.Popen(  # noqa: S603  # no shell; the commands are the installation's own
            tied(child.program.command),
            stdin=subprocess.DEVNULL,
            stdout=child.log.file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **child.program.environment},
            start_new_session=True,
        )

    def _await_ready(self, child: _Child) -> None:
        program = child.program
        give_up = child.started + program.ready_seconds
        while program.ready is not None and not self._asked and not (child.alive and program.ready()):
            self._tick()
            if time.monotonic() > give_up:
                raise UnavailableError(
                    f"{program.name} was not ready within {program.ready_seconds:.0f} s; its log: {child.log.path}"
                )

    def _tick(self) -> None:
        time.sleep(_TICK_SECONDS)
        self._copy_logs()
        for child in self._children:
            if child.process is not None and not child.alive:
                self._bury(child)
            if child.start_at is not None and time.monotonic() >= child.start_at and not self._asked:
                self._start(child)

    def _bury(self, child: _Child) -> None:
        """Say how it died and when it is started again; raise UnavailableError where that has proved useless."""
        assert child.process is not None
        name, how = child.program.name, _death(child.process.returncode)
        lived = time.monotonic() - child.started
        child.process = None
        child.quick_deaths = child.quick_deaths + 1 if lived < _QUICK_SECONDS else 0
        if child.quick_deaths >= _QUICK_DEATHS:
            raise UnavailableError(
                f"{name} {how}, {_QUICK_DEATHS} times within {_QUICK_SECONDS:.0f} s of its start: giving up. "
                f"What it said last is in {child.log.path}"
            )
        pause = min(self._first_pause * 2**child.quick_deaths, _LONGEST_PAUSE) if child.quick_deaths else 0.0
        child.start_at = time.monotonic() + pause
        self._say(f"{name} {how}; starting it again" + (f" in {pause:.0f} s" if pause else ""))

    def _copy_logs(self) -> None:
        for child in self._children:
            for line in child.log.new_lines():
                if child.program.echo and line:
                    self._echo(f"{child.program.name:8} | {line}")

    def _stop_all(self) -> None:
        for stage in reversed(self._stages):
            alive = [child for child in stage if child.alive]
            for child in alive:
                _send(child, signal.SIGTERM)
            for child in alive:
                self._await_end(child)
        self._copy_logs()
        for child in self._children:
            child.log.close()

    def _await_end(self, child: _Child) -> None:
        asked, started, told = self._asked, time.monotonic(), False
        while child.alive:
            self._copy_logs()
            waited = time.monotonic() - started
            if waited > _PATIENCE_SECONDS and not told:
                told = True
                self._say(f"{child.program.name} {child.program.stopping} (Ctrl-C again ends it at once)")
            if self._asked > max(asked, 1) or waited > child.program.stop_seconds:
                self._say(f"{child.program.name} is ended by force")
                _send(child, signal.SIGKILL)
                assert child.process is not None
                child.process.wait()
            time.sleep(_TICK_SECONDS)


def _send(child: _Child, number: signal.Signals) -> None:
    assert child.process is not None
    with suppress(ProcessLookupError):
        if number is signal.SIGKILL:
            # The whole session: a killed parent cannot tell its own children.
            os.killpg(child.process.pid, number)
        else:
            child.process.send_signal(number)


def _death(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended by itself (exit {code})"
    try:
        return f"was killed ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed (signal {-code})"
