"""Memory that processes do not get: groups of them that the kernel bounds and kills in, and a bound for one process."""

from __future__ import annotations

import contextlib
import os
import resource
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hierarchy:
    """Where the kernel counts memory by group; `limit`, `events` and `unlimited` are of its version."""

    root: Path
    limit: str
    events: str
    unlimited: str


def hierarchy() -> Hierarchy | None:
    """The one that is mounted here, of version 1 or 2, if one of them counts memory."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        root = Path(place)
        if kind == "cgroup" and "memory" in options.split(","):
            return Hierarchy(root, "memory.limit_in_bytes", "memory.oom_control", "-1")
        if kind == "cgroup2" and "memory" in (root / "cgroup.controllers").read_text().split():
            return Hierarchy(root, "memory.max", "memory.events", "max")
    return None


@dataclass(frozen=True)
class Group:
    """Processes that share a bound of memory. What they had before they came is not counted."""

    place: Path
    kind: Hierarchy

    @property
    def kills(self) -> int:
        """How many of its processes the kernel has killed for want of memory."""
        words = dict(line.split() for line in (self.place / self.kind.events).read_text().splitlines())
        return int(words["oom_kill"])

    def members(self) -> list[int]:
        return [*map(int, (self.place / "cgroup.procs").read_text().split())]

    def take_in(self, pids: Iterable[int]) -> None:
        """These, and whom they fork from now on."""
        for pid in pids:
            # A child may have ended a moment ago.
            with contextlib.suppress(ProcessLookupError):
                (self.place / "cgroup.procs").write_text(f"{pid}")

    def bound(self, octets: int) -> None:
        """Before anybody is in: version 1 takes no bound that is below what is counted already."""
        (self.place / self.kind.limit).write_text(f"{octets}")

    def lift(self) -> None:
        (self.place / self.kind.limit).write_text(self.kind.unlimited)


def hindrance() -> str | None:
    """Why no group can be made here, if so."""
    if os.geteuid() != 0:
        return "groups of processes need root"
    try:
        with group():
            return None
    except OSError as error:
        return f"memory cannot be counted by groups here: {error}"


@contextlib.contextmanager
def group() -> Iterator[Group]:
    """A new one, removed once its processes have ended. Raises OSError where there can be none."""
    kind = hierarchy()
    if kind is None:
        raise OSError("no mounted cgroup counts memory")
    if kind.limit == "memory.max":
        (kind.root / "cgroup.subtree_control").write_text("+memory")
    made = Group(kind.root / f"tydzen-{uuid.uuid4().hex[:8]}", kind)
    made.place.mkdir()
    try:
        # It must be there before it is relied on.
        assert made.kills == 0
        yield made
    finally:
        give_up = time.monotonic() + 60
        while made.members() and time.monotonic() < give_up:
            time.sleep(0.05)
        made.place.rmdir()


def bound_address_space(pid: int, octets: int) -> tuple[int, int]:
    """Let a process get no more than so much, whatever it has already; what it might before, for `prlimit`."""
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (octets, before[1]))
    return before
