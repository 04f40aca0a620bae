"""The keyring's file: read as it is, written once, readable by its owner only."""

from __future__ import annotations

import os
from pathlib import Path

from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring


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


def write_keyring(path: Path, keyring: Keyring) -> None:
    """Write a new keyring, readable by its owner only, and durable before anything is sealed with it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(keyring.render())
        file.flush()
        os.fsync(file.fileno())
