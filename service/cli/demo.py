"""`tydzen demo`: the main job on one machine with nothing set, a sample issue to 1,000 readers, accounted for."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.output import actor, say
from service.domain.errors import CheckFailedError, UnavailableError
from service.domain.limits import checked_rate

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.delivery.progress import Status

WEEK = "2019-W22"
# Of a hundred sample readers, how many accept which languages, in order.
_CHAINS = {"be": 22, "be,ru": 24, "ru": 16, "ru,be": 12, "en": 14, "en,be": 7, "be,en,ru": 5}
_READY_SECONDS = 120
_SEND_SECONDS = 300


def register(app: typer.Typer) -> None:
    """Hang the command into the tree."""
    app.command("demo")(demo)


def demo(
    readers: Annotated[int, typer.Option(min=1, max=100_000, help="How many sample readers.")] = 1000,
    rate: Annotated[float, typer.Option(help="Mails per second; 0: as fast as it goes.")] = 100,
) -> None:
    """Import a sample issue and 1,000 sample readers, send it through real workers, and show who got what.

    Everything is in var/demo, which is made anew each time. On a terminal the site and the inbox stay up until Ctrl-C.
    """
    checked_rate(rate, "--rate", zero="0 = as fast as it goes")
    folder = Path("var/demo").absolute()
    _prepare(folder)
    from service.bootstrap import services

    parts = services()
    _import(parts, folder, readers)
    with _everything_running(parts, folder) as child:
        found = _send(parts, child, rate)
        mistakes = _check(parts, found, readers)
        _where_to_look(parts, found)
        for mistake in mistakes:
            say(f"WRONG: {mistake}")
        if not mistakes:
            say(f"checked: {readers} readers, {found.counts.accepted} mails in the inbox, one each, in their languages")
        if _serving():
            say("Site and inbox stay up. Ctrl-C ends it.")
            _wait(child)
    raise typer.Exit(1 if mistakes else 0)


def _prepare(folder: Path) -> None:
    """A new, empty data directory and the environment of an installation where nothing is set."""
    from service.embedded.programs import free_port_near, only_one

    # Refused while another demo still uses the folder; the lock itself is `up`'s.
    with only_one(folder):
        pass
    shutil.rmtree(folder)
    folder.mkdir(parents=True, mode=0o700)
    for variable in [name for name in os.environ if name.upper().startswith("TYDZEN_")]:
        del os.environ[variable]
    web, inbox = free_port_near(8000), free_port_near(2525)
    os.environ |= {
        "TYDZEN_DATA_DIR": str(folder),
        "TYDZEN_WEB_PORT": str(web),
        "TYDZEN_INBOX_PORT": str(inbox),
        "TYDZEN_BASE_URL": f"http://localhost:{web}",
        "TYDZEN_LOG_LEVEL": "WARNING",
    }
    # A `.env` of the installation beside must not send sample mails through its relay.
    os.chdir(folder)


def _import(parts: Services, folder: Path, readers: int) -> None:
    """Schema, publication, issue and readers, as the commands of the same names do it."""
    from service.audience.importing import import_file
    from service.domain.weeks import Week
    from service.editorial.approving import approve_issue
    from service.editorial.importing import import_issue
    from service.editorial.publishing import import_publication
    from service.embedded.programs import PROJECT

    say("tydzen db upgrade")
    parts.upgrade_database()
    now, examples = parts.now(), PROJECT / "examples"
    say(f"tydzen publication import examples; tydzen issue import examples/issues/{WEEK}; tydzen issue approve {WEEK}")
    with parts.database.begin() as session:
        import_publication(session, examples, actor=actor(), now=now)
        import_issue(session, examples / "issues" / WEEK, actor=actor(), now=now)
        approve_issue(session, Week.parse(WEEK), language=None, actor=actor(), now=now)
    file = folder / "readers.csv"
    file.write_text("email,languages\n" + "".join(_lines(readers)))
    say("tydzen subscriber import readers.csv")
    report = import_file(parts.database, parts.departures, file, languages=None, consent="demo", actor=actor(), now=now)
    say(f"  {report.new} readers, {len(_CHAINS)} chains of languages")


def _lines(readers: int) -> Iterator[str]:
    """Readers of every chain, mixed, the same ones each time."""
    bounds = list(accumulate(_CHAINS.values()))
    for number in range(readers):
        # 37 and 100 have no common divisor: a hundred in a row meet every place once.
        place = number * 37 % 100
        chain = next(chain for chain, bound in zip(_CHAINS, bounds, strict=True) if place < bound)
        yield f'reader-{number + 1:05d}@example.test,"{chain}"\n'


@contextmanager
def _everything_running(parts: Services, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`tydzen up` as a child, its words in up.log; ended in order at the end."""
    from service.embedded.programs import listening
    from service.embedded.tied import tied

    say("tydzen up")
    settings = parts.settings
    with (folder / "up.log").open("wb") as log:
        command = tied([sys.executable, "-m", "service.cli", "up"])
        # A session of its own: Ctrl-C is for this process, which then ends the child in order.
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log, start_new_session=True)  # noqa: S603
    try:
        give_up = time.monotonic() + _READY_SECONDS
        while not listening(settings.web_host, settings.web_port):
            if child.poll() is not None or time.monotonic() > give_up:
                raise UnavailableError(f"the services did not start; they say why in {folder / 'up.log'}")
            time.sleep(0.1)
        yield child
    finally:
        if child.poll() is None:
            say("ending the services")
            child.send_signal(signal.SIGTERM)
        child.wait()


def _send(parts: Services, child: subprocess.Popen[bytes], rate: float) -> Status:
    from service.cli import mailing_status, watching
    from service.delivery import release

    say(f"tydzen issue send {WEEK} --rate {rate:.10g} --watch")
    with parts.database.begin() as session:
        made = release.send(session, WEEK, parts.bell, parts.blocking, actor=actor(), now=parts.now(), rate=rate)
    with _guarded(child):
        found = watching.watch(parts, made)
    mailing_status.show_status(found)
    return found


@contextmanager
def _guarded(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """End the block with words when the services end under it, or when it lasts unbelievably long."""

    def ended(_number: int, _frame: object) -> None:
        if child.poll() is not None:
            raise UnavailableError("the services ended while the issue was sent; they say why in var/demo/up.log")

    def late(_number: int, _frame: object) -> None:
        raise UnavailableError(f"the issue was not sent within {_SEND_SECONDS // 60} minutes; see var/demo/logs")

    before = {signal.SIGCHLD: signal.signal(signal.SIGCHLD, ended), signal.SIGALRM: signal.signal(signal.SIGALRM, late)}
    signal.alarm(_SEND_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True, slots=True)
class _Received:
    """What the inbox holds of one mail."""

    reader: str
    language: str


def _received(folder: Path) -> list[_Received]:
    found = []
    for path in (folder / "new").glob("*.tydzen"):
        with path.open("rb") as file:
            head = file.read(16_384).partition(b"\r\n\r\n")[0].decode("utf-8", "replace")
        fields = dict(line.split(": ", 1) for line in head.split("\r\n") if ": " in line)
        found.append(_Received(fields.get("Delivered-To", ""), fields.get("Content-Language", "")))
    return found


def _check(parts: Services, found: Status, readers: int) -> list[str]:
    """What does not add up between the readers, the ledger and the inbox; nothing, where all is well."""
    mails = _received(parts.settings.inbox_dir)
    counts, mistakes = found.counts, []
    if found.candidates != readers:
        mistakes.append(f"{readers} readers, but {found.candidates} candidates")
    if counts.planned != readers or counts.unfinished:
        mistakes.append(f"{readers} readers, {counts.planned} planned, {counts.unfinished} not finished")
    if counts.accepted != readers:
        mistakes.append(f"{readers} readers, but {counts.accepted} accepted")
    if len(mails) != counts.accepted:
        mistakes.append(f"{counts.accepted} accepted, but {len(mails)} mails in the inbox")
    twice = [reader for reader, times in Counter(mail.reader for mail in mails).items() if times > 1]
    if twice:
        mistakes.append(f"{len(twice)} readers got more than one mail")
    by_language = Counter(mail.language for mail in mails)
    wanted: Counter[str] = Counter()
    for chain, edition in found.editions.items():
        wanted[chain.partition(",")[0]] += edition.accepted
    if {language.partition(",")[0].strip() for language in by_language} != set(wanted):
        mistakes.append(f"editions of {dict(wanted)}, but mails of {dict(by_language)}")
    return mistakes


def _serving() -> bool:
    return sys.stdin.isatty() and sys.stderr.isatty() and not os.environ.get("CI")


def _where_to_look(parts: Services, found: Status) -> None:
    site = f"http://localhost:{parts.settings.web_port}"
    command = f"TYDZEN_DATA_DIR=var/demo {sys.argv[0] if sys.argv[0].endswith('tydzen') else 'tydzen'}"
    look = {"var/demo/inbox/new": "the mails as files"}
    if _serving():
        look = {
            f"{site}/inbox/": "the mails, as readers see them",
            f"{site}/be/issues/{WEEK}/": "the issue in the browser; /en/ and /ru/ too",
        }
    look |= {
        f"{command} mailing ledger {found.mailing.id}": "a line for each reader",
        f"{command} explain reader-00001@example.test {WEEK}": "what one reader got, and why",
    }
    say("\nWhere to look:")
    for what, words in look.items():
        say(f"  {what}\n      {words}")


def _wait(child: subprocess.Popen[bytes]) -> None:
    try:
        code = child.wait()
    except KeyboardInterrupt:
        return
    if code:
        raise CheckFailedError("the services ended by themselves; they say why in var/demo/up.log")
