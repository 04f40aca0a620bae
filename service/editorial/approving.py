"""Approving an issue: its ready texts become what may be sent."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from service.domain.content import Issue, TextStatus
from service.domain.errors import InvalidInputError
from service.domain.weeks import Week
from service.editorial.importing import refuse_while_sending
from service.store import Session, audit, issues, publication


@dataclass(frozen=True, slots=True)
class ApprovalReport:
    """Which texts were approved and which are not ready yet, as (article's slug, language)."""

    week: Week
    approved: tuple[tuple[str, str], ...]
    drafts: tuple[tuple[str, str], ...]


def approve_issue(
    session: Session, week: Week, *, language: str | None, actor: str, now: dt.datetime, dry_run: bool = False
) -> ApprovalReport:
    """Make the issue's ready texts approved, in one language or in all; drafts stay drafts.

    Raises NotFoundError for an unknown week, InvalidInputError for an unknown language, and ConflictError while the
    issue is being sent.
    """
    languages = publication.load(session).languages
    if language is not None and language not in languages:
        hint = " (Belarusian is be)" if language == "by" else ""
        raise InvalidInputError(f'language "{language}" is not one of {", ".join(languages)}{hint}')
    issue = issues.load(session, week)
    refuse_while_sending(session, week)
    ready = _with_status(issue, TextStatus.READY, language)
    if ready and not dry_run:
        issues.approve(session, week, language, now)
        details = {"texts": [f"{slug}.{code}" for slug, code in ready]}
        audit.append(session, at=now, actor=actor, action="issue.approve", subject=str(week), details=details)
    return ApprovalReport(week, ready, _with_status(issue, TextStatus.DRAFT, language))


def _with_status(issue: Issue, status: TextStatus, language: str | None) -> tuple[tuple[str, str], ...]:
    return tuple(
        (article.slug, code)
        for article in issue.articles
        for code, text in article.texts.items()
        if text.status is status and language in (None, code)
    )
