"""Places for bulk work in one worker: as many as may be taken at once, so that a process stays free for notices.

A place is a locked file: whoever dies gives it back, which a semaphore would not.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# How such a folder begins; workers of an older release have others, which they need.
_WORKER = "worker-"
# Locked as long as any process of the worker lives.
_ALIVE = "alive"


@dataclass(frozen=True, slots=True)
class Places:
    """`count` places in `folder`; all processes of one worker name the same folder."""

    folder: Path
    count: int

    @classmethod
    def of_new_worker(cls, parent: Path, count: int) -> Places:
        """Places in a folder of their own below `parent`, of this process and those it forks; removes dead workers'.

        The folder's name is random: workers in containers that share a volume have the same process id.
        """
        parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Nobody takes a folder for a dead worker's between its making and its lock.
        with _held(parent):
            for folder in parent.glob(f"{_WORKER}*"):
                _remove_if_dead(folder)
            made = cls(parent / f"{_WORKER}{secrets.token_hex(8)}", count)
            made.folder.mkdir(mode=0o700)
            # Now: the disk may be full when a place is wanted.
            for number in range(count):
                (made.folder / str(number)).touch(mode=0o600)
            # Stays open for ever: its lock ends with the last process that has it.
            fcntl.flock(os.open(made.folder / _ALIVE, os.O_RDWR | os.O_CREAT, 0o600), fcntl.LOCK_EX)
        return made

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


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_if_dead(folder: Path) -> None:
    descriptor = os.open(folder / _ALIVE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)
    shutil.rmtree(folder, ignore_errors=True)
