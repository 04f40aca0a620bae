"""Who keeps a reader's mailbox: the name of a known provider, or a keyed hash of the domain, which tells nobody."""

from __future__ import annotations

import re

import sqlalchemy as sa

from service.domain.errors import InvalidInputError
from service.domain.providers import KNOWN, provider_of
from service.store.database import Database, Session
from service.store.sealing import Sealer, normalised
from service.store.tables import subscribers

HASHED = "d-"
_HASH = re.compile(rf"{HASHED}[0-9a-f]{{16}}")
_CHUNK = 5_000

# Domains that begin as a hash does were once stored as they are.
_UNKNOWN = subscribers.c.provider.is_(None) | subscribers.c.provider.like(f"{HASHED}%.%")
_PAGE = (
    sa.select(subscribers.c.id, subscribers.c.sealed)
    .where(_UNKNOWN, subscribers.c.id > sa.bindparam("after"))
    .order_by(subscribers.c.id)
    .limit(_CHUNK)
)
_FILL = (
    subscribers.update()
    .where(subscribers.c.id == sa.bindparam("reader"), _UNKNOWN)
    .values(provider=sa.bindparam("found"))
)


def is_hashed(name: str) -> bool:
    """Whether it is the keyed hash of a domain; some domains begin as one does."""
    return _HASH.fullmatch(name) is not None


def provider_key(sealer: Sealer, provider: str) -> str:
    """What the tables call a provider: a known one by its name; any other domain by 16 digits of a keyed hash."""
    if not provider or provider in KNOWN or is_hashed(provider):
        return provider
    try:
        domain = normalised(f"x@{provider}").rpartition("@")[2]
    except InvalidInputError:
        domain = provider
    name = provider_of(domain)
    return name if name in KNOWN else HASHED + sealer.digest(domain).hex()[:16]


def provider_of_address(sealer: Sealer, address: str) -> str:
    """What the tables call the provider of that address."""
    return provider_key(sealer, address.strip().rpartition("@")[2].lower())


def fill(database: Database) -> int:
    """Note the providers of readers who came before they were kept; how many. A few thousand a transaction.

    Whatever stops it, the next call goes on where it was; with nothing to do it reads the table once.
    """
    after, filled = b"", 0
    while True:
        with database.begin() as session:
            rows = _fill_page(session, after)
        if not rows:
            return filled
        after, filled = rows[-1], filled + len(rows)


def _fill_page(session: Session, after: bytes) -> list[bytes]:
    rows = session.execute(_PAGE, {"after": after}).all()
    sealer = session.sealer
    found = [{"reader": row.id, "found": provider_of_address(sealer, sealer.open(row.id, row.sealed))} for row in rows]
    if found:
        session.execute(_FILL, found)
    return [row.id for row in rows]
