"""`tydzen issue test`: one marked mail of an edition, to anyone."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from service.cli.issue import DryRun, IssueId, Json
from service.cli.output import Exit, fail, print_json, say
from service.domain.errors import UnavailableError


def register(issue: typer.Typer) -> None:
    """Hang the command into the noun it belongs to."""
    issue.command("test")(trial)


def trial(
    week: IssueId,
    address: Annotated[str, typer.Argument(help="To whom; - reads it from stdin.", metavar="ADDRESS")],
    chain: Annotated[str, typer.Option(help="The languages to read it through, such as be,ru.")],
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Mail the issue, marked as a test, to one address; it counts nowhere and its links change nothing."""
    from service.bootstrap import services
    from service.delivery import trial as use_case
    from service.domain.chains import Chain
    from service.mail.address import envelope_address
    from service.mail.loop import new_event_loop
    from service.store import publication

    parts = services()
    wanted = envelope_address(sys.stdin.readline().strip() if address == "-" else address.strip())
    with parts.database.read() as session:
        languages = Chain.parse(chain, publication.load(session).languages)
    rendition, domain = use_case.printed(parts.database, parts.press, week, languages)
    if dry_run:
        if json:
            print_json({"issue": week, "edition": str(languages), "relay": parts.relays[0].name, "dry_run": True})
        else:
            say(f"issue {week} in ({languages}) would be mailed once, marked as a test, through {parts.relays[0].name}")
        return
    sending = use_case.send(parts.lines(), parts.stationery, rendition, domain, wanted, now=parts.now())
    try:
        outcome = new_event_loop().run_until_complete(sending)
    except TimeoutError:
        raise UnavailableError(f"relay {parts.relays[0].name} let nobody in for 30 seconds; is it running?") from None
    said = f"{outcome.code} {outcome.text}".strip()
    if json:
        print_json({"outcome": outcome.reply_class.value, "code": outcome.code, "reply": outcome.text})
    if outcome.reply_class.value != "accepted":
        fail(f"relay {outcome.relay} did not take it: {said}", Exit.FAILURE)
    if not json:
        say(f"relay {outcome.relay} took it: {said}")
