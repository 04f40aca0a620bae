"""PostgreSQL databases for tests, used again: to copy one takes half a second, to empty one takes a fiftieth."""

from __future__ import annotations

import os
import time
import uuid

import psycopg

from tests.servers import PostgresqlServer

# Whoever writes more leaves dead rows by which the next test would be planned and slowed.
_ROWS_TO_EMPTY = 2000
# Rows that are deleted stay in their files; after so many tests a new copy is cheaper.
_TESTS = 25

_SHAPE = """
SELECT md5(string_agg(x, E'\\n' ORDER BY x)) FROM (
    SELECT concat_ws(' ', c.relname, c.relkind, a.attname, a.atttypid, a.attnotnull, a.attnum)
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT concat_ws(' ', conname, pg_get_constraintdef(oid)) FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'
    UNION ALL SELECT s.setconfig::text FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
        WHERE d.datname = current_database()
    UNION ALL SELECT concat_ws(' ', datconnlimit, datallowconn, encoding, datcollate) FROM pg_database
        WHERE datname = current_database()
) shapes(x)
"""


class Databases:
    """The migrated databases of one test process; each is empty but for what the migrations put there."""

    def __init__(self, server: PostgresqlServer) -> None:
        self._server = server
        self._free: list[str] = []
        self._uses: dict[str, int] = {}
        self._first: _Contents | None = None

    def take(self) -> str:
        """The name of a database that is nobody else's until it is given back."""
        if self._free:
            return self._free.pop()
        name = f"t{os.getpid()}_{uuid.uuid4().hex[:12]}"
        self._server.create(name)
        self._uses[name] = 0
        if self._first is None:
            with self._connected(name) as connection:
                self._first = _Contents(connection)
        return name

    def give_back(self, name: str) -> None:
        """Empty it for the next test, or drop it where that is not certain or not worth it."""
        self._uses[name] += 1
        if self._uses[name] < _TESTS and self._emptied(name):
            self._free.append(name)
        else:
            self._server.drop(name)

    def _emptied(self, name: str) -> bool:
        try:
            with self._connected(name) as connection:
                _disconnect_others(connection)
                return self._first is not None and self._first.restore(connection)
        except psycopg.Error:
            return False

    def _connected(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self._server.url(name), autocommit=True)

    def close(self) -> None:
        """Drop what is left."""
        for name in self._free:
            self._server.drop(name)


def _disconnect_others(connection: psycopg.Connection) -> None:
    others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    connection.execute(f"SELECT pg_terminate_backend(pid) {others}")
    give_up = time.monotonic() + 10
    while connection.execute(f"SELECT count(*) {others} AND backend_type = 'client backend'").fetchone() != (0,):
        if time.monotonic() > give_up:
            raise psycopg.OperationalError("somebody stays connected")
        time.sleep(0.01)


class _Contents:
    """What a database held when it was new: its shape, rows and sequences."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._shape = connection.execute(_SHAPE).fetchone()
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        self._tables = [name for (name,) in rows]
        self._sequences = connection.execute(
            "SELECT sequencename, start_value, last_value FROM pg_sequences WHERE schemaname = 'public'"
        ).fetchall()
        self._rows = {name: _copied(connection, name) for name in self._tables}

    def restore(self, connection: psycopg.Connection) -> bool:
        """Whether the database could be brought back to this."""
        if connection.execute(_SHAPE).fetchone() != self._shape:
            return False
        deleted = 0
        with connection.transaction(), connection.cursor() as cursor:
            # Nothing refers to anything while all goes.
            cursor.execute("SET LOCAL session_replication_role = replica")
            for name in self._tables:
                deleted += cursor.execute(f'DELETE FROM "{name}"').rowcount
            for name, rows in self._rows.items():
                if rows:
                    with cursor.copy(f'COPY "{name}" FROM STDIN') as into:
                        into.write(rows)
            for name, start, last in self._sequences:
                cursor.execute("SELECT setval(%s::regclass, %s, %s)", (f'"{name}"', last or start, last is not None))
        return deleted < _ROWS_TO_EMPTY


def _copied(connection: psycopg.Connection, table: str) -> bytes:
    with connection.cursor() as cursor, cursor.copy(f'COPY "{table}" TO STDOUT') as rows:
        return b"".join(bytes(part) for part in rows)
