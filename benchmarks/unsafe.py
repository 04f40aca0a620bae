"""Workers without journal and gate, to measure what these cost. Of the benchmark only: the service has no such switch.

Celery loads it in place of `worker`: `celery -A benchmarks.unsafe worker`. What is left is what any sender must do:
read the readers of a group, send, and mark as accepted. PostgreSQL only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from service.domain.delivery import DeliveryState
from service.mail.journal import Journal
from service.store import gate, outcomes
from service.store.arrays import array_literal
from service.store.database import Session
from worker import app  # noqa: F401  # Celery looks for it here

# In the place of the gate's statement: it takes the same values and answers with the same columns.
_READ = """
    WITH marked AS (
        UPDATE deliveries SET state = 2, at = %(now)s WHERE id = ANY(CAST(%(accepted)s AS bigint[])) RETURNING id
    ), counted AS (
        UPDATE batches b SET pending = b.pending - a.letters, accepted = b.accepted + a.letters
        FROM (SELECT count(*) AS letters FROM marked) a WHERE b.id = %(batch)s RETURNING a.letters
    )
    SELECT NULL::float8, counted.letters, d.id, d.attempts, s.id, s.epoch, s.sealed, d.reason
    FROM counted CROSS JOIN deliveries d JOIN subscribers s ON s.id = d.subscriber_id
    WHERE d.id = ANY(CAST(%(ids)s AS bigint[]))
    """
_ACCEPT = sa.text(
    """
    WITH marked AS (
        UPDATE deliveries SET state = 2, at = :now WHERE id = ANY(CAST(:ids AS bigint[])) RETURNING batch_id
    ), totals AS (SELECT batch_id, count(*) AS accepted FROM marked GROUP BY batch_id)
    UPDATE batches b SET pending = b.pending - t.accepted, accepted = b.accepted + t.accepted
    FROM totals t WHERE b.id = t.batch_id RETURNING t.batch_id, t.accepted
    """
)


def accept(session: Session, _attempt: int, ids: Sequence[int], now_ms: int) -> set[int]:
    rows = session.execute(_ACCEPT, {"ids": array_literal(ids), "now": now_ms}).all()
    return {row.batch_id for row in rows}


def always(*_arguments: Any, **_values: Any) -> bool:
    return True


def nothing(*_arguments: Any) -> None:
    return None


assert int(DeliveryState.ACCEPTED) == 2
gate._POSTGRESQL_GATE = _READ  # noqa: SLF001
gate.still_open = always
outcomes._accept = accept  # type: ignore[assignment]  # noqa: SLF001
Journal.dot = Journal.reply = Journal.accepted = nothing  # type: ignore[method-assign,assignment]
