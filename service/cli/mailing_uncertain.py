"""Commands about uncertain deliveries: list them with their evidence, resolve them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.mailing import DryRun, Id, Json, Yes, number_of
from service.cli.output import Exit, actor, confirm, fail, local_time, print_json, print_json_lines, print_table, say
from service.cli.rehearsing import changing, ending

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.delivery.resolving import ByLog, Verdict
    from service.domain.maillog import Coverage, Finding, MailLog
    from service.store.uncertain import Uncertain

_QUESTIONS = {
    "resend": (
        "Send {count} again? The relay may have taken what it did not answer: whoever got the letter gets it twice."
    ),
    "accepted": "Count {count} as accepted? Nobody will try to reach these readers again.",
    "refused": "Count {count} as refused? Nobody will try to reach these readers again.",
    "log": "Have the relay's log decide {count}?",
}


def register(mailing: typer.Typer) -> None:
    """Hang these commands beside the others about mailings."""
    mailing.command("uncertain")(uncertain)
    mailing.command("resolve")(resolve)


def uncertain(mailing_id: Id, json: Json = False) -> None:
    """List the letters of which nobody knows whether they arrived, each with what is known of it."""
    from service.bootstrap import services

    parts = services()
    number = number_of(parts, mailing_id)
    found, domain = _found(parts, number), parts.sender_domain()
    if json:
        print_json_lines(_fields(parts, one, domain) for one in found)
        return
    if not found:
        say(f"mailing {number} has no uncertain deliveries")
        return
    columns = ["subscriber", "try", "became uncertain", "relay", "phase", "why", "read", "batch", "message id"]
    rows = []
    for one in found:
        shown = {**_fields(parts, one, domain), "at": local_time(one.at, seconds=True)}
        names = ("subscriber", "attempt", "at", "relay", "phase", "reason", "read", "batch", "message_id")
        rows.append([shown[name] for name in names])
    print_table(columns, rows)


def resolve(
    mailing_id: Id,
    resend: Annotated[bool, typer.Option("--resend", help="Send again; may mail twice.")] = False,
    accepted: Annotated[bool, typer.Option("--accepted", help="The relay took them.")] = False,
    refused: Annotated[bool, typer.Option("--refused", help="The relay did not take them.")] = False,
    from_log: Annotated[
        list[str] | None,
        typer.Option(
            "--from-log", metavar="FILE", help="Let the relay's Postfix log decide; repeatable, .gz, - is stdin."
        ),
    ] = None,
    delivery: Annotated[
        list[str] | None,
        typer.Option("--delivery", metavar="NAME", help="Only this one, by Message-ID or subscriber id; repeatable."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All of the mailing.")] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Decide what became of uncertain deliveries: send them again, or count them as accepted or refused."""
    from service.bootstrap import services
    from service.delivery import resolving

    said = [word for word, given in (("resend", resend), ("accepted", accepted), ("refused", refused)) if given]
    if len(said) + bool(from_log) != 1:
        fail("say one of --resend, --accepted, --refused and --from-log FILE", Exit.USAGE)
    if bool(delivery) == every and (delivery or not from_log):
        fail("say which: --delivery MESSAGE-ID (or s_…), or --all", Exit.USAGE)
    parts = services()
    number = number_of(parts, mailing_id)
    found = _found(parts, number)
    which = resolving.chosen(found, delivery, parts.delivery_ids) if delivery else found
    if from_log:
        _by_log(parts, number, which, from_log, dry_run=dry_run, yes=yes, json=json)
    else:
        _by_word(parts, number, which, resolving.Verdict(said[0]), dry_run=dry_run, yes=yes, json=json)


def _by_word(
    parts: Services, number: int, which: Sequence[Uncertain], verdict: Verdict, *, dry_run: bool, yes: bool, json: bool
) -> None:
    from service.delivery import resolving

    gone = sum(one.subscriber is None for one in which) if verdict is resolving.Verdict.RESEND else 0
    _ask(verdict.value, len(which) - gone, dry_run=dry_run, yes=yes)
    with changing(parts.database, dry_run=dry_run) as session:
        done = resolving.resolve(
            session, number, verdict, which, parts.bell, proofs=parts.proofs, actor=actor(), now=parts.now()
        )
    left = len(_found(parts, number))
    if json:
        print_json({"mailing": number, "resolved": verdict.value, "letters": done, "left": left, "dry_run": dry_run})
        return
    if gone:
        say(f"{_letters(gone)} cannot be sent again: the reader was forgotten; count such as --accepted or --refused")
    word = {"resend": "to be sent again", "accepted": "counted as accepted", "refused": "counted as refused"}
    say(f"mailing {number}: {_letters(done)} {word[verdict.value]}; {left} uncertain{ending(dry_run)}")


def _by_log(
    parts: Services,
    number: int,
    which: Sequence[Uncertain],
    files: Sequence[str],
    *,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    from service.cli import mail_logs
    from service.delivery import resolving
    from service.domain.maillog import MailLog

    names = {one.delivery: parts.delivery_ids.message_id(one.delivery) for one in which}
    log = MailLog(set(names.values()), now=parts.now(), zone=None)
    mail_logs.read_into(log, files)
    findings = {delivery: log.finding(name) for delivery, name in names.items()}
    _ask("log", len(which), dry_run=dry_run, yes=yes)
    with changing(parts.database, dry_run=dry_run) as session:
        done = resolving.resolve_by_log(session, number, findings, parts.bell, actor=actor(), now=parts.now())
    _tell(parts, number, which, findings, log, done, dry_run=dry_run, json=json)


def _tell(
    parts: Services,
    number: int,
    which: Sequence[Uncertain],
    findings: Mapping[int, Finding],
    log: MailLog,
    done: ByLog,
    *,
    dry_run: bool,
    json: bool,
) -> None:
    covered = log.coverage()
    left = len(_found(parts, number))
    outside = _outside(which, findings, covered)
    if json:
        counts = {name: count for name, count in asdict(done).items() if name != "decided"}
        read = {"lines": covered.lines, "unreadable": covered.unreadable}
        spans = [{"from": first.isoformat(), "to": last.isoformat()} for first, last in covered.spans]
        whole = {"from": spans[0]["from"] if spans else None, "to": spans[-1]["to"] if spans else None}
        print_json(
            {"mailing": number, "resolved": "log", **counts, "outside": outside, "left": left, "dry_run": dry_run,
             "log": {**whole, "spans": spans, **read}}
        )  # fmt: skip
        return
    if covered.spans:
        when = " and ".join(
            f"from {local_time(first, seconds=True)} to {local_time(last, seconds=True)}"
            for first, last in covered.spans
        )
        say(f"the log covers the time {when}: {covered.lines} lines read, {covered.unreadable} of them without a time")
    else:
        say("the log has no line that could be read: nothing follows from it")
    say(
        f"mailing {number}: accepted {done.accepted} (of which {done.bounced} bounced later), refused {done.refused}, "
        f"put off {done.deferred}{'; a dry run' if dry_run else ''}; {left} are uncertain"
    )
    if done.begun:
        say(f"{_letters(done.begun)} only began to come in, as far as this log goes: that proves nothing")
    if done.unknown:
        say(f"{_letters(done.unknown)} are not in the log; {outside} of them are of a time that it does not cover")


def _outside(which: Sequence[Uncertain], findings: Mapping[int, Finding], covered: Coverage) -> int:
    """How many that the log does not know are of a time that it does not cover, or not all of it."""
    from service.domain.maillog import Fate

    unknown = [one for one in which if findings[one.delivery].fate is Fate.UNKNOWN]
    return sum(not covered.covers(one.since, one.at) for one in unknown)


def _ask(question: str, count: int, *, dry_run: bool, yes: bool) -> None:
    if count and not dry_run:
        confirm(_QUESTIONS[question].format(count=_letters(count)), yes=yes)


def _found(parts: Services, number: int) -> list[Uncertain]:
    from service.store import mailings
    from service.store import uncertain as store

    with parts.database.read() as session:
        mailings.get(session, number)
        return store.listed(session, number)


def _fields(parts: Services, one: Uncertain, domain: str) -> dict[str, Any]:
    from service.domain.subscriber import public_id

    return {
        "subscriber": public_id(one.subscriber) if one.subscriber else None,
        "message_id": f"<{parts.delivery_ids.message_id(one.delivery)}@{domain}>",
        "attempt": one.attempt,
        "at": one.at.isoformat(),
        "relay": one.relay,
        "host": one.host,
        "phase": one.phase,
        "reason": one.reason,
        "read": one.read,
        "times": one.times,
        "batch": one.batch,
        "edition": one.chain,
    }


def _letters(count: int) -> str:
    return "one letter" if count == 1 else f"{count} letters"
