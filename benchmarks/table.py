"""Rows of the table that `make bench` prints, in Markdown, with the machine and the date."""

from __future__ import annotations

import datetime as dt
import os
import platform
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_HEAD = ("what", "must reach", "measured", "CPU per letter", "peak memory of a process")


@dataclass(frozen=True, slots=True)
class Row:
    """One line: what was measured, what is asked of it, and what came out."""

    what: str
    must: str
    measured: str
    cpu: str = ""
    memory: str = ""

    def markdown(self) -> str:
        return f"| {self.what} | {self.must} | {self.measured} | {self.cpu} | {self.memory} |"


def markdown(rows: list[Row], command: str) -> str:
    """The table, with what a reader must know to measure it again."""
    lines = [
        f"Measured on {dt.datetime.now(dt.UTC):%Y-%m-%d} with `{command}`: {machine()}",
        "",
        f"| {' | '.join(_HEAD)} |",
        "|" + "---|" * len(_HEAD),
        *(row.markdown() for row in rows),
    ]
    return "\n".join(lines)


def machine() -> str:
    """Processor, cores, memory, system, Python, and how busy all was at the end."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    built = (
        ""
        if "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
        else ", configured without --enable-optimizations"
    )
    return (
        f"{os.cpu_count()} cores ({model}), {memory / 2**20:.0f} GB, Linux {platform.release()}, "
        f"CPython {sys.version.split()[0]}{built}, load {os.getloadavg()[1]:.1f}"
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).exists() else []
