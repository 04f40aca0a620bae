"""What is forgotten when its time is over: one list, of which sweeps do some, and `tydzen retention run` all."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from service.delivery.notices import KEEP as KEEP_NOTICES
from service.store import Database, Session, bounces, confirmations, notices, requests, retention, senders, subscribers
from service.store.bounces import KEEP_REPLIES

# After a mailing has ended; then only its sums are left.
KEEP_LINKS = dt.timedelta(days=30)
# Rows in one transaction, of what there may be many: short enough that a worker's gate does not wait for it.
_CHUNK = 1000


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten, or is to be: `links` from readers to deliveries of `mailings`, `replies` of relays.

    `evidence` counts soft refusals that are too old or disproved, `sign_ups` confirmations, `requests` links that hold
    no more, `pauses` those that are over, `notices` those that nobody could tell twice any more, `senders` processes of
    workers that ended long ago.
    """

    mailings: int = 0
    links: int = 0
    replies: int = 0
    evidence: int = 0
    sign_ups: int = 0
    requests: int = 0
    pauses: int = 0
    notices: int = 0
    senders: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of what is kept for a time, by the name that `Forgotten` has for it.

    `forget` forgets some of what is due and says how much, and nothing is left to do when that is 0; `due` counts it.
    What is kept for days is looked at `seldom`.
    """

    name: str
    forget: Callable[[Session, dt.datetime], int]
    due: Callable[[Session, dt.datetime], int]
    seldom: bool = False


def run(database: Database, *, now: dt.datetime) -> Forgotten:
    """Forget all that is due. Idempotent, and safe beside workers and other runs."""
    with database.read() as session:
        mailings = len(retention.ripe_mailings(session, now - KEEP_LINKS))
    done: Counter[str] = Counter()
    for kind in KINDS:
        some = 1
        while some:
            with database.begin() as session:
                some = kind.forget(session, now)
            done[kind.name] += some
    return Forgotten(mailings, **done)


def rehearse(session: Session, *, now: dt.datetime) -> Forgotten:
    """What `run` would forget, without doing it."""
    mailings = len(retention.ripe_mailings(session, now - KEEP_LINKS))
    return Forgotten(mailings, **{kind.name: kind.due(session, now) for kind in KINDS})


def cut_some(session: Session, now: dt.datetime) -> int:
    """Forget the readers of some deliveries of the oldest mailings that are due; of how many."""
    left = _CHUNK
    for mailing in retention.ripe_mailings(session, now - KEEP_LINKS):
        left -= retention.cut_links(session, mailing, now - KEEP_LINKS, limit=left)
        if left == 0:
            break
    return _CHUNK - left


def _links(session: Session, now: dt.datetime) -> int:
    return sum(retention.links(session, mailing) for mailing in retention.ripe_mailings(session, now - KEEP_LINKS))


KINDS = (
    # Before the links are cut: what was accepted meanwhile disproves old evidence.
    Kind(
        "evidence",
        lambda session, now: bounces.prune(session, now=now),
        lambda session, now: bounces.prunable(session, now=now),
        seldom=True,
    ),
    Kind(
        "replies",
        lambda session, now: retention.forget_replies(session, now - KEEP_REPLIES),
        lambda session, now: retention.old_replies(session, now - KEEP_REPLIES),
        seldom=True,
    ),
    Kind("links", cut_some, _links),
    Kind("sign_ups", lambda session, now: confirmations.lapse(session, now, limit=_CHUNK), confirmations.ended),
    Kind("requests", requests.prune, requests.old),
    Kind(
        "pauses",
        lambda session, now: subscribers.forget_pauses(session, now.date()),
        lambda session, now: subscribers.past_pauses(session, now.date()),
        seldom=True,
    ),
    Kind(
        "notices",
        lambda session, now: notices.prune(session, now - KEEP_NOTICES),
        lambda session, now: notices.old(session, now - KEEP_NOTICES),
    ),
    # As long as the links: so long somebody may ask through which relay a letter went. Journals are kept for days only.
    Kind(
        "senders",
        lambda session, now: senders.forget(session, now - KEEP_LINKS),
        lambda session, now: senders.forgettable(session, now - KEEP_LINKS),
        seldom=True,
    ),
)
