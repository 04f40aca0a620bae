"""The progress of a mailing, watched: one bar with what was sent, the rate, the time left and the failures."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.cli.output import messages, say

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.delivery.progress import Status

_EVERY_SECONDS = 0.5
_RATE_WINDOW = 20
_SAY_EVERY_SECONDS = 5.0


def watch(parts: Services, mailing: int) -> Status:
    """Show the mailing until it is sent, cancelled or paused; on no terminal, a line every few seconds."""
    return _bar(parts, mailing) if messages.is_terminal else _lines(parts, mailing)


def looks(parts: Services, mailing: int) -> Iterator[Status]:
    """The mailing's status, now and each half a second, until it is sent, cancelled or paused."""
    while True:
        status = _status(parts, mailing)
        yield status
        if _over(status):
            return
        time.sleep(_EVERY_SECONDS)


def _status(parts: Services, mailing: int) -> Status:
    from service.delivery import progress

    with parts.database.look() as session:
        return progress.status(session, mailing)


def _over(status: Status) -> bool:
    from service.domain.mailing import SETTLED, MailingState

    return status.mailing.state in SETTLED | {MailingState.PAUSED}


def _bar(parts: Services, mailing: int) -> Status:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.fields[state]:9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:6.0f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[failures]} failures"),
    )
    speed = _Speed()
    with Progress(*columns, console=messages) as bar:
        task = bar.add_task("", total=None, state="planning", rate=0.0, failures=0)
        while True:
            status = _status(parts, mailing)
            bar.update(
                task,
                total=status.counts.planned or None,
                completed=status.done,
                state=status.mailing.state.value,
                rate=speed.of(status.done),
                failures=status.not_reached,
            )
            if _over(status):
                return status
            time.sleep(_EVERY_SECONDS)


def _lines(parts: Services, mailing: int) -> Status:
    speed, said, before = _Speed(), 0.0, ""
    while True:
        status = _status(parts, mailing)
        over = _over(status)
        rate = speed.of(status.done)
        state = status.mailing.state.value
        if over or state != before or time.monotonic() - said > _SAY_EVERY_SECONDS:
            said, before = time.monotonic(), state
            say(f"{state}: {status.done}/{status.counts.planned} ({rate:.0f}/s), {status.not_reached} failures")
        if over:
            return status
        time.sleep(_EVERY_SECONDS)


class _Speed:
    """Letters per second over the last looks."""

    def __init__(self) -> None:
        self._looks: deque[tuple[float, int]] = deque(maxlen=_RATE_WINDOW)

    def of(self, done: int) -> float:
        self._looks.append((time.monotonic(), done))
        (first_at, first), (last_at, last) = self._looks[0], self._looks[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0
