"""Commands about subscribers. An ADDRESS may be `-`, which reads it from stdin, or the ledger's id `s_…`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli import subscriber_files, subscriber_stats
from service.cli.output import actor, confirm, print_fields, print_json, say
from service.cli.rehearsing import changing
from service.domain.errors import InvalidInputError
from service.domain.subscriber import SuppressionReason

if TYPE_CHECKING:
    from service.audience.departures import Departures
    from service.bootstrap import Services
    from service.domain.chains import Chain
    from service.store import Session
    from service.store.departures import DepartureLog

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="The address, an id s_…, or - to read it from stdin.")]
Languages = Annotated[str, typer.Option("--languages", metavar="be,ru", help="Accepted languages, first choice first.")]

subscriber = typer.Typer(no_args_is_help=True, help="Readers: who gets the mail, in which languages.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    subscriber_files.register(subscriber)
    subscriber_stats.register(subscriber)
    app.add_typer(subscriber, name="subscriber")


@subscriber.command("add")
def add(
    address: Address,
    languages: Languages,
    consent: Annotated[str | None, typer.Option(help="Where the reader's consent comes from.")] = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Add a reader you vouch for; active at once."""
    from service.audience import adding
    from service.bootstrap import services

    parts = services()
    typed = _typed(address)
    with changing(parts.database, dry_run=dry_run) as session:
        chain = _chain(session, languages)
        reader, added = adding.add(session, typed, chain, consent=consent, actor=actor(), now=parts.now())
    fields = {"id": reader.public_id, "languages": str(reader.chain), "added": added, "dry_run": dry_run}
    _answer(fields, f"{reader.public_id} {_done('added', dry_run) if added else 'is a reader already'}", json=json)


@subscriber.command("show")
def show(address: Address, json: Json = False) -> None:
    """Print what is stored of one reader, without the address."""
    from service.audience import looking_up
    from service.bootstrap import services
    from service.store import bounces, suppressions

    typed, parts = _typed(address), services()
    with parts.database.read() as session:
        reader = looking_up.reader(session, typed)
        suppression = suppressions.find(session, reader.address_hash)
        scored = bounces.of_reader(session, reader.id, today=parts.now().date())
    fields = {
        "id": reader.public_id,
        "languages": str(reader.chain),
        "status": reader.status.value,
        "suppressed": suppression.reason.value if suppression else None,
        "soft_refusals": len(scored),
        "joined_week": str(reader.joined_week),
        "consent": reader.consent,
        "text_only": reader.text_only,
        "paused_until": reader.paused_until.isoformat() if reader.paused_until else None,
    }
    if json:
        print_json(fields)
    else:
        # A score of nothing is nothing to show.
        print_fields({name: value for name, value in fields.items() if value not in (None, 0)})


@subscriber.command("set")
def set_(address: Address, languages: Languages, json: Json = False, dry_run: DryRun = False) -> None:
    """Change a reader's languages; a mailing that runs heeds it for what was not sent yet."""
    from service.audience import looking_up, preferences
    from service.bootstrap import services

    parts = services()
    typed = _typed(address)
    with changing(parts.database, dry_run=dry_run) as session:
        chain = _chain(session, languages)
        reader = looking_up.reader(session, typed)
        changed = preferences.set_chain(session, reader, chain, actor=actor(), now=parts.now())
    fields = {"id": reader.public_id, "languages": str(chain), "changed": changed, "dry_run": dry_run}
    said = f"{_done('changed', dry_run)} from {reader.chain} to {chain}" if changed else f"has {chain} already"
    _answer(fields, f"{reader.public_id} {said}", json=json)


@subscriber.command("erase")
def erase(address: Address, yes: Yes = False, json: Json = False, dry_run: DryRun = False) -> None:
    """Remove a reader for good; only a keyed hash stays, so that no import brings the address back."""
    from service.audience import erasure, looking_up
    from service.bootstrap import services

    parts = services()
    typed = _typed(address)
    with parts.database.read() as session:
        looking_up.reader(session, typed)
    if not dry_run:
        confirm("Erase this reader? It cannot be taken back.", yes=yes)
    departures = _departures(parts, dry_run=dry_run)
    with changing(parts.database, dry_run=dry_run) as session:
        reader = looking_up.reader(session, typed)
        erasure.erase(session, departures, reader, actor=actor(), now=parts.now())
    fields = {"id": reader.public_id, "erased": True, "dry_run": dry_run}
    _answer(fields, f"{reader.public_id} {_done('erased', dry_run)}", json=json)


@subscriber.command("suppress")
def suppress(
    address: Address,
    reason: Annotated[SuppressionReason, typer.Option(help="Why it must not be mailed.")] = SuppressionReason.OPERATOR,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Have an address, known or not, never mailed, until `unsuppress`."""
    from service.audience import suppressing
    from service.bootstrap import services

    parts = services()
    typed = _typed(address)
    departures = _departures(parts, dry_run=dry_run)
    with changing(parts.database, dry_run=dry_run) as session:
        now = parts.now()
        changed = suppressing.suppress(session, departures, typed, reason, actor=actor(), now=now)
    said = _done("suppressed", dry_run) if changed else "was suppressed already"
    _answer({"changed": changed, "reason": reason.value, "dry_run": dry_run}, f"the address {said}", json=json)


@subscriber.command("unsuppress")
def unsuppress(address: Address, json: Json = False, dry_run: DryRun = False) -> None:
    """Allow a suppressed address again. Who complained or left still has to sign up anew."""
    from service.audience import suppressing
    from service.bootstrap import services

    parts = services()
    typed = _typed(address)
    departures = _departures(parts, dry_run=dry_run)
    with changing(parts.database, dry_run=dry_run) as session:
        lifted = suppressing.unsuppress(session, departures, typed, actor=actor(), now=parts.now())
    said = f"the address ({lifted.value}) {_done('allowed again', dry_run)}"
    _answer({"changed": True, "reason": lifted.value, "dry_run": dry_run}, said, json=json)


@subscriber.command("reveal")
def reveal(
    address: Annotated[str, typer.Argument(metavar="ID", help="The id s_… of a reader.")], json: Json = False
) -> None:
    """Print the address behind an id. The audit log notes who asked."""
    from service.audience import exporting, looking_up
    from service.bootstrap import services

    parts = services()
    with parts.database.begin() as session:
        reader = looking_up.reader(session, address)
        found = exporting.reveal(session, reader, actor=actor(), now=parts.now())
    if json:
        print_json({"id": reader.public_id, "address": found})
    else:
        sys.stdout.write(found + "\n")


@subscriber.command("reapply")
def reapply(
    log: Annotated[
        list[Path] | None,
        typer.Option(
            "--log", metavar="FILE", help="Another host's departures.log, read together with ours; repeatable."
        ),
    ] = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """After a restored backup: send away again everybody whose departure this machine, or a FILE, wrote down."""
    from service.audience import departures as use_case
    from service.bootstrap import services

    others = [_log_of_another_host(path) for path in log or ()]
    parts = services()
    with changing(parts.database, dry_run=dry_run) as session:
        done = use_case.reapply(session, parts.departures, others=others, actor=actor(), now=parts.now())
    said = f"{done.unsubscribed} unsubscribed, {done.erased} erased, {done.suppressed} suppressed again"
    _answer({**asdict(done), "dry_run": dry_run}, said + ("; a dry run" if dry_run else ""), json=json)


def _log_of_another_host(path: Path) -> DepartureLog:
    from service.store.departures import DepartureLog

    log = DepartureLog(path)
    try:
        if not path.is_file():
            raise InvalidInputError(f"{path}: there is no such file, or it is not a regular one")
        if path.stat().st_size and next(iter(log.read()), None) is None:
            raise InvalidInputError(f"{path}: this is no departures.log; each host keeps its own in its data directory")
    except OSError as error:
        raise InvalidInputError(f"{path}: the log cannot be read ({error.strerror})") from None
    return log


def _departures(parts: Services, *, dry_run: bool) -> Departures:
    """Where those who leave are written down; a rehearsal writes nothing."""
    from service.audience.departures import Nowhere

    return Nowhere() if dry_run else parts.departures


def _typed(address: str) -> str:
    """The address that was meant: `-` reads it from stdin, which no shell history and no list of processes shows."""
    if address != "-":
        return address
    came = [sys.stdin.readline()] if sys.stdin.isatty() else sys.stdin
    lines = [line.strip() for line in came if line.strip()]
    if len(lines) != 1:
        found = f"{len(lines)} lines" if lines else "nothing"
        raise InvalidInputError(
            f"{found} came on stdin, where one address was expected; many: tydzen subscriber import"
        )
    return lines[0]


def _chain(session: Session, languages: str) -> Chain:
    from service.domain.chains import Chain
    from service.store import publication

    return Chain.parse(languages, publication.load(session).languages)


def _done(participle: str, dry_run: bool) -> str:
    return f"would be {participle}" if dry_run else f"is {participle}"


def _answer(fields: dict[str, Any], said: str, *, json: bool) -> None:
    if json:
        print_json(fields)
    else:
        say(said)
