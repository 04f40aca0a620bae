"""Finding the one reader that an operator names, by address or by the id of the ledger."""

from __future__ import annotations

from service.audience.addresses import checked
from service.domain.errors import NotFoundError
from service.domain.subscriber import read_public_id
from service.store import Session, subscribers
from service.store.subscribers import Subscriber


def reader(session: Session, named: str) -> Subscriber:
    """The reader with that address or id (`s_…`). Raises NotFoundError, which repeats neither."""
    row_id = read_public_id(named.strip())
    found = subscribers.find(session, checked(named)) if row_id is None else subscribers.get(session, row_id)
    if found is None:
        raise NotFoundError("no such subscriber")
    return found
