"""Commands about issues: folders in and out, what is there, approval. Checks and previews are in issue_review.py."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.output import actor, print_fields, print_json, print_json_lines, print_table, say

if TYPE_CHECKING:
    from service.domain.content import Article, Issue
    from service.domain.weeks import Week
    from service.store.issues import IssueSummary

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")]
IssueId = Annotated[str, typer.Argument(metavar="ID", help="The issue's ISO week, such as 2019-W22.")]

issue = typer.Typer(no_args_is_help=True, help="Issues: one week's articles in all languages.")


def register(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    from service.cli import issue_review

    issue_review.register(issue)
    app.add_typer(issue, name="issue")


def week_of(text: str) -> Week:
    """The week that an ID names."""
    from service.domain.weeks import Week

    return Week.parse(text)


@issue.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The issue's folder, named like 2019-W22.")],
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Store the issue in a folder: all of it, or nothing where one file is wrong. Safe to repeat."""
    from service.bootstrap import services
    from service.editorial.importing import import_issue

    parts = services()
    with parts.database.begin() as session:
        report = import_issue(session, folder, actor=actor(), now=parts.now(), dry_run=dry_run)
    if json:
        print_json({**asdict(report), "week": str(report.week), "unchanged": report.unchanged, "dry_run": dry_run})
        return
    if report.unchanged:
        say(f"issue {report.week}: nothing changed")
    for done, names in (("added", report.added), ("changed", report.changed), ("removed", report.removed)):
        if names:
            say(f"issue {report.week}: {'would be ' if dry_run else ''}{done}: {', '.join(names)}")
    if report.stale:
        say(f"older than their source: {', '.join(report.stale)}")


@issue.command("export")
def export(
    id_: IssueId,
    target: Annotated[Path, typer.Argument(metavar="DIR", help="The issue's folder, or where to make it.")],
    replace: Annotated[bool, typer.Option("--replace", help="Write over and remove other files there.")] = False,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Write an issue as a folder of files; importing them gives the same issue."""
    from service.bootstrap import services
    from service.editorial.issue_writing import export_issue
    from service.store import issues

    week = week_of(id_)
    with services().database.read() as session:
        found = issues.load(session, week)
    report = export_issue(found, target, replace=replace, dry_run=dry_run)
    if json:
        print_json({**asdict(report), "folder": str(report.folder), "week": str(week), "dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    if not (report.written or report.removed):
        say(f"{report.folder}: nothing changed")
    for done, names in (("written", report.written), ("removed", report.removed)):
        if names:
            say(f"{report.folder}: {would}{done}: {', '.join(names)}")


@issue.command("list")
def list_(json: Json = False) -> None:
    """All issues, the newest first."""
    from service.bootstrap import services
    from service.store import issues

    with services().database.read() as session:
        found = issues.overview(session)
    if json:
        print_json_lines(_summary(summary) for summary in found)
        return
    if not found:
        say("there are no issues yet; import one: tydzen issue import DIR")
        return
    languages = sorted({language for summary in found for language in summary.texts})
    columns = ["week", "status", "articles", *(f"{language} approved" for language in languages), "stale"]
    print_table(columns, [_row(summary, languages) for summary in found])


def _row(summary: IssueSummary, languages: list[str]) -> list[Any]:
    cells = [f"{_approved(summary, language)}/{_written(summary, language)}" for language in languages]
    return [summary.week, _status(summary), summary.articles, *cells, summary.stale]


def _approved(summary: IssueSummary, language: str) -> int:
    from service.domain.content import TextStatus

    return summary.texts.get(language, {}).get(TextStatus.APPROVED, 0)


def _written(summary: IssueSummary, language: str) -> int:
    return sum(summary.texts.get(language, {}).values())


def _status(summary: IssueSummary) -> str:
    """Where the issue stands: its mailing's state once there is one, before that whether every article can be sent."""
    if summary.mailing:
        return summary.mailing.value
    return "approved" if summary.sendable == summary.articles > 0 else "draft"


def _summary(summary: IssueSummary) -> dict[str, Any]:
    return {
        "week": str(summary.week),
        "status": _status(summary),
        "articles": summary.articles,
        "sendable": summary.sendable,
        "texts": {
            language: {status.value: count for status, count in counts.items()}
            for language, counts in summary.texts.items()
        },
        "stale": summary.stale,
        "changed_at": summary.changed_at.isoformat(),
    }


@issue.command("show")
def show(id_: IssueId, json: Json = False) -> None:
    """One issue: its articles, and how far each language is."""
    from service.bootstrap import services
    from service.store import issues

    week = week_of(id_)
    with services().database.read() as session:
        found = issues.load(session, week)
        state = issues.sending_state(session, week)
    if json:
        print_json(_whole(found, state.value if state else None))
        return
    subjects = " · ".join(f"{language}: {words}" for language, words in found.subjects.items())
    print_fields(
        {
            "week": f"{week} ({week.monday} to {week.sunday})",
            "subject": subjects or "from the publication",
            "mailing": state.value if state else "none",
            "images": ", ".join(asset.name for asset in found.assets) or "none",
        }
    )
    languages = sorted({language for article in found.articles for language in article.texts})
    rows = [
        [article.slug, article.section, article.trend, *(_text_state(article, language) for language in languages)]
        for article in found.articles
    ]
    print_table(["article", "section", "trend", *languages], rows)


def _text_state(article: Article, language: str) -> str:
    text = article.texts.get(language)
    if text is None:
        return "–"
    source = " (source)" if language == article.source else ""
    return f"{text.status.value}{source}{' (stale)' if article.stale(language) else ''}"


def _whole(found: Issue, mailing: str | None) -> dict[str, Any]:
    return {
        "week": str(found.week),
        "mailing": mailing,
        "subjects": dict(found.subjects),
        "articles": [
            {
                "slug": article.slug,
                "section": article.section,
                "trend": article.trend,
                "source": article.source,
                "authors": list(article.authors),
                "aliases": list(article.aliases),
                "texts": {
                    language: {
                        "title": text.title,
                        "status": text.status.value,
                        "stale": article.stale(language),
                        "content_hash": text.content_hash,
                        "translated_from": text.translated_from,
                    }
                    for language, text in article.texts.items()
                },
            }
            for article in found.articles
        ],
        "images": [
            {"name": asset.name, "media_type": asset.media_type, "octets": len(asset.data)} for asset in found.assets
        ],
    }


@issue.command("approve")
def approve(
    id_: IssueId,
    language: Annotated[str | None, typer.Option("--language", help="Only the texts in this language.")] = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Make the issue's ready texts sendable; drafts stay drafts."""
    from service.bootstrap import services
    from service.editorial.approving import approve_issue

    week = week_of(id_)
    parts = services()
    with parts.database.begin() as session:
        report = approve_issue(session, week, language=language, actor=actor(), now=parts.now(), dry_run=dry_run)
    if json:
        print_json(
            {
                "week": str(week),
                "approved": _objects(report.approved),
                "drafts": _objects(report.drafts),
                "dry_run": dry_run,
            }
        )
        return
    if report.approved:
        say(f"issue {week}: {'would be ' if dry_run else ''}approved: {_named(report.approved)}")
    else:
        say(f"issue {week}: no text waits for approval")
    if report.drafts:
        say(f"still drafts: {_named(report.drafts)}; a finished text says status: ready")


def _objects(texts: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"article": slug, "language": language} for slug, language in texts]


def _named(texts: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{slug}.{language}" for slug, language in texts)
