"""Commands about mailings: what they do now, what an operator may do to them, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.output import (
    Exit,
    actor,
    amount,
    confirm,
    fail,
    local_time,
    print_json,
    print_json_lines,
    print_table,
    say,
    zoned_time,
)
from service.cli.rehearsing import changing, ending
from service.domain.delivery import RetryReason
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.mailing import MailingState

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.delivery.control import Retried
    from service.delivery.progress import Status
    from service.store.ledger import Entry
    from service.store.mailings import Mailing

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Id = Annotated[str, typer.Argument(help="The mailing's number, or the week of its issue.", metavar="ID")]

# The database's numbers end not much later.
_DIGITS = 9

mailing = typer.Typer(no_args_is_help=True, help="Mailings: watch, pause, resume, cancel, retry, account for.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(mailing, name="mailing")


@mailing.command("list")
def list_all(json: Json = False) -> None:
    """All mailings, the newest first."""
    from service.bootstrap import services
    from service.store import mailings

    with services().database.read() as session:
        found = mailings.everyone(session)
    if json:
        print_json_lines(_row(one) for one in found)
        return
    rows = [[one.id, one.week, _state(one), one.actor, local_time(one.created_at)] for one in found]
    print_table(["id", "issue", "state", "by", "made"], rows)


def _state(one: Mailing) -> str:
    if one.state is MailingState.SCHEDULED and one.release_at:
        return f"scheduled for {zoned_time(one.release_at)}"
    return one.state.value


@mailing.command("pause")
def pause(mailing_id: Id, dry_run: DryRun = False, json: Json = False) -> None:
    """Stop within a second; letters already handed over are finished."""
    from service.bootstrap import services
    from service.delivery import control

    parts = services()
    number = number_of(parts, mailing_id)
    with changing(parts.database, dry_run=dry_run) as session:
        control.pause(session, number, actor=actor(), now=parts.now())
    _done(number, "paused", dry_run=dry_run, json=json)


@mailing.command("resume")
def resume(mailing_id: Id, dry_run: DryRun = False, json: Json = False) -> None:
    """Go on with a paused mailing; if its issue was corrected meanwhile, the rest gets the corrected one."""
    from service.bootstrap import services
    from service.delivery import control

    parts = services()
    number = number_of(parts, mailing_id)
    with changing(parts.database, dry_run=dry_run) as session:
        now = parts.now()
        corrected = control.resume(session, number, parts.bell, proofs=parts.proofs, actor=actor(), now=now)
    _say_corrected(corrected, dry_run=dry_run)
    _done(number, "sending", dry_run=dry_run, json=json, corrected=len(corrected))


def _say_corrected(chains: Sequence[str], *, dry_run: bool) -> None:
    if chains:
        gets = "would get" if dry_run else "gets"
        say(f"whoever was not mailed yet {gets} the corrected issue ({' · '.join(chains)})")


@mailing.command("cancel")
def cancel(mailing_id: Id, dry_run: DryRun = False, yes: Yes = False, json: Json = False) -> None:
    """End a mailing: whoever was not mailed yet is skipped. `retry` takes it back."""
    from service.bootstrap import services
    from service.delivery import control, progress
    from service.domain.mailing import MailingEvent, require

    parts = services()
    number = number_of(parts, mailing_id)
    with parts.database.look() as session:
        found = progress.status(session, number)
    require(number, found.mailing.state, MailingEvent.CANCEL)
    waiting = found.counts.pending + found.counts.deferred
    if dry_run:
        # Not rehearsed, as no change of many readers is: it would hold up those who send.
        _done(number, "cancelled", dry_run=True, json=json, skipped=waiting)
        return
    # Before it is planned nobody is waiting, and nobody has it.
    losing = f"{waiting} readers" if found.mailing.whole else _readers(found.mailing).capitalize()
    confirm(f"Cancel mailing {number} of issue {found.mailing.week}? {losing} will not get it.", yes=yes)
    with parts.database.begin() as session:
        skipped = control.cancel(session, number, actor=actor(), now=parts.now())
    _done(number, "cancelled", dry_run=False, json=json, skipped=skipped)


@mailing.command("retry")
def retry(
    mailing_id: Id,
    reason: Annotated[
        list[RetryReason] | None, typer.Option(help="Only those not reached for this reason; repeatable.")
    ] = None,
    provider: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only readers at this provider, see: tydzen mailing providers ID")
    ] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Try again, now, whoever was not reached and may be: never hard refusals, never uncertain ones.

    A mailing that was cancelled before it was planned waits for its time again, or is planned and mailed to all now.
    """
    from service.bootstrap import services
    from service.delivery import control
    from service.domain.providers import checked
    from service.store import mailings
    from service.store.interventions import Again

    parts = services()
    number = number_of(parts, mailing_id)
    which = Again(frozenset(reason or ()), None if provider is None else checked(provider))
    now = parts.now()
    with parts.database.read() as session:
        found = mailings.get(session, number)
        state = control.after_retry(session, number, parts.blocking, now=now, which=which)
        if dry_run:
            # Not rehearsed, as no change of many readers is.
            done = control.foresee_retry(session, number, parts.blocking, proofs=parts.proofs, now=now, which=which)
    if not dry_run:
        if state is MailingState.PLANNING:
            confirm(f"Mailing {number} is not planned yet. Send issue {found.week} to {_readers(found)} now?", yes=yes)
        with parts.database.begin() as session:
            done = control.retry(
                session, number, parts.bell, parts.blocking, proofs=parts.proofs, actor=actor(), now=now, which=which
            )
    _say_corrected(done.corrected, dry_run=dry_run)
    if json:
        print_json(_retried_json(found, done, dry_run=dry_run))
    else:
        say(f"mailing {number}: {_retried(found, done)}{ending(dry_run)}")


def _readers(found: Mailing) -> str:
    return "all readers" if found.audience == "all" else "all of its audience"


def _retried(found: Mailing, done: Retried) -> str:
    if done.state is MailingState.SCHEDULED and found.release_at:
        return f"scheduled again; issue {found.week} goes out at {zoned_time(found.release_at)}"
    if done.state is MailingState.PLANNING:
        return f"it is planned now, and issue {found.week} is sent to {_readers(found)}"
    letters = {0: "nobody is left who may be", 1: "1 letter is"}.get(done.again, f"{done.again:,} letters are")
    return f"{letters} tried again"


def _retried_json(found: Mailing, done: Retried, *, dry_run: bool) -> dict[str, Any]:
    at = found.release_at if done.state is MailingState.SCHEDULED else None
    return {
        "mailing": found.id,
        "done": "retried",
        "again": done.again,
        "corrected": len(done.corrected),
        "state": done.state.value,
        "at": at.isoformat() if at else None,
        "dry_run": dry_run,
    }


@mailing.command("rate")
def rate(
    mailing_id: Id,
    mails_per_second: Annotated[float, typer.Argument(help="Mails per second; 0 = the installation's.", metavar="N")],
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Change the rate of a mailing, at once, while it runs."""
    from service.bootstrap import services
    from service.delivery import control

    parts = services()
    number = number_of(parts, mailing_id)
    with changing(parts.database, dry_run=dry_run) as session:
        control.set_rate(session, number, mails_per_second, actor=actor(), now=parts.now())
    _done(number, "rate set", dry_run=dry_run, json=json, rate=mails_per_second)


@mailing.command("ledger")
def ledger(mailing_id: Id, json: Json = False) -> None:
    """One line per delivery."""
    from service.bootstrap import services
    from service.store import ledger as store_ledger
    from service.store import mailings, publication

    parts = services()
    number = number_of(parts, mailing_id)
    with parts.database.read() as session:
        mailings.get(session, number)
        domain = publication.sender_domain(session)
        entries = store_ledger.lines(session, number)
        lines = (_entry_json(entry, parts.delivery_ids.message_id(entry.delivery), domain) for entry in entries)
        if json:
            print_json_lines(lines)
        else:
            _print_lines(lines)


def number_of(parts: Services, mailing_id: str) -> int:
    """The mailing's number; a week names the mailing of its issue."""
    from service.domain.weeks import Week
    from service.store import mailings

    if mailing_id.isdecimal():
        if len(mailing_id) > _DIGITS:
            raise NotFoundError(f"there is no mailing {mailing_id[:_DIGITS]}…; see: tydzen mailing list")
        return int(mailing_id)
    try:
        week = str(Week.parse(mailing_id))
    except InvalidInputError:
        raise InvalidInputError(f'"{mailing_id}" is neither the number of a mailing nor a week like 2019-W22') from None
    with parts.database.read() as session:
        found = mailings.of_issue(session, week)
    if found is None:
        raise NotFoundError(f"issue {week} has no mailing; send it with: tydzen issue send {week}")
    return found.id


def _print_lines(lines: Iterator[dict[str, Any]]) -> None:
    """Streamed, in columns wide enough for what is known of them."""
    print(f"{'subscriber':34}  {'state':10}  {'edition':12}  {'tries':>5}  {'code':>4}  reply or reason")  # noqa: T201
    for line in lines:
        words = line["reply"] or line["reason"] or ""
        print(  # noqa: T201  # data on stdout, a million lines of it perhaps
            f"{line['subscriber'] or '(erased)':34}  {line['state']:10}  {line['edition']:12}  {line['attempts']:5}"
            f"  {line['code'] or '':>4}  {words}"
        )


def _entry_json(entry: Entry, message_id: str, domain: str) -> dict[str, Any]:
    from service.domain.chains import read_edition_key
    from service.domain.subscriber import public_id

    return {
        "subscriber": public_id(entry.subscriber) if entry.subscriber else None,
        "state": entry.state.label,
        "edition": entry.chain,
        "language": read_edition_key(entry.chain)[0].first,
        "attempts": entry.attempts,
        "code": entry.code,
        "reply": entry.reply,
        "reason": entry.reason,
        "relay": entry.relay,
        "batch": entry.batch,
        "message_id": f"<{message_id}@{domain}>",
        "revision": entry.revision,
        "at": entry.at.isoformat() if entry.at else None,
    }


def _row(one: Mailing) -> dict[str, Any]:
    return {
        "id": one.id,
        "issue": one.week,
        "state": one.state.value,
        "by": one.actor,
        "at": one.release_at.isoformat() if one.release_at else None,
        "made_at": one.created_at.isoformat(),
        "started_at": one.started_at.isoformat() if one.started_at else None,
        "finished_at": one.finished_at.isoformat() if one.finished_at else None,
    }


def _done(number: int, word: str, *, dry_run: bool, json: bool, **more: float) -> None:
    if json:
        print_json({"mailing": number, "done": word, **more, "dry_run": dry_run})
        return
    extra = "".join(f", {name} {amount(count)}" for name, count in more.items())
    say(f"mailing {number}: {word}{extra}{ending(dry_run)}")


def leave(found: Status) -> None:
    """Leave with the exit code that the mailing's end deserves."""
    one = found.mailing
    if one.state is not MailingState.SENT:
        mailed = f"{found.counts.accepted} readers were mailed"
        fail(
            f"issue {one.week} was not sent to its end: mailing {one.id} is {one.state.value}; {mailed}", Exit.CONFLICT
        )
    if found.not_reached:
        why = f"{found.not_reached} readers were not reached; see: tydzen mailing ledger {one.id}"
        fail(why, Exit.PARTIAL)
