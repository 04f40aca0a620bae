"""`tydzen sweep`: look for due work once, or for ever beside a worker."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from service import log
from service.cli.output import print_json, say

_log = log.get("sweep")


def register(app: typer.Typer) -> None:
    """Hang the command into the tree."""
    app.command("sweep")(sweep)


def sweep(
    every: Annotated[float, typer.Option(help="Go on, this many seconds apart; 0 = once.", min=0, max=86_400)] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, where it is done once.")] = False,
) -> None:
    """Look for due slots, lost hints and dead workers' journals; every worker does this by itself."""
    from service.bootstrap import services

    parts = services()
    if not every:
        swept = parts.sweep.run()
        if json:
            print_json({"swept": swept})
        else:
            say("swept" if swept else "another process is sweeping at this moment")
        return
    while True:
        started = time.monotonic()
        try:
            parts.sweep.run()
        except Exception as error:  # noqa: BLE001  # the edge: one failed sweep must not be the last
            _log.warning("sweep-failed", error=f"{type(error).__name__}: {error}")
        time.sleep(max(0.0, every - (time.monotonic() - started)))
