"""Which machine this is, and since which boot: what a journal's reader must know to trust its gaps."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_id(data_dir: Path) -> str:
    """A UUID kept in the data directory, made on first use; a data directory that moves takes it along.

    It is on the disk when this returns. One that a power cut or a full disk has left without its contents is made anew.
    """
    path = data_dir / "host-id"
    known = _read(path)
    if known is not None:
        return known
    data_dir.mkdir(parents=True, exist_ok=True)
    folder = os.open(data_dir, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        known = _read(path)  # another process may have been first: then its id is the one
        if known is None:
            known = str(uuid.uuid4())
            _write(path, known)
            os.fsync(folder)
    finally:
        os.close(folder)
    return known


def _read(path: Path) -> str | None:
    try:
        return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
    except (FileNotFoundError, ValueError):
        return None


def _write(path: Path, known: str) -> None:
    made = path.with_name("host-id.new")
    with made.open("w", encoding="ascii") as file:
        file.write(f"{known}\n")
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


def boot_id() -> str:
    """A UUID that changes with each boot of this machine; where the system has none, the same for ever."""
    try:
        return str(uuid.UUID(_BOOT_ID.read_text(encoding="ascii").strip()))
    except FileNotFoundError:
        return str(uuid.UUID(int=0))
