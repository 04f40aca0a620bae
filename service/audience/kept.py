"""All that is kept of one reader, as the file that the reader gets: whatever a table knows of an id or an address."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from typing import Any

from service.store import Session, audit, bounces, confirmations, ledger, notices, requests, subscribers, suppressions
from service.store.subscribers import Subscriber


def kept_of(session: Session, reader: Subscriber) -> dict[str, Any]:
    """Everything, as JSON, the address in plain; the use-case owes the audit log an entry.

    Hashes of the address, and numbers that stand for nothing outside the database, are left out.
    """
    return {
        **_choices(session, reader),
        "soft_refusals": [asdict(one) for one in bounces.kept(session, reader.id)],
        "issues": _issues(session, reader),
        "chosen_for": ledger.chosen_for(session, reader.id),
        "requests": [
            {"purpose": one.purpose.value, "day": one.day.isoformat(), "used": one.used}
            for one in requests.of_reader(session, reader.id)
        ],
        "confirmations": _confirmations(session, reader),
        "notices": [
            {"kind": kind, "state": state.label, "day": day.isoformat()}
            for kind, state, day in notices.unsettled(session, reader.id)
        ],
        "changes": _changes(session, reader),
    }


def _choices(session: Session, reader: Subscriber) -> dict[str, Any]:
    suppression = suppressions.find(session, reader.address_hash)
    return {
        "id": reader.public_id,
        "address": subscribers.address(session, reader),
        "status": reader.status.value,
        "languages": list(reader.chain.languages),
        "text_only": reader.text_only,
        "paused_until": reader.paused_until.isoformat() if reader.paused_until else None,
        "joined_week": str(reader.joined_week),
        "consent": reader.consent,
        "suppressed": suppression and {"reason": suppression.reason.value, "since_week": str(suppression.since_week)},
    }


def _issues(session: Session, reader: Subscriber) -> list[dict[str, Any]]:
    return [
        {
            "week": one.week,
            "edition": one.edition,
            "state": one.state.label,
            "at": _written(one.at),
            "attempts": [
                {**asdict(attempt), "at": _written(attempt.at)}
                for attempt in ledger.failed_attempts(session, one.delivery)
            ],
        }
        for one in ledger.of_reader(session, reader.id)
    ]


def _confirmations(session: Session, reader: Subscriber) -> list[dict[str, Any]]:
    return [
        {
            "for": "new address" if one.moves else "sign-up",
            "address": one.address,
            "state": one.state.value,
            "languages": list(one.languages),
            "day": one.day,
            "reminded": one.reminded,
            "newest_issue": one.newest,
        }
        for one in confirmations.kept(session, reader.address_hash, reader.id)
    ]


def _changes(session: Session, reader: Subscriber) -> list[dict[str, Any]]:
    """The audit log's lines about the reader: what operators did, and the weeks of moves.

    Which operator it was is that person's business. Older releases wrote down more of what readers did themselves.
    """
    return [
        {
            "at": _written(one.at),
            "action": one.action,
            "by": "reader" if one.actor == "reader" else "operator",
            "details": dict(one.details),
        }
        for one in audit.about(session, reader.public_id)
    ]


def _written(at: dt.datetime | None) -> str | None:
    return None if at is None else at.isoformat()
