"""Disks of their own for tests: a small one that gets full, and one that loses in a power cut what was not synced."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# _IOR('X', 125, __u32) of fs/ext4, and the flag by which neither the log nor any page is written on the way out.
_SHUT_DOWN = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125
_WITHOUT_WRITING = 2


def _run(*words: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr.strip()}"


@contextlib.contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A disk of so many megabytes, in memory, mounted at `place`; needs root, or sudo that asks nothing."""
    sudo = () if os.geteuid() == 0 else ("sudo", "-n")
    place.mkdir()
    options = f"size={megabytes}m,mode=755,uid={os.geteuid()}"
    _run(*sudo, "mount", "-t", "tmpfs", "-o", options, "tmpfs", place)
    try:
        yield place
    finally:
        _run(*sudo, "umount", "-l", place)


def fill_up(disk: Path) -> Path:
    """Leave not an octet free; what fills it."""
    ballast = disk / "ballast"
    file = os.open(ballast, os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, 65536, 512, 1):
        with contextlib.suppress(OSError):
            while True:
                os.write(file, b"x" * size)
    os.close(file)
    return ballast


@dataclass
class FragileDisk:
    """An ext4 that can be cut off from power: what no fsync had waited for is gone when it comes back."""

    place: Path
    image: Path

    def mount(self) -> None:
        # A minute between two commits of the log: no clock must save what nobody asked to be saved.
        _run("mount", "-o", "loop,commit=60", self.image, self.place)

    def cut_power(self) -> None:
        """From now on nothing is written any more, as if the machine were off."""
        folder = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _SHUT_DOWN, struct.pack("I", _WITHOUT_WRITING))
        finally:
            os.close(folder)

    def come_back(self) -> None:
        """After everybody who used it has ended: mounted again, with what was on it at the cut."""
        give_up = time.monotonic() + 60
        while subprocess.run(["umount", self.place], capture_output=True, check=False).returncode:
            assert time.monotonic() < give_up, f"{self.place} is still in use"
            time.sleep(0.05)
        self.mount()


@contextlib.contextmanager
def fragile_disk(folder: Path, megabytes: int = 400) -> Iterator[FragileDisk]:
    """Such a disk, mounted in `folder`; needs root and loop devices."""
    folder.mkdir(parents=True, exist_ok=True)
    disk = FragileDisk(folder / "disk", folder / "disk.ext4")
    disk.place.mkdir()
    with disk.image.open("wb") as image:
        image.truncate(megabytes << 20)
    _run("mkfs.ext4", "-q", "-m", "0", disk.image)
    disk.mount()
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk.place], capture_output=True, check=False)
        disk.image.unlink()
