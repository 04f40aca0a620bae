"""Commands that look at an issue before it is sent: its checks and its previews."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.output import Exit, fail, print_json, print_table, say

if TYPE_CHECKING:
    from service.editorial.previewing import Preview
    from service.editorial.report import Report

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
IssueId = Annotated[str, typer.Argument(metavar="ID", help="The issue's ISO week, such as 2019-W22.")]

_MARKS = {"ok": "✓", "advice": "!", "blocked": "✗"}


def register(issue: typer.Typer) -> None:
    """Hang these commands under `tydzen issue`."""
    issue.command("check")(check)
    issue.command("preview")(preview)


def check(
    id_: IssueId,
    chain: Annotated[
        list[str] | None,
        typer.Option("--chain", help="An edition to check, such as be,ru; default: those with readers."),
    ] = None,
    json: Json = False,
) -> None:
    """Check an issue as each edition shows it. Ends with 3 where something must be mended before it is sent."""
    from service.bootstrap import services
    from service.domain.chains import Chain
    from service.domain.weeks import Week
    from service.editorial.checks import check_issue
    from service.store import publication

    week = Week.parse(id_)
    parts = services()
    with parts.database.read() as session:
        languages = publication.load(session).languages
        chains = [Chain.parse(text, languages) for text in chain or []]
        report = check_issue(session, week, parts.composed, base_url=parts.settings.base_url, chains=chains)
    if json:
        print_json(_report(report))
    else:
        _print(report)
    count = len(report.blocking)
    if count:
        fail(
            f"issue {week}: {count} {'thing' if count == 1 else 'things'} to mend before it can be sent",
            Exit.CHECK_FAILED,
        )
    say(f"issue {week}: nothing stands against sending it")


def _report(report: Report) -> dict[str, Any]:
    return {
        "week": str(report.week),
        "blocked": bool(report.blocking),
        "editions": [str(chain) for chain in report.editions],
        "checks": {
            rule: {str(chain): verdict.value for chain, verdict in row.items()} for rule, row in report.table().items()
        },
        "findings": [
            {
                "rule": finding.rule,
                "blocks": finding.blocks,
                "article": finding.article,
                "language": finding.language,
                "line": finding.line,
                "message": finding.message,
                "editions": [str(chain) for chain in finding.editions],
            }
            for finding in report.findings
        ],
    }


def _print(report: Report) -> None:
    from service.editorial.report import CHECKS

    rows = [
        [CHECKS.get(rule, rule), *(_MARKS[row[chain]] for chain in report.editions)]
        for rule, row in report.table().items()
    ]
    print_table(["check", *map(str, report.editions)], rows, title=f"Issue {report.week}, check by edition")
    if report.findings:
        print_table(
            ["", "text", "line", "finding"],
            [
                [
                    _MARKS["blocked" if finding.blocks else "advice"],
                    ".".join(part for part in (finding.article, finding.language) if part),
                    finding.line,
                    finding.message,
                ]
                for finding in report.findings
            ],
            title="\nWhat was found (✗ must be mended, ! is advice)",
        )


def preview(
    id_: IssueId,
    chain: Annotated[str, typer.Option("--chain", help="The languages of the edition, such as be,ru.")],
    out: Annotated[Path, typer.Option("--out", help="The HTML file to write, a .txt beside it; - for stdout.")] = Path(
        "-"
    ),
    drafts: Annotated[bool, typer.Option("--drafts", help="Show texts that are not approved too.")] = False,
    json: Json = False,
) -> None:
    """Write the mail of one edition to look at; its personal links lead nowhere."""
    from service.bootstrap import services
    from service.domain.weeks import Week
    from service.editorial.previewing import preview_issue

    week = Week.parse(id_)
    parts = services()
    with parts.database.read() as session:
        made = preview_issue(session, week, chain, base_url=parts.settings.base_url, drafts=drafts)
    files = _written(made, out) if str(out) != "-" else []
    if json:
        print_json(
            {
                "week": str(week),
                "chain": str(made.chain),
                "subject": made.subject,
                "preheader": made.preheader,
                "html_octets": made.html_octets,
                **({"files": [str(file) for file in files]} if files else {"html": made.html, "text": made.text}),
            }
        )
        return
    if not files:
        typer.echo(made.html)
    say(f"subject: {made.subject}")
    say(f"preheader: {made.preheader}")
    say(f"{made.html_octets / 1024:.0f} KB of HTML{''.join(f'; {file}' for file in files)}")


def _written(made: Preview, out: Path) -> list[Path]:
    beside = out.with_suffix(".txt") if out.suffix != ".txt" else out.with_suffix(".plain.txt")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(made.html, "utf-8")
        beside.write_text(made.text, "utf-8")
    except (OSError, ValueError) as error:
        fail(f"{out} cannot be written ({getattr(error, 'strerror', None) or error}); choose another --out", Exit.USAGE)
    return [out, beside]
