"""A line to the relay: one sender row, its journal and its wire, held by one worker process and replaced as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    journal = Journal(data_dir, sender_id=sender)
    return Line(sender, journal, Wire(relay, journal=journal, helo_name=helo_name))


async def close_line(database: Database, line: Line, *, recorded: bool) -> None:
    """End the sessions; where every outcome is `recorded`, the journal is settled at once, else by the next sweep."""
    await line.wire.close()
    line.journal.close()
    if not recorded:
        return
    with database.begin() as session:
        senders.settle(session, line.sender)
    autopsy.settle(line.journal.path)
