"""Importing the publication: its file becomes what every edition, page and mail is made from."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from pathlib import Path

from service.domain.content import Publication
from service.domain.errors import ConflictError
from service.editorial.publication_file import read_publication
from service.store import Session, audit, publication


@dataclass(frozen=True, slots=True)
class PublicationReport:
    """What an import of the publication changed: names of its fields, and what to think about."""

    key: str
    new: bool
    changed: tuple[str, ...]
    warnings: tuple[str, ...]


def import_publication(
    session: Session, path: Path, *, actor: str, now: dt.datetime, dry_run: bool = False
) -> PublicationReport:
    """Read publication.toml and store it; the same file twice changes nothing.

    Raises BadFilesError with every problem of the file, and ConflictError where it leaves out a section or a language
    that texts or readers still use.
    """
    wanted = read_publication(path)
    known = publication.find(session)
    _refuse_loss(session, wanted)
    changed = tuple(field.name for field in fields(Publication) if _differs(known, wanted, field.name))
    report = PublicationReport(wanted.key, known is None, changed, _warnings(known, wanted))
    if changed and not dry_run:
        publication.save(session, wanted, now)
        details = {"changed": list(changed)}
        audit.append(session, at=now, actor=actor, action="publication.import", subject=wanted.key, details=details)
    return report


def _differs(known: Publication | None, wanted: Publication, name: str) -> bool:
    return known is None or getattr(known, name) != getattr(wanted, name)


def _refuse_loss(session: Session, wanted: Publication) -> None:
    sections = sorted(publication.sections_in_use(session) - {section.key for section in wanted.sections})
    if sections:
        raise ConflictError(
            f"articles stand in section {', '.join(sections)}, which publication.toml leaves out; "
            'keep it and retire it with active_until = "2019-W22"'
        )
    languages = sorted(publication.languages_in_use(session) - set(wanted.languages))
    if languages:
        raise ConflictError(
            f"texts or readers use language {', '.join(languages)}, which publication.toml leaves out; put it back"
        )


def _warnings(known: Publication | None, wanted: Publication) -> tuple[str, ...]:
    warnings = []
    if known and known.list_id != wanted.list_id:
        warnings.append(
            f"list_id was {known.list_id}: readers' filters will no longer find the mail; it should never change"
        )
    if known and known.key != wanted.key:
        warnings.append(f"key was {known.key}: this file may belong to another publication")
    return tuple(warnings)
