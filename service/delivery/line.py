"""A line to a relay: one sender row, its journal and its wire, held by one worker process and replaced as a whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from service import faults
from service.mail import autopsy
from service.mail.dkim import Signer
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
    def relay(self) -> str:
        """The relay's name."""
        return self.wire.relay.name

    @property
    def worn(self) -> bool:
        """Whether a new line should begin before the next batch."""
        return self.journal.records > _RECORDS_PER_JOURNAL


def open_line(
    database: Database, data_dir: Path, relay: Relay, *, helo_name: str, signer: Signer | None = None
) -> Line:
    """A new line. The journal is locked before anything is gated, so that its death can be noticed."""
    with database.begin() as session:
        sender = senders.register(session, host=host_id(data_dir), boot=boot_id(), relay=relay.name)
    faults.point("line-registered")
    journal = Journal(data_dir, sender_id=sender)
    faults.point("line-opened")
    return Line(sender, journal, Wire(relay, journal=journal, helo_name=helo_name, signer=signer))


class LineKeeper:
    """Holds the lines of one process, one to each relay, in their order: opens, replaces and closes them together."""

    def __init__(self, database: Database, openers: Sequence[Callable[[], Line]]) -> None:
        self._database = database
        self._openers = tuple(openers)
        self._lines: tuple[Line, ...] = ()
        self._unaccounted = 0
        self._in_doubt = False

    async def ready(self) -> tuple[Line, ...]:
        """The lines to use now; new ones where one is worn or in doubt, so nothing may be under way on them."""
        if self._unaccounted or any(line.worn for line in self._lines):
            await self.close()
        for open_line in self._openers[len(self._lines) :]:
            self._lines += (open_line(),)
        return self._lines

    @asynccontextmanager
    async def accounted(self) -> AsyncIterator[None]:
        """Work at whose end every outcome is recorded; several may go on beside each other.

        An exception in one ends the lines for all: each finishes what is past its dot, and is told that the rest was
        not sent. Once all have ended, the journals decide what is not recorded.
        """
        self._unaccounted += 1
        try:
            yield
        except BaseException:
            self._in_doubt = True
            for line in self._lines:
                line.wire.stop()
            raise
        finally:
            if self._in_doubt and self._unaccounted == 1:
                await self.close()
            self._unaccounted = max(0, self._unaccounted - 1)

    async def close(self) -> None:
        """End the sessions; the journals are settled at once where all is recorded, else by the next sweep."""
        lines, self._lines = self._lines, ()
        in_doubt, self._in_doubt = self._in_doubt or self._unaccounted > 0, False
        await asyncio.gather(*(line.wire.close() for line in lines))
        for line in lines:
            line.journal.close()
            faults.point("line-closed")
            if not in_doubt:
                self._settle(line)

    def _settle(self, line: Line) -> None:
        with self._database.begin() as session:
            senders.settle(session, line.sender)
        faults.point("line-settled")
        # A sweep that came between the two has settled it already.
        with suppress(FileNotFoundError):
            autopsy.settle(line.journal.path)
