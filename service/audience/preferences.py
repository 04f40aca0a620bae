"""What a reader accepts: the chain of languages."""

from __future__ import annotations

import datetime as dt

from service.domain.chains import Chain
from service.store import Session, audit, subscribers
from service.store.subscribers import Subscriber


def set_chain(session: Session, reader: Subscriber, chain: Chain, *, actor: str, now: dt.datetime) -> bool:
    """Give the reader another chain, at once: a mailing that runs moves what was not sent yet. False if it is the same.

    `actor` is who the audit log names: `reader`, or an operator.
    """
    if reader.chain == chain:
        return False
    subscribers.set_chain(session, reader.id, chain)
    audit.append(
        session,
        at=now,
        actor=actor,
        action="subscriber.set",
        subject=reader.public_id,
        details={"before": str(reader.chain), "after": str(chain)},
    )
    return True
