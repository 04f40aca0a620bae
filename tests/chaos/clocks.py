"""A host's own wall clock, for processes of this machine: it can be set, and stopped, while they run.

with wall_clock(tmp_path) as clock:
    made.start_worker(within=clock.within)     # and whom it starts
    clock.step(-86_400)                        # seconds
    clock.stop()
    clock.set_right()
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

_SOURCE = Path(__file__).with_name("clock.c")
_SECOND = 1_000_000_000


def hindrance() -> str | None:
    """Why there can be no such clock here, if so."""
    return None if shutil.which("cc") else "there is no C compiler (cc) here"


@dataclass
class WallClock:
    """A folder's clock; right until it is told otherwise."""

    folder: Path
    _ahead: int = 0  # nanoseconds
    _setting: mmap.mmap = field(init=False)

    def __post_init__(self) -> None:
        command = ["cc", "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", self._library, _SOURCE, "-ldl"]
        subprocess.run(command, check=True)
        self._file.write_bytes(bytes(16))
        with self._file.open("r+b") as file:
            self._setting = mmap.mmap(file.fileno(), 16)

    @property
    def _library(self) -> Path:
        return self.folder / "clock.so"

    @property
    def _file(self) -> Path:
        return self.folder / "clock"

    @property
    def within(self) -> tuple[str, ...]:
        """What a command is run with to go by this clock, as will all that it starts."""
        return ("env", f"LD_PRELOAD={self._library}", f"CHAOS_CLOCK_FILE={self._file}")

    def step(self, seconds: float) -> None:
        """Set it so much on, or back; it goes on from there."""
        self._ahead += int(seconds * _SECOND)
        self._set(self._ahead, 0)

    def stop(self) -> None:
        """It shows this instant until it is stepped or set right."""
        self._set(self._ahead, time.time_ns() + self._ahead)

    def set_right(self) -> None:
        self._ahead = 0
        self._set(0, 0)

    def _set(self, ahead: int, stands_at: int) -> None:
        self._setting[:] = struct.pack("=qq", ahead, stands_at)
