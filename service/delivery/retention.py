"""What is forgotten when its time is over; every sweep does some of it, and `tydzen retention run` all of it."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

from service.store import Database, Session, bounces, retention
from service.store.bounces import KEEP_REPLIES

# After a mailing has ended; then only its sums are left.
KEEP_LINKS = dt.timedelta(days=30)
# Deliveries in one transaction: short enough that a worker's gate does not wait for it.
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten, or is to be: `links` from readers to deliveries of `mailings`, `replies` of relays.

    `evidence` counts soft refusals that are too old or disproved.
    """

    mailings: int = 0
    links: int = 0
    replies: int = 0
    evidence: int = 0


def run(database: Database, *, now: dt.datetime) -> Forgotten:
    """Forget all that is due. Idempotent, and safe beside workers and other runs."""
    with database.begin() as session:
        ripe = retention.ripe_mailings(session, now - KEEP_LINKS)
        # Before the links are cut: what was accepted meanwhile disproves old evidence.
        evidence, replies = forget_words(session, now=now)
    links = 0
    for mailing in ripe:
        cut = _CHUNK
        while cut == _CHUNK:
            with database.begin() as session:
                cut = retention.cut_links(session, mailing, now - KEEP_LINKS, limit=_CHUNK)
            links += cut
    return Forgotten(len(ripe), links, replies, evidence)


def rehearse(session: Session, *, now: dt.datetime) -> Forgotten:
    """What `run` would forget of links and replies, without doing it."""
    ripe = retention.ripe_mailings(session, now - KEEP_LINKS)
    links = sum(retention.links(session, mailing) for mailing in ripe)
    return Forgotten(len(ripe), links, retention.old_replies(session, now - KEEP_REPLIES))


def cut_some(session: Session, *, now: dt.datetime) -> None:
    """Forget the readers of some deliveries of the oldest mailing that is due; a sweep's share."""
    for mailing in retention.ripe_mailings(session, now - KEEP_LINKS)[:1]:
        retention.cut_links(session, mailing, now - KEEP_LINKS, limit=_CHUNK)


def forget_words(session: Session, *, now: dt.datetime) -> tuple[int, int]:
    """Forget old or disproved evidence, and old replies; of how many each."""
    return bounces.prune(session, now=now), retention.forget_replies(session, now - KEEP_REPLIES)
