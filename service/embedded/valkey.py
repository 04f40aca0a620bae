"""A Valkey of our own in the data directory, on a Unix socket that only its owner can open."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

# sockaddr_un holds 108 octets; a path near that fails to bind with an error that names nothing.
_LONGEST_SOCKET_PATH = 100


def socket_path(data_dir: Path) -> Path:
    """The socket: in the data directory, or in a short private folder where that path is too long for one."""
    path = data_dir.absolute() / "valkey.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"tydzen-{os.getuid()}-{name}" / "valkey.sock"


def socket_url(data_dir: Path) -> str:
    """The URL of that socket, as redis-py reads it."""
    return f"unix://{socket_path(data_dir)}"
