"""Counting what is asked of a database."""

from __future__ import annotations

import contextlib

from sqlalchemy import event


@contextlib.contextmanager
def counted(database):
    """The statements executed inside the block, as they come."""
    statements: list[str] = []

    def note(_connection, _cursor, statement, _parameters, _context, _many):
        statements.append(statement.strip())

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
