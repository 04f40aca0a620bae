"""A `tydzen` command that runs beside a process and ends with it."""

from __future__ import annotations

import subprocess
import sys

from service.embedded.tied import tied

_PROJECT_ENTRY = ("-m", "service.cli")


def start_beside(*words: str) -> subprocess.Popen[bytes]:
    """Run `tydzen WORDS…` until this process ends; call it from the main thread, to which the bond is made."""
    return subprocess.Popen(tied([sys.executable, *_PROJECT_ENTRY, *words]), stdin=subprocess.DEVNULL)  # noqa: S603
