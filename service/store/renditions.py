"""Renditions: the frozen, hashed output of an edition, one per mailing and chain."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.store.database import Session
from service.store.instants import stored
from service.store.tables import issues, mailings, renditions

# The digest of no octets at all.
_WITHDRAWN = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class StoredRendition:
    """A rendition's row; `content` is what `mail` compiled, `digest` its SHA-256 in hex."""

    id: int
    chain: str
    revision: int
    subject: str
    content: bytes
    digest: str


def save(
    session: Session,
    mailing: int,
    chain: str,
    *,
    subject: str,
    content: bytes,
    digest: str,
    html_octets: int,
    now: dt.datetime,
    revision: int = 1,
) -> int:
    """The id of the rendition of that chain; the first one that was stored stays."""
    insert = postgresql.insert if session.postgresql else sqlite.insert
    statement = insert(renditions).values(
        mailing_id=mailing,
        chain=chain,
        revision=revision,
        subject=subject,
        content=content,
        digest=digest,
        html_octets=html_octets,
        made_at=stored(now),
    )
    made = session.scalar(statement.on_conflict_do_nothing().returning(renditions.c.id))
    return int(made) if made is not None else ids(session, mailing)[chain]


def withdraw(session: Session, mailing: int, chain: str, *, now: dt.datetime, revision: int) -> int:
    """As `save`: from that revision on the chain has no edition, and whoever comes back to it is not mailed."""
    return save(
        session, mailing, chain, subject="", content=b"", digest=_WITHDRAWN, html_octets=0, now=now, revision=revision
    )


def ids(session: Session, mailing: int) -> dict[str, int]:
    """The newest rendition of each chain of a mailing."""
    statement = (
        sa.select(renditions.c.chain, renditions.c.id)
        .where(renditions.c.mailing_id == mailing)
        .order_by(renditions.c.revision)
    )
    return {row.chain: row.id for row in session.execute(statement)}


@dataclass(frozen=True, slots=True)
class Newest:
    """The newest rendition of a chain of a mailing, without its content."""

    id: int
    revision: int
    digest: str

    @property
    def withdrawn(self) -> bool:
        """Whether the chain has had no edition since that revision."""
        return self.digest == _WITHDRAWN


# Before the first revision: as if withdrawn.
NEVER_PRINTED = Newest(0, 0, _WITHDRAWN)


def newest(session: Session, mailing: int) -> dict[str, Newest]:
    """The newest rendition of each chain of a mailing."""
    columns = (renditions.c.chain, renditions.c.id, renditions.c.revision, renditions.c.digest)
    statement = sa.select(*columns).where(renditions.c.mailing_id == mailing).order_by(renditions.c.revision)
    return {row.chain: Newest(row.id, row.revision, row.digest) for row in session.execute(statement)}


def newest_id(session: Session, mailing: int, chain: str) -> int | None:
    """The id of the newest rendition of that chain; None where it has none."""
    found: int | None = session.scalar(_NEWEST_ID, {"mailing": mailing, "of_chain": chain})
    return found


_NEWEST_ID = (
    sa.select(renditions.c.id)
    .where(renditions.c.mailing_id == sa.bindparam("mailing"), renditions.c.chain == sa.bindparam("of_chain"))
    .order_by(renditions.c.revision.desc())
    .limit(1)
)


def digest_of(session: Session, rendition: int) -> str | None:
    """The digest of that rendition; None where the edition was withdrawn with it."""
    digest = str(session.scalar(_DIGEST, {"rendition": rendition}))
    return None if digest == _WITHDRAWN else digest


_DIGEST = sa.select(renditions.c.digest).where(renditions.c.id == sa.bindparam("rendition"))


def issue_changed_since(session: Session, mailing: int, revision: int) -> bool:
    """Whether the mailing's issue was changed after editions of that revision were made: they may show another one."""
    # The first one of a planning: the others are made of what was read for it, however long it takes.
    made_at = (
        sa.select(sa.func.min(renditions.c.made_at))
        .where(renditions.c.mailing_id == mailing, renditions.c.revision == revision)
        .scalar_subquery()
    )
    changed = sa.select(issues.c.id).join(mailings, mailings.c.issue_id == issues.c.id)
    return session.scalar(changed.where(mailings.c.id == mailing, issues.c.changed_at >= made_at)) is not None


def get(session: Session, rendition: int) -> StoredRendition:
    """That rendition with its content."""
    columns = (renditions.c.id, renditions.c.chain, renditions.c.revision, renditions.c.subject)
    row = session.execute(
        sa.select(*columns, renditions.c.content, renditions.c.digest).where(renditions.c.id == rendition)
    ).one()
    return StoredRendition(row.id, row.chain, row.revision, row.subject, row.content, row.digest)
