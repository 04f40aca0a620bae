"""The keyring's file: read as it is, written once, readable by its owner only."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring

_REREAD_SECONDS = 1.0


def read_keyring(path: Path) -> Keyring:
    """The keyring in that file; raises ConfigurationError that says what to restore."""
    try:
        text = path.read_text("ascii")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no keyring here; a new installation makes one with: tydzen db upgrade"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the keyring cannot be read ({type(error).__name__})") from None
    return Keyring.parse(text, str(path))


class KeyringFile:
    """The keyring in a file for whoever meets a key that was added since; for all threads of a process.

    Forged links name keys, too: the file is read once a second at the most, whoever asks.
    """

    def __init__(self, path: Path, seconds: Callable[[], float] = time.monotonic) -> None:
        """`seconds` is a clock that never goes back."""
        self._path = path
        self._seconds = seconds
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._found: Keyring | str = ""

    def __call__(self) -> Keyring:
        """The keyring as it was a second ago, or later; raises ConfigurationError as `read_keyring` does."""
        with self._lock:
            now = self._seconds()
            if now - self._read_at >= _REREAD_SECONDS:
                self._read_at = now
                try:
                    self._found = read_keyring(self._path)
                except ConfigurationError as error:
                    self._found = str(error)
            if isinstance(self._found, str):
                raise ConfigurationError(self._found)
            return self._found


def write_keyring(path: Path, keyring: Keyring) -> None:
    """Write a new keyring, readable by its owner only, and durable before anything is sealed with it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(keyring.render())
        file.flush()
        os.fsync(file.fileno())
