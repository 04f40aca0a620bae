"""Whether the database may be believed after it was set back in time, and what an operator must decide."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable

from service import log
from service.domain.errors import ConflictError, NotFoundError
from service.store import Session, audit, hosts, lost_issues, mailings
from service.store.hosts import AwaitedHost
from service.store.mailings import Mailing

_log = log.get("standing")


def refuse_unsettled(session: Session, week: str) -> None:
    """Raise ConflictError where that week's issue must not be sent, or sent on, as the books stand."""
    refuse_lost(session, week)
    refuse_awaiting(session)


def refuse_lost(session: Session, week: str) -> None:
    """Raise ConflictError where the issue was mailed in a time that the database does not know of."""
    lost = lost_issues.find(session, week)
    if lost is not None:
        raise ConflictError(
            f"issue {week} was mailed already: host {lost.host[:8]} began it on {lost.begun_at:%Y-%m-%d %H:%M} UTC, "
            "and this database, which was restored from an older backup, does not know whom it reached. Restore a "
            f"newer one; or, if everybody may get it again, say so: tydzen mailing reconcile {week}"
        )


def refuse_awaiting(session: Session) -> None:
    """Raise ConflictError where hosts have not compared their journals with the database that answers now."""
    away = hosts.awaited(session)
    if away:
        raise ConflictError(
            f"the database was restored from an older copy, and the journals of {_names(away)} have not been compared "
            "with it: they may know of letters that it does not. Start a worker there; or, if that host is gone, go on "
            f"without what it knows: tydzen mailing reconcile --without {away[0].host[:8]}"
        )
    unheard = hosts.unheard(session)
    if unheard:
        raise ConflictError(
            f"another database answers since {unheard[0].since:%Y-%m-%d %H:%M} UTC, and {_names(unheard)} may know of "
            "letters that it does not. A worker that runs there looks within a quarter of a minute: try again then; "
            f"or, if that host is gone, go on without it: tydzen mailing reconcile --without {unheard[0].host[:8]}"
        )


def _names(found: Iterable[AwaitedHost]) -> str:
    return ", ".join(f"{one.host[:8]} (last seen {one.seen_at:%Y-%m-%d %H:%M} UTC)" for one in found)


def keep_waiting(session: Session, mailing: Mailing, reason: str, *, now: dt.datetime) -> None:
    """Leave the mailing in the state in which it was found, if it is in it still, and have it say what it waits for."""
    _log.warning("mailing-waits", mailing=mailing.id, reason=reason)
    if reason != mailing.reason:
        mailings.move(session, mailing.id, mailing.state, now=now, reason=reason, from_state=mailing.state)


def send_again(session: Session, week: str, *, actor: str, now: dt.datetime) -> None:
    """Let a lost issue be sent to everybody, whoever got it before. Raises NotFoundError where it is not lost."""
    if not lost_issues.decide(session, week, actor=actor, now=now):
        raise NotFoundError(f"nothing is known of a lost mailing of issue {week}; see: tydzen mailing reconcile")
    audit.append(session, at=now, actor=actor, action="issue.send_again", subject=f"issue:{week}", details={})


def go_on_without(session: Session, host: str, *, actor: str, now: dt.datetime) -> str:
    """Wait no longer for the host whose name begins so; its whole name. Raises NotFoundError unless one does."""
    waited_for = {one.host for one in (*hosts.awaited(session), *hosts.unheard(session))}
    found = [name for name in waited_for if name.startswith(host)]
    if len(found) != 1 or not hosts.go_on_without(session, found[0]):
        raise NotFoundError(f'no one host that is waited for begins with "{host}"; see: tydzen mailing reconcile')
    audit.append(session, at=now, actor=actor, action="host.without", subject=f"host:{found[0]}", details={})
    return found[0]
