"""A `tydzen` command that runs beside a process and ends with it."""

from __future__ import annotations

import subprocess
import sys

from service.embedded.tied import tied

_PROJECT_ENTRY = ("-m", "service.cli")


class Companion:
    """`tydzen WORDS…` while this process lives; call `keep` from its main thread, to which the bond is made."""

    def __init__(self, *words: str) -> None:
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None

    def keep(self) -> None:
        """Start it, or start it again where it has ended; to be called now and then."""
        if self._process is None or self._process.poll() is not None:
            command = tied([sys.executable, *_PROJECT_ENTRY, *self._words])
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603  # no shell, our own words
