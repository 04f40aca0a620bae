"""Places for bulk work in one worker: as many as may be taken at once, so that a process stays free for notices.

A place is a locked file: whoever dies gives it back, which a semaphore would not.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """`count` places in `folder`; all processes of one worker name the same folder."""

    folder: Path
    count: int

    def prepare(self) -> None:
        """Make the folder, with a file for each place."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for number in range(self.count):
            (self.folder / str(number)).touch(mode=0o600)

    @contextmanager
    def taken(self) -> Iterator[bool]:
        """Whether a place was free, and is ours until the end of the block."""
        for number in range(self.count):
            descriptor = os.open(self.folder / str(number), os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            try:
                yield True
            finally:
                os.close(descriptor)
            return
        yield False
