"""What the tests of the wire share: a small edition, letters, and a wire that is run to its end on a loop of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from service.clock import suspended_monotonic
from service.domain.slots import MARKERS, Slot, SlotValues
from service.mail import autopsy
from service.mail.dkim import Signer
from service.mail.journal import Journal
from service.mail.letter import Letter, Outcome, Timeouts
from service.mail.message import Body, Letterhead, ListHeaders, Mailbox, issue_rendition
from service.mail.relay import Relay
from service.mail.segments import Rendition
from service.mail.tls import Tls
from service.mail.wire import Wire

BASE = "https://weekly.example.org"
UNSUBSCRIBE = f"{BASE}/u/{MARKERS[Slot.UNSUBSCRIBE]}"
PREFERENCES = f"{BASE}/p/{MARKERS[Slot.PREFERENCES]}"
LIST_HEADERS = ListHeaders(
    "weekly.example.org", "The Weekly", UNSUBSCRIBE, None, f"{BASE}/help", "owner@example.org", f"{BASE}/archive"
)
LETTERHEAD = Letterhead(
    Mailbox("Тыдзень", "news@example.org"), "Тыдзень", "be", list_headers=LIST_HEADERS, feedback_id="i:w:s"
)
FAST = Timeouts(
    connect=0.4,
    greeting=0.4,
    command=0.4,
    setup=1.0,
    mail=0.4,
    rcpt=0.4,
    data=0.4,
    body=0.4,
    dot=0.6,
    idle=30,
    quit=0.4,
)
# What is not about a time-out has the service's own: a busy machine stands still for longer than FAST allows.
PATIENT = Timeouts()


def body(paragraphs: int = 5) -> Body:
    html = "<p>Прывітанне, тыдзень!</p>\n.\n..\n" * paragraphs + f'<a href="{UNSUBSCRIBE}">x</a> {PREFERENCES}\n'
    return Body(html, f"Прывітанне\n.\n{UNSUBSCRIBE}\n")


RENDITION = issue_rendition(LETTERHEAD, body())
LARGE = issue_rendition(LETTERHEAD, body(8000))  # 400 KB: more than a socket takes at once


def values(number: int, recipient: str) -> SlotValues:
    name = b"%06d" % number
    return SlotValues(
        name * 8, name[::-1] * 8, recipient.encode(), b"<%b@example.org>" % name, b"Mon, 03 Jun 2019 09:00:00 +0300"
    )


def letter(
    number: int = 1, recipient: str | None = None, *, gate: float = 5, rendition: Rendition = RENDITION
) -> Letter:
    recipient = recipient if recipient is not None else f"r{number}@example.net"
    filled = values(number, recipient)
    return Letter(number, 1, recipient, f"b-{number}@example.org", rendition, filled, suspended_monotonic() + gate)


@dataclass
class Run:
    """What came of a run: outcomes by delivery id, and the journal as a sweep would read it."""

    outcomes: dict[int, Outcome] = field(default_factory=dict)
    doubles: int = 0
    contents: autopsy.JournalContents | None = None
    trouble: str | None = None
    kind: str = ""

    def note(self, outcome: Outcome) -> None:
        self.doubles += outcome.delivery_id in self.outcomes
        self.outcomes[outcome.delivery_id] = outcome

    def classes(self) -> list[str]:
        return [self.outcomes[number].reply_class.value for number in sorted(self.outcomes)]

    def verdict(self, number: int = 1) -> autopsy.Verdict:
        assert self.contents is not None
        return self.contents.verdict(number, 1)


def local(port: int, *, connections: int = 1, window: int = 4, **more: object) -> Relay:
    return Relay("127.0.0.1", port, Tls.NONE, connections=connections, window=window, **more)  # type: ignore[arg-type]


async def until(condition: Callable[[], object], seconds: float) -> None:
    """Wait until it is so, which must be within so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


Regate = Callable[[Letter], Awaitable[float | None]]


async def _shut(_letter: Letter) -> None:
    return None


def send(
    loop: asyncio.AbstractEventLoop,
    relay: Relay,
    letters: Sequence[Letter],
    folder: Path,
    *,
    timeouts: Timeouts = PATIENT,
    regate: Regate | None = None,
    trial: int = 0,
    signer: Signer | None = None,
) -> Run:
    """Submit all at once, without waiting for room, and wait for every outcome; the gate opens once, if not told more.

    With a gate that can be asked again, as letters of a batch have it: they take the short way through a conversation.
    """

    async def work(wire: Wire, run: Run) -> None:
        wire.submit(letters, run.note, regate=regate or _shut)
        await wire.drain()

    return using(loop, relay, folder, work, timeouts=timeouts, trial=trial, signer=signer)


def using(
    loop: asyncio.AbstractEventLoop,
    relay: Relay,
    folder: Path,
    work: Callable[[Wire, Run], Awaitable[None]],
    *,
    timeouts: Timeouts = PATIENT,
    trial: int = 0,
    signer: Signer | None = None,
) -> Run:
    """Run `work` with a wire, then close it and read its journal; without a `trial`, BDAT from the first letter on."""
    run = Run()

    async def main(journal: Journal) -> None:
        wire = Wire(
            relay, journal=journal, helo_name="client.example.org", timeouts=timeouts, trial=trial, signer=signer
        )
        try:
            await work(wire, run)
            run.trouble, run.kind = wire.trouble, wire.trouble_kind
        finally:
            await wire.close()
        assert wire.in_flight == 0

    with Journal(folder, sender_id=1) as journal:
        loop.run_until_complete(asyncio.wait_for(main(journal), 60))
        path = journal.path
    run.contents = autopsy.read(path)
    assert run.doubles == 0
    return run
