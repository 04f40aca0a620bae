"""A line to the relay: one sender row, its journal and its wire, held by one worker process and replaced as a whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service import faults
from service.mail import autopsy
from service.mail.host import boot_id, host_id
from service.mail.journal import Journal
from service.mail.relay import Relay
from service.mail.wire import Wire
from service.store import Database, senders

# A journal of this many records is 12 MB; a new line then begins, and its old journal is done with.
_RECORDS_PER_JOURNAL = 400_000


@dataclass(frozen=True, slots=True)
class Line:
    """Made by `open_line` in the process that uses it, inside its event loop."""

    sender: int
    journal: Journal
    wire: Wire

    @property
    def worn(self) -> bool:
        """Whether a new line should begin before the next batch."""
        return self.journal.records > _RECORDS_PER_JOURNAL


def open_line(database: Database, data_dir: Path, relay: Relay, *, helo_name: str) -> Line:
    """A new line. The journal is locked before anything is gated, so that its death can be noticed."""
    with database.begin() as session:
        sender = senders.register(session, host=host_id(data_dir), boot=boot_id(), relay=relay.name)
    faults.point("line-registered")
    journal = Journal(data_dir, sender_id=sender)
    faults.point("line-opened")
    return Line(sender, journal, Wire(relay, journal=journal, helo_name=helo_name))


class LineKeeper:
    """Holds the line of one process: opens it when first needed, replaces it when it is worn or in doubt, closes it."""

    def __init__(self, database: Database, open_line: Callable[[], Line]) -> None:
        self._database = database
        self._open_line = open_line
        self._line: Line | None = None
        self._unaccounted = 0

    async def ready(self) -> Line:
        """The line to use now."""
        if self._line is not None and (self._line.worn or self._unaccounted):
            await self.close()
        if self._line is None:
            self._line = self._open_line()
        return self._line

    @asynccontextmanager
    async def accounted(self) -> AsyncIterator[None]:
        """Work at whose end every outcome is recorded. An exception ends the line: its journal decides, at once."""
        self._unaccounted += 1
        try:
            yield
        except BaseException:
            await self.close()
            raise
        self._unaccounted -= 1

    async def close(self) -> None:
        """End the sessions; the journal is settled at once where all is recorded, else by the next sweep."""
        line, self._line = self._line, None
        in_doubt, self._unaccounted = self._unaccounted, 0
        if line is None:
            return
        await line.wire.close()
        line.journal.close()
        faults.point("line-closed")
        if in_doubt:
            return
        with self._database.begin() as session:
            senders.settle(session, line.sender)
        faults.point("line-settled")
        # A sweep that came between the two has settled it already.
        with suppress(FileNotFoundError):
            autopsy.settle(line.journal.path)
