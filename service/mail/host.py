"""Which machine this is, and since which boot: what a journal's reader must know to trust its gaps."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def host_id(data_dir: Path) -> str:
    """A UUID kept in the data directory, made on first use; a data directory that moves takes it along."""
    path = data_dir / "host-id"
    try:
        return str(uuid.UUID(path.read_text(encoding="ascii").strip()))
    except FileNotFoundError:
        pass
    data_dir.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f"host-id.{os.getpid()}.{uuid.uuid4().hex}")
    made.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    try:
        # A link, unlike a rename, fails if another process was first: then its id is the one.
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        made.unlink()
    return str(uuid.UUID(path.read_text(encoding="ascii").strip()))


def boot_id() -> str:
    """A UUID that changes with each boot of this machine; where the system has none, the same for ever."""
    try:
        return str(uuid.UUID(_BOOT_ID.read_text(encoding="ascii").strip()))
    except FileNotFoundError:
        return str(uuid.UUID(int=0))
