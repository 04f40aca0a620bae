"""A child's log file: the child appends, the supervisor reads what is new, and the file never grows without end."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

_LARGEST_OCTETS = 10 * 1024 * 1024


class LogFile:
    """One log file and, beside it, the one before (`.1`)."""

    def __init__(self, path: Path) -> None:
        """Open for appending; reading starts at what comes from now on."""
        self.path = path
        self.file = path.open("ab", buffering=0)
        path.chmod(0o600)
        self._reader = path.open("rb")
        self._reader.seek(0, 2)
        self._rest = b""

    def new_lines(self) -> Iterator[str]:
        """The whole lines written since the last call."""
        octets = self._rest + self._reader.read()
        *lines, self._rest = octets.split(b"\n")
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip()
        if self._reader.tell() > _LARGEST_OCTETS:
            self._turn()

    def _turn(self) -> None:
        # The child holds the file open and appends, so it is copied and emptied rather than renamed.
        shutil.copyfile(self.path, self.path.with_suffix(".log.1"))
        self.file.truncate(0)
        self._reader.seek(0)

    def close(self) -> None:
        """Give the file back."""
        self.file.close()
        self._reader.close()
