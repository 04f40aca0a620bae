"""The engine and the `Session` that everything above holds: one transaction, opened and committed at the edge."""

from __future__ import annotations

import datetime as dt
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, CursorResult, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, SQLAlchemyError

from service import log
from service.clock import CommonClock
from service.domain.errors import ConfigurationError
from service.store import pooling, write_lock
from service.store.database_url import checked_url
from service.store.departures import Departure, DepartureLog
from service.store.errors import DatabaseAwayError, DuplicateError
from service.store.sealing import Sealer

if TYPE_CHECKING:
    from service.store.alone import Alone

SQLITE_BUSY_SECONDS = 30
# A server that falls silent without a word (a firewall that drops, a dead machine) is given up within half a minute, in
# libpq's words (for each host of several; a Unix socket has no use for the last four), and so is one that only confirms
# what it gets (see `store.silence`). No `statement_timeout`: a silent server would not keep it, and a living one would
# break off the freezing of a large audience.
_SILENCE = {
    "connect_timeout": 10,  # seconds
    "keepalives_idle": 10,  # seconds until the first question whether it lives, while its answer is awaited
    "keepalives_interval": 5,  # seconds
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,  # milliseconds that what was sent may go without a sign that it arrived
}
# The same from the other end: a host that dies or is cut off between two statements would hold its locks, for which the
# other hosts wait, until the server's TCP misses it: two hours. Nothing here thinks for a minute in a transaction.
_IDLE = "idle_in_transaction_session_timeout"
# Have the server end a session that stays idle in a transaction; what the URL, role or server says holds.
_END_IDLE = f"SELECT set_config('{_IDLE}', '60s', false) WHERE current_setting('{_IDLE}') = '0'"
# Rows are locked by hand, and who waited for one goes on with what it is then: a stricter default would refuse it.
_BEGIN = f"SET default_transaction_isolation = 'read committed'; {_END_IDLE}"
# Who reads row by row is as slow as whatever he feeds, and locks nothing.
_MAY_IDLE = sa.text(f"SET LOCAL {_IDLE} = 0")

_SCARCE_SECONDS = 60.0

_log = log.get("database")


class Session:
    """One transaction. Statements raise DatabaseAwayError or DuplicateError, never an error of the driver's."""

    def __init__(self, connection: Connection, sealer: Sealer) -> None:
        self._connection = connection
        self._before_commit: list[Callable[[], None]] = []
        self._after_commit: list[Callable[[], None]] = []
        self._afterwards: dict[Callable[[Session], None], None] = {}
        self._departures: list[Departure] = []
        # Readers by (week, chain, change), as `store.growth` notes them.
        self.growth: Counter[tuple[str, str, str]] = Counter()
        self.sealer = sealer
        self.postgresql = connection.dialect.name == "postgresql"

    def execute(self, statement: sa.Executable, parameters: Any = None) -> CursorResult[Any]:
        """The result of one statement."""
        with translated():
            return self._connection.execute(statement, parameters)

    def rows(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows of a PostgreSQL statement with `%(name)s` parameters, by the driver itself.

        For what every group of letters needs: it costs half of what `execute` does.
        """
        return _driver_rows(self._connection, statement, parameters)

    def scalar(self, statement: sa.Executable, parameters: Any = None) -> Any:
        """The first column of the first row, or None."""
        with translated():
            return self._connection.scalar(statement, parameters)

    def stream(self, statement: sa.Executable, chunk: int = 1000) -> Iterator[Any]:
        """Rows as they come, never all in memory."""
        if self.postgresql:
            self.execute(_MAY_IDLE)
        with translated():
            options = {"stream_results": True, "max_row_buffer": chunk}
            with self._connection.execute(statement, execution_options=options) as result:
                for part in result.partitions(chunk):
                    yield from part

    def before_commit(self, call: Callable[[], None]) -> None:
        """Have `call` execute the transaction's last statements, so that what they lock is held for a moment only."""
        self._before_commit.append(call)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Have `call` run once the transaction is durable; never, if it is not. It must not raise."""
        self._after_commit.append(call)

    def afterwards(self, work: Callable[[Session], None]) -> None:
        """Have `work` done in a transaction of its own, once, when all that is called after the commit is through.

        To be asked for by such a call. Where the database is away by then, nothing is done.
        """
        self._afterwards[work] = None

    def depart(self, departure: Departure) -> None:
        """Have a departure written down on this host before the transaction commits, where the database has a log."""
        self._departures.append(departure)

    def now(self) -> dt.datetime:
        """The database's clock: leases of all hosts are compared by this one."""
        if self.postgresql:
            instant: dt.datetime = self.scalar(sa.text("SELECT clock_timestamp()"))
            return instant.astimezone(dt.UTC)
        return dt.datetime.now(dt.UTC)

    @property
    def connection(self) -> Connection:
        """The connection below, for `store` only."""
        return self._connection


def _driver_rows(connection: Connection, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    import psycopg

    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    try:
        # Prepared, so planned once per connection; binary, because octets are not written out in hexadecimal then.
        return driver.execute(statement, parameters, prepare=True, binary=True).fetchall()
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise _ours(error, lost=driver.closed) from None


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours; parameters are never part of them."""
    try:
        yield
    except IntegrityError as error:
        raise _duplicate(error.orig) from None
    except DBAPIError as error:
        # A deadlock, a full disk and a server that starts or stops are subclasses of the first.
        away = isinstance(error, OperationalError | InterfaceError) or _read_only(error.orig)
        if error.connection_invalidated or away:
            raise _away(error.orig) from None
        raise
    except SQLAlchemyError as error:
        if isinstance(error, sa.exc.TimeoutError):
            raise DatabaseAwayError("no database connection came free in time") from None
        raise


def _duplicate(error: BaseException | None) -> DuplicateError:
    # The driver's detail may echo values of the row: only the constraint's name goes on.
    name = getattr(getattr(error, "diag", None), "constraint_name", None) or "a unique rule"
    return DuplicateError(f"the database refused a row: {name}")


def _away(error: BaseException | None) -> DatabaseAwayError:
    return DatabaseAwayError(f"the database is away or busy ({type(error).__name__}); is it running?")


def _read_only(error: BaseException | None) -> bool:
    return type(error).__name__ == "ReadOnlySqlTransaction"


def _ours(error: Exception, *, lost: bool) -> Exception:
    """Our error for one of psycopg's, by the same rules as `translated`."""
    import psycopg

    if isinstance(error, psycopg.IntegrityError):
        return _duplicate(error)
    if lost or isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or _read_only(error):
        return _away(error)
    return error


@contextmanager
def _driver_translated() -> Iterator[None]:
    """As `translated`, of what psycopg says without SQLAlchemy between: also when a pool connects anew."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise _ours(error, lost=False) from None


class Database:
    """The engine of one process, with the keys that open what it holds.

    `departures` is where readers whom a relay sends away are written down, beside the database. `clock` is told the
    server's time whenever it is time for that and a transaction begins; SQLite has no other than this machine's.
    """

    def __init__(
        self,
        url: str,
        sealer: Sealer,
        *,
        pool_size: int = 5,
        departures: DepartureLog | None = None,
        clock: CommonClock | None = None,
    ) -> None:
        self.url = checked_url(url)
        self.sealer = sealer
        self._departures = departures
        self._clock = clock
        # How many connections of this process were found dead. A pool takes new ones in silence, and what answers them
        # may be another server, which knows less than the one before (see `delivery.reconciling`).
        self.losses = 0
        self._alone: Alone | None = None
        self._scarce_until = 0.0
        if self.postgresql:
            self._engine, self._alone = _postgresql_engine(self.url, pool_size, self._note_loss)
        else:
            self._engine = _sqlite_engine(self.url, pool_size)
        event.listen(self._engine, "invalidate", self._note_loss)
        self._pid = os.getpid()

    @property
    def postgresql(self) -> bool:
        """Whether this is PostgreSQL (else SQLite)."""
        return self.url.get_backend_name() == "postgresql"

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """A transaction that writes: committed at the end of the block, rolled back by an exception."""
        with translated():
            with self.engine.connect() as connection, connection.begin():
                session = self._session(connection)
                yield session
                self._write_down(session._departures)  # noqa: SLF001  # the transaction's own list
                for call in session._before_commit:  # noqa: SLF001  # the transaction's own list
                    call()
            # Whoever is told may take long to hear, and others may want the connection.
            for call in session._after_commit:  # noqa: SLF001  # the transaction's own list
                call()
        self._follow(session._afterwards)  # noqa: SLF001  # the transaction's own list

    def _follow(self, works: Collection[Callable[[Session], None]]) -> None:
        if not works:
            return
        try:
            with self.begin() as session:
                for work in works:
                    work(session)
        except DatabaseAwayError as error:
            _log.warning("database-away", error=str(error))

    @property
    def scarce(self) -> bool:
        """Whether connections were not to be had within the last minute: a process should do with one."""
        return time.monotonic() < self._scarce_until

    @property
    def asks_alone(self) -> bool:
        """Whether `rows_alone` is to be used: only PostgreSQL has it, and it wants a connection of its own."""
        return self.postgresql and not self.scarce

    def run_short(self) -> None:
        """The database was away, and may have as many connections as it bears: do with one for a minute.

        Processes that each kept one and waited for another would wait for each other. For the running loop.
        """
        self._scarce_until = time.monotonic() + _SCARCE_SECONDS
        if self._alone is not None and self._alone.let_go():
            # What answers the next one may be another server.
            self._note_loss()

    def give_back(self) -> None:
        """Close the connections of this process that lie idle: others may want them, and one is soon made anew.

        For who is about to claim before anything else: by the claim another server is found out. No loop may be asking
        statements alone meanwhile.
        """
        if self._alone is not None:
            self._alone.let_go()
            self.engine.dispose()

    async def rows_alone(self, statement: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """As `Session.rows`, of a statement that is a transaction by itself, over the running loop's own connection."""
        assert self._alone is not None, "for PostgreSQL only"
        with _driver_translated():
            return await self._alone.rows(statement, parameters)

    def _note_loss(self, *_what: object) -> None:
        self.losses += 1

    def _write_down(self, departed: list[Departure]) -> None:
        if not departed or self._departures is None:
            return
        try:
            self._departures.record(departed)
        except OSError as error:
            # Nobody is mailed because a disk is full: then the database alone remembers.
            _log.error("departure.not_written", error=type(error).__name__, errno=error.errno)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads: on SQLite it takes no write lock."""
        with translated(), self.engine.connect().execution_options(tydzen_read=True) as connection, connection.begin():
            yield self._session(connection)

    @contextmanager
    def look(self) -> Iterator[Session]:
        """For one statement that only reads. On PostgreSQL it is a transaction by itself: one round trip, not three."""
        alone: dict[str, Any] = {"isolation_level": "AUTOCOMMIT"} if self.postgresql else {"tydzen_read": True}
        with translated(), self.engine.connect().execution_options(**alone) as connection:
            yield Session(connection, self.sealer)

    def _session(self, connection: Connection) -> Session:
        session = Session(connection, self.sealer)
        if self._clock is not None and session.postgresql and self._clock.stale:
            self._clock.tell(session.now())
        return session

    @property
    def engine(self) -> Engine:
        """The engine, made new after a fork: a connection must never be shared by two processes."""
        if os.getpid() != self._pid:
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()
        if self._alone is not None:
            self._alone.close()


def _postgresql_engine(url: URL, pool_size: int, lost: Callable[[], None]) -> tuple[Engine, Alone]:
    from service.store import silence
    from service.store.alone import Alone

    # What the URL itself says holds.
    ours = {name: value for name, value in _SILENCE.items() if name not in url.query}
    engine = sa.create_engine(url, hide_parameters=True, pool_size=pool_size, max_overflow=5, connect_args=ours)
    pooling.ping_after_pause(engine)
    pooling.close_what_comes_late(engine)
    return engine, Alone(silence.attend(engine, _BEGIN, ours), lost=lost, trusted=pooling.trusted)


def _sqlite_engine(url: URL, pool_size: int) -> Engine:
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        poolclass=sa.pool.QueuePool,
        pool_size=pool_size,
        connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False},
    )
    pooling.close_what_comes_late(engine)

    @event.listens_for(engine, "connect")
    def prepare(dbapi: Any, _record: Any) -> None:
        # The driver's own BEGIN is deferred: a read that turns into a write fails at once in spite of busy_timeout.
        dbapi.isolation_level = None
        cursor = dbapi.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {SQLITE_BUSY_SECONDS * 1000}")
        try:
            # The first that reads the file.
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
                raise
            dbapi.close()
            raise ConfigurationError(f"{url.database} is not an SQLite database: restore your backup") from None
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA temp_store = MEMORY")
        cursor.execute("PRAGMA cache_size = -16000")
        cursor.execute("PRAGMA secure_delete = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if connection.get_execution_options().get("tydzen_read", False):
            connection.exec_driver_sql("BEGIN")
        else:
            write_lock.begin(connection, SQLITE_BUSY_SECONDS)

    return engine
