"""Arrays of ids for PostgreSQL, as one text value: the driver's own dumping of lists costs more than the statement."""

from __future__ import annotations

from collections.abc import Sequence


def array_literal(ids: Sequence[int]) -> str:
    """The ids as PostgreSQL writes an array, for `CAST(:ids AS bigint[])`."""
    return f"{{{','.join(map(str, ids))}}}"
