"""Importing an issue: its folder becomes what the database holds, in one transaction or not at all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from service.domain.content import Article, Issue, Text, TextStatus
from service.domain.errors import ConflictError
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.editorial.issue_folder import read_issue
from service.store import Session, audit, issues, publication


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import changed: texts and images by file name, and whether issue.toml's own part did."""

    week: Week
    new: bool
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    stale: tuple[str, ...]

    @property
    def unchanged(self) -> bool:
        """Whether there was nothing to write."""
        return not (self.new or self.added or self.changed or self.removed)


def import_issue(
    session: Session, folder: Path, *, actor: str, now: dt.datetime, dry_run: bool = False
) -> ImportReport:
    """Store the issue in `folder`; the same folder twice changes nothing.

    Raises BadFilesError with every problem of every file, and ConflictError while the issue is being sent (when that is
    paused, the import goes on: readers not yet mailed get the corrected issue).
    """
    written = read_issue(folder, publication.load(session))
    refuse_while_sending(session, written.week)
    known = issues.find(session, written.week)
    wanted = settled(written, known)
    report = _report(wanted, known)
    if not report.unchanged and not dry_run:
        issues.save(session, wanted, now)
        details = {"added": list(report.added), "changed": list(report.changed), "removed": list(report.removed)}
        audit.append(session, at=now, actor=actor, action="issue.import", subject=str(wanted.week), details=details)
    return report


def refuse_while_sending(session: Session, week: Week) -> None:
    """Hold the issue until this transaction ends; raises ConflictError where it is just being sent."""
    issues.hold(session, week)
    state = issues.sending_state(session, week)
    if state is MailingState.PLANNING:
        raise ConflictError(
            f"issue {week} is just being planned; wait a moment until it is, then pause it (tydzen mailing pause)"
        )
    if state is MailingState.SENDING:
        raise ConflictError(
            f"issue {week} is being sent; pause it first (tydzen mailing pause) or wait until it is sent"
        )


def settled(written: Issue, known: Issue | None) -> Issue:
    """`written` with what only the database knows: approvals, and the source that a translation was made from.

    A text that says `ready` and has not changed stays approved. A translation that names no source keeps the one it had
    while it stays as it was, so that it turns stale when the source changes; a new or changed one is taken as made from
    the source beside it. One that names the first digits of a hash is made from the source with that hash.
    """
    before = {article.slug: article for article in known.articles} if known else {}
    articles = tuple(_settled_article(article, before.get(article.slug)) for article in written.articles)
    return replace(written, articles=articles)


def _settled_article(article: Article, before: Article | None) -> Article:
    known = before.texts if before else {}
    source = article.texts.get(article.source)
    texts = {
        language: _settled_text(text, known.get(language), source if language != article.source else None)
        for language, text in article.texts.items()
    }
    return replace(article, texts=texts)


def _settled_text(text: Text, before: Text | None, source: Text | None) -> Text:
    same = before if before and before.content_hash == text.content_hash else None
    status = text.status
    if same and same.status is TextStatus.APPROVED and status is TextStatus.READY:
        status = TextStatus.APPROVED
    return replace(text, status=status, translated_from=_origin(text, before, source) if source else None)


def _origin(text: Text, before: Text | None, source: Text) -> str:
    known = before.translated_from if before else None
    if text.translated_from:
        # The first digits of a hash will do, as in git.
        full = (whole for whole in (source.content_hash, known) if whole and whole.startswith(text.translated_from))
        return next(full, text.translated_from)
    unchanged = before is not None and before.content_hash == text.content_hash
    return known if known and unchanged else source.content_hash


def _report(wanted: Issue, known: Issue | None) -> ImportReport:
    after, before = _parts(wanted), _parts(known) if known else {}
    return ImportReport(
        week=wanted.week,
        new=known is None,
        added=tuple(name for name in after if name not in before),
        changed=tuple(name for name in after if name in before and after[name] != before[name]),
        removed=tuple(name for name in before if name not in after),
        stale=tuple(
            f"{article.slug}.{language}.md"
            for article in wanted.articles
            for language in article.texts
            if article.stale(language)
        ),
    )


def _parts(issue: Issue) -> Mapping[str, object]:
    """What an issue consists of, by file name."""
    parts: dict[str, object] = {
        "issue.toml": (dict(issue.subjects), [replace(article, texts={}) for article in issue.articles])
    }
    for article in issue.articles:
        parts.update({f"{article.slug}.{language}.md": text for language, text in article.texts.items()})
    parts.update({asset.name: asset for asset in issue.assets})
    return parts
