"""Looking up thousands of keyed hashes in one statement."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from service.store.database import Session, translated


def of_hashes(session: Session, select: str, hashes: Collection[bytes]) -> list[tuple[Any, ...]]:
    """The rows of `select`, which ends in the name of a hash column, for any of `hashes`.

    Written for the driver: SQLAlchemy would give each of the hashes a name, which takes longer than finding them.
    """
    if not hashes:
        return []
    with translated():
        if session.postgresql:
            found = session.connection.exec_driver_sql(f"{select} = ANY(%s::bytea[])", (list(hashes),))
        else:
            marks = ",".join("?" * len(hashes))
            found = session.connection.exec_driver_sql(f"{select} IN ({marks})", tuple(hashes))
        return [tuple(row) for row in found]
