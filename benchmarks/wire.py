"""Letters per second and CPU per letter of the mail client, as ratios to Postfix's smtp-source in the same run.

    python -m benchmarks.wire [--letters 20000] [--sink fast|postfix|both]

Run it on a quiet machine: the sink, the client and whatever else runs share its cores.
"""

from __future__ import annotations

import argparse
import gc
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks import parts
from service.clock import suspended_monotonic
from service.domain.slots import MARKERS, Slot, SlotValues
from service.mail.journal import Journal
from service.mail.letter import Letter, Outcome
from service.mail.loop import new_event_loop
from service.mail.message import Body, Letterhead, ListHeaders, Mailbox, issue_rendition
from service.mail.relay import Relay
from service.mail.segments import Rendition
from service.mail.tls import Tls
from service.mail.wire import Wire

SIZE = 44_000


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    rate: float  # letters per second
    cpu: float  # microseconds of the client per letter


def rendition(paragraph: str = "Падзеі тыдня: што змянілася і што не. ") -> Rendition:
    base = "https://weekly.example.org"
    unsubscribe = f"{base}/u/{MARKERS[Slot.UNSUBSCRIBE]}"
    headers = ListHeaders("weekly.example.org", "The Weekly", unsubscribe, None, base, "owner@example.org", base)
    head = Letterhead(
        Mailbox("Тыдзень", "news@example.org"), "Тыдзень", "be", list_headers=headers, feedback_id="i:w:s"
    )
    line = f"<p>{paragraph}</p>\n"
    footer = f'<a href="{unsubscribe}">x</a>\n<a href="{base}/p/{MARKERS[Slot.PREFERENCES]}">y</a>\n'
    html = line * ((SIZE - 4000) // len(line.encode())) + footer
    return issue_rendition(head, Body(html, f"{paragraph}\n" * 30 + f"{unsubscribe}\n"))


def letters(count: int, frozen: Rendition) -> Iterator[Letter]:
    for number in range(count):
        name = b"%06d" % number
        values = SlotValues(
            unsubscribe=name * 8,
            preferences=name * 8,
            recipient=b"r%b@example.net" % name,
            message_id=b"<%b@example.org>" % name,
            date=b"Mon, 03 Jun 2019 09:00:00 +0300",
        )
        recipient, sender = values.recipient.decode(), f"b-{number:06}@example.org"
        yield Letter(number, 1, recipient, sender, frozen, values, suspended_monotonic() + 600)


async def send(relay: Relay, count: int, frozen: Rendition, folder: Path) -> tuple[float, float]:
    outcomes: Counter[str] = Counter()

    def note(outcome: Outcome) -> None:
        outcomes[outcome.reply_class.value] += 1

    async def shut(_letter: Letter) -> None:
        return None

    with Journal(folder, sender_id=1) as journal:
        wire = Wire(relay, journal=journal, helo_name="bench.example.org")
        # Made before the clock starts: keys, tokens and gates have a benchmark of their own.
        supply, left = iter(list(letters(count, frozen))), count
        gc.freeze()  # nobody holds so many letters at once: the collector shall not walk them
        await wire.room()
        used, started = cpu(resource.RUSAGE_SELF), time.perf_counter()
        while left:
            group = min(left, await wire.room(100))
            wire.submit([next(supply) for _ in range(group)], note, regate=shut)
            left -= group
        await wire.drain()
        seconds = time.perf_counter() - started
        used = cpu(resource.RUSAGE_SELF) - used
        await wire.close()
    assert outcomes == {"accepted": count}, outcomes
    return seconds, used


def cpu(who: int) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def measure_wire(
    name: str, port: int, count: int, frozen: Rendition, window: int, *, connections: int = parts.CONNECTIONS
) -> Result:
    relay = Relay("127.0.0.1", port, Tls.NONE, connections=connections, window=window)
    loop = new_event_loop()
    with tempfile.TemporaryDirectory() as folder:
        seconds, used = loop.run_until_complete(send(relay, count, frozen, Path(folder)))
    loop.close()
    return Result(name, count / seconds, used / count * 1e6)


def measure_source(port: int, count: int) -> Result:
    return Result("smtp-source", *parts.source(port, count, SIZE))


def compare(name: str, command: list[str], port: int, count: int) -> None:
    print(f"\n{name}: {count} letters of {SIZE} octets, {parts.CONNECTIONS} connections")
    latin = rendition("The week’s events: what has changed, and what has not. ")
    cyrillic = rendition()
    quoted = Rendition(eight_bit=None, seven_bit=latin.seven_bit)
    armoured = Rendition(eight_bit=None, seven_bit=cyrillic.seven_bit)
    results: list[Result] = []
    with parts.sink(command, port):
        source = measure_source(port, count)
        results.append(source)
        results.append(measure_wire("wire, DATA, 8bit", port, count, cyrillic, 0))
        results.append(measure_wire("wire, CHUNKING, 8bit", port, count, cyrillic, 4))
        results.append(measure_wire("wire, DATA, quoted-printable", port, count, quoted, 0))
        results.append(measure_wire("wire, DATA, base64", port, count, armoured, 0))
        results.append(measure_source(port, count))
    for result in results:
        ratio = result.rate / source.rate
        print(f"{result.name:30} {result.rate:9.0f}/s {result.cpu:7.1f} µs CPU per letter {ratio:6.2f} × smtp-source")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--letters", type=int, default=20_000)
    parser.add_argument("--sink", choices=["fast", "postfix", "both"], default="both")
    options = parser.parse_args()
    if not Path(parts.SMTP_SOURCE).exists():
        print("smtp-source is missing: install postfix to compare with it", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        if options.sink in {"fast", "both"} and shutil.which("cc"):
            port = parts.free_port()
            compare("fast_sink", [parts.fast_sink(Path(folder)), str(port)], port, options.letters)
        if options.sink in {"postfix", "both"}:
            port = parts.free_port()
            compare("smtp-sink", [parts.SMTP_SINK, "-u", "nobody", f"127.0.0.1:{port}", "512"], port, options.letters)
    return 0


if __name__ == "__main__":
    sys.exit(main())
