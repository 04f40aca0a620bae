"""What `tydzen doctor` looks at in the engine: progress, queues, leases, journals, what is left alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from service.domain.errors import CheckFailedError
from service.domain.mailing import MailingState
from service.mail import autopsy, hindsight
from service.store import interventions, mailings, vitals

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.store.vitals import Vitals

# A sweep settles a dead worker's journal within its fifteen seconds.
_SETTLED_WITHIN = 120.0
# Each batch that ends rings the next, so no more hints wait than there are workers, but for those of a restart.
_MANY_HINTS = 10_000


def _read(parts: Services) -> Vitals:
    with parts.database.read() as session:
        return vitals.read(session)


def workers(parts: Services) -> str:
    """Whether any host's sweep was seen lately."""
    found = _read(parts)
    if not found.hosts:
        raise CheckFailedError("no worker was seen in the last two minutes; start one: celery -A worker worker")
    return f"seen on {found.hosts} host{'s' if found.hosts > 1 else ''}"


def progress(parts: Services) -> str:
    """Whether letters and notices that are due get anywhere."""
    found, limit = _read(parts), parts.settings.stalled_seconds
    if found.due_seconds > limit:
        raise CheckFailedError(
            f"letters are due, or a mailing is to be planned, and nothing moved for {found.due_seconds:.0f} s; "
            f"{_waits(parts) or 'is a worker running, and what does tydzen mailing status say?'}"
        )
    if found.notice_seconds > limit:
        raise CheckFailedError(
            f"a notice is due since {found.notice_seconds:.0f} s; run a worker of its own: "
            "celery -A worker worker -Q notices --concurrency=1"
        )
    return f"nothing that is due waits longer than {limit} s"


def _waits(parts: Services) -> str:
    """What mailings wait for, before they are planned, in their own words."""
    with parts.database.read() as session:
        unplanned = mailings.in_states(session, [MailingState.SCHEDULED, MailingState.PLANNING])
    return "; ".join(f"mailing {one.id} waits: {one.reason}" for one in unplanned if one.reason)


def queues(parts: Services) -> str:
    """How many hints wait in Redis, and whether one was left lying."""
    parts.require_redis()
    lengths = parts.queue_lengths()
    found = _read(parts)
    words = ", ".join(f"{name} {length}" for name, length in lengths.items())
    if sum(lengths.values()) > _MANY_HINTS:
        raise CheckFailedError(f"hints pile up in Redis ({words}); are workers of both queues running?")
    if found.ring_seconds > parts.settings.stalled_seconds:
        raise CheckFailedError(f"batches are rung for, and nobody takes one for {found.ring_seconds:.0f} s ({words})")
    return f"hints waiting: {words}"


def leases(parts: Services) -> str:
    """Whether batches lie with workers that have gone silent."""
    found = _read(parts)
    if found.unsettled_senders:
        raise CheckFailedError(
            f"{found.unsettled_senders} worker processes of silent hosts have letters that only their journals can "
            "decide; start those hosts again, with their data directories"
        )
    if found.lost_leases:
        raise CheckFailedError(f"{found.lost_leases} batches have letters under way and a lease that ran out; wait for "
                               "the next sweep, and if it stays so, is the host of their worker away?")  # fmt: skip
    return "none has run out with letters under way"


def journals(parts: Services) -> str:
    """Whether journals of this host may not be read and written, or those of dead workers lie unread."""
    closed = hindsight.closed(parts.settings.data_dir)
    if closed:
        raise CheckFailedError(
            f"{len(closed)} may not be read and written by this user, such as {closed[0]}, and letters that only they "
            f"know of wait; if they were copied by another user, run as root: {hindsight.how_to_open(closed[0])}"
        )
    unread = alive = 0
    for path in autopsy.unsettled(parts.settings.data_dir):
        try:
            if not autopsy.is_dead(path):
                alive += 1
            elif time.time() - path.stat().st_mtime > _SETTLED_WITHIN:
                unread += 1
        except OSError:
            continue  # settled meanwhile, or closed meanwhile: the next look tells
    if unread:
        raise CheckFailedError(f"{unread} journals of dead workers are not read yet; run: tydzen sweep")
    return f"{alive} in use, none left unread"


def counts(parts: Services) -> str:
    """Whether the numbers of what is being sent are those of its letters."""
    with parts.database.read() as session:
        under_way = mailings.in_states(session, [MailingState.SENDING, MailingState.PAUSED])
        wrong = [str(one.id) for one in under_way if interventions.miscounted(session, one.id)]
    if wrong:
        raise CheckFailedError(
            f"of mailing {', '.join(wrong)} some batches are not counted right; "
            "sweeps count them anew within ten minutes"
        )
    return "each mailing under way adds up, letter by letter"


def uncertain(parts: Services) -> str:
    """How many letters nobody can answer for; the operator's business, not a fault."""
    count = _read(parts).uncertain
    return f"{count}; see: tydzen mailing uncertain ID" if count else "no letter"


def left_alone(parts: Services) -> str:
    """Whether a relay or a provider is left alone at present."""
    held = _read(parts).breakers
    if held:
        words = ", ".join(f"{count} × {kind}" for kind, count in sorted(held.items()))
        raise CheckFailedError(f"left alone at present: {words}; see: tydzen pace show")
    return "nothing"
