"""The way to SQLite without what only real servers need: no pool, no events, no results that may come in parts.

`service.store.database` and everything above it run unchanged, with the statements that SQLAlchemy builds and compiles;
between a compiled statement and the driver there is this instead of `sqlalchemy.engine`, at a fifth of its cost.
`test_seeds` compares the two.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.engine import Row
from sqlalchemy.engine.result import SimpleResultMetaData

_Values = Mapping[str, Any]


class Straight:
    """Stands for `sa.Engine`, of a database that has one connection and lies in memory."""

    def __init__(self, engine: sa.Engine, driver: sqlite3.Connection) -> None:
        self.url = engine.url
        self.dialect = engine.dialect
        self.driver = driver
        self._compiled: dict[Any, Any] = {}
        self._forms: dict[int, _Form] = {}
        self._kept: dict[int, tuple[weakref.ref[Any], _Fixed]] = {}

    def connect(self) -> Connection:
        return Connection(self)

    def dispose(self, *, close: bool = True) -> None:
        """There is nothing to let go of: `close` is what a fork asks not to do."""

    def call_for(self, statement: Any, values: _Values, *, many: bool = False) -> _Call:
        """The statement, compiled, ready to be given values of those names."""
        kept = self._kept.get(id(statement))
        if kept is not None and kept[0]() is statement and kept[1].names == tuple(values):
            return kept[1]
        # What SQLAlchemy remembers of a statement that was executed before: it will be again.
        lasting = not many and "_generate_cache_key" in vars(statement)
        compiled, extracted, own, _ = statement._compile_w_cache(
            self.dialect, compiled_cache=self._compiled, column_keys=sorted(values), for_executemany=many
        )
        form = self._forms.get(id(compiled))
        if form is None:
            form = self._forms[id(compiled)] = _Form(compiled, self.dialect)
        if not lasting or form.expands:
            return _Passing(form, extracted, own)
        fixed = _Fixed(form, extracted, own, tuple(values))
        self._kept[id(statement)] = weakref.ref(statement), fixed
        return fixed

    def wrong(self, error: sqlite3.Error, statement: str) -> Exception:
        """The driver's error as SQLAlchemy raises it."""
        return sa.exc.DBAPIError.instance(
            statement, None, error, sqlite3.Error, hide_parameters=True, dialect=self.dialect
        )


class _Form:
    """What every execution of one compiled statement has in common."""

    def __init__(self, compiled: Any, dialect: Any) -> None:
        # No column has a default that SQLAlchemy would have to work out.
        assert not [*compiled.insert_prefetch, *compiled.update_prefetch]
        self.compiled = compiled
        self.expands = bool(compiled.literal_execute_params or compiled.post_compile_params)
        self.columns = _Columns(compiled._result_columns, dialect)


class _Columns:
    """Names and types of what is found."""

    def __init__(self, entries: Sequence[Any], dialect: Any) -> None:
        self._meta = self._processors = None
        if entries:
            self._meta = SimpleResultMetaData([entry.keyname for entry in entries])
            processors = [entry.type._cached_result_processor(dialect, None) for entry in entries]
            self._processors = processors if any(processors) else None

    def maker(self, cursor: sqlite3.Cursor) -> Callable[[tuple[Any, ...]], Row[Any]]:
        if self._meta is None:
            self._meta = SimpleResultMetaData([name for name, *_ in cursor.description or ()])
        meta, processors, places = self._meta, self._processors, self._meta._key_to_index
        return lambda found: Row(meta, processors, places, found)


class _Passing:
    """A statement that was built for this one execution."""

    def __init__(self, form: _Form, extracted: Any, own: Any) -> None:
        self.columns = form.columns
        self._form, self._extracted, self._own = form, extracted, own

    def text_and_values(self, values: _Values) -> tuple[str, list[Any]]:
        compiled = self._form.compiled
        named = compiled.construct_params(
            values, extracted_parameters=self._extracted, escape_names=False, _collected_params=self._own
        )
        text, order, processors = compiled.string, compiled.positiontup, compiled._bind_processors
        if self._form.expands:
            expanded = compiled._process_parameters_for_postcompile(named)
            text, order, named = expanded.statement, expanded.positiontup, expanded.parameters
            processors = {**processors, **expanded.processors}
        return text, [processors[name](named[name]) if name in processors else named[name] for name in order]


class _Fixed:
    """A statement that is executed again and again: all that does not change is worked out once."""

    def __init__(self, form: _Form, extracted: Any, own: Any, names: tuple[str, ...]) -> None:
        compiled = form.compiled
        self.columns = form.columns
        self.names = names
        self._text = compiled.string
        known = compiled.construct_params(
            dict.fromkeys(names), extracted_parameters=extracted, escape_names=False, _collected_params=own
        )
        processors = compiled._bind_processors
        keys = {name: bind.key for bind, name in compiled.bind_names.items()}
        self._slots = []
        for name in compiled.positiontup:
            given = next((one for one in (keys[name], name) if one in names), None)
            process = processors.get(name)
            constant = None if given else process(known[name]) if process else known[name]
            self._slots.append((given, process if given else None, constant))

    def text_and_values(self, values: _Values) -> tuple[str, list[Any]]:
        return self._text, [
            constant if given is None else values[given] if process is None else process(values[given])
            for given, process, constant in self._slots
        ]


_Call = _Passing | _Fixed


class Connection:
    """Stands for `sa.Connection`."""

    def __init__(self, engine: Straight) -> None:
        self.engine = engine
        self.dialect = engine.dialect
        self._reading = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execution_options(self, *, tydzen_read: bool = False, **_: Any) -> Connection:
        """This connection; as the engine's listener does, it begins to read or to write."""
        self._reading = self._reading or tydzen_read
        return self

    @contextmanager
    def begin(self) -> Iterator[None]:
        driver = self.engine.driver
        self._run(driver.execute, "BEGIN" if self._reading else "BEGIN IMMEDIATE")
        try:
            yield
            self._run(driver.execute, "COMMIT")
        except BaseException:
            if driver.in_transaction:
                driver.rollback()
            raise

    def execute(self, statement: Any, parameters: Any = None) -> Answer:
        if parameters.__class__ is list and len(parameters) != 1:
            call = self.engine.call_for(statement, parameters[0], many=True)
            calls = [call.text_and_values(values) for values in parameters]
            return self._answer(self._run(self.engine.driver.executemany, calls[0][0], [some for _, some in calls]))
        values = parameters[0] if parameters.__class__ is list else parameters or {}
        call = self.engine.call_for(statement, values)
        text, positional = call.text_and_values(values)
        return self._answer(self._run(self.engine.driver.execute, text, positional), call.columns)

    def scalar(self, statement: Any, parameters: Any = None) -> Any:
        return self.execute(statement, parameters).scalar()

    def exec_driver_sql(self, statement: str, parameters: Any = ()) -> Answer:
        driver = self.engine.driver
        run = driver.executemany if parameters.__class__ is list else driver.execute
        return self._answer(self._run(run, statement, parameters))

    def _answer(self, cursor: sqlite3.Cursor, columns: _Columns | None = None) -> Answer:
        return Answer(cursor, (columns or _Columns((), self.dialect)).maker(cursor) if cursor.description else None)

    def _run(self, run: Callable[..., sqlite3.Cursor], text: str, *values: Any) -> sqlite3.Cursor:
        try:
            return run(text, *values)
        except sqlite3.Error as error:
            raise self.engine.wrong(error, text) from error


class Answer:
    """Stands for `sa.CursorResult`: as much of it as the store asks for. A method that is not here is not used."""

    def __init__(self, cursor: sqlite3.Cursor, make: Callable[[tuple[Any, ...]], Row[Any]] | None) -> None:
        self._cursor = cursor
        self._make = make

    @property
    def rowcount(self) -> int:
        return self._cursor.rowcount

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cursor.close()

    def __iter__(self) -> Iterator[Any]:
        make = self._rows()
        return (make(found) for found in self._cursor)

    def all(self) -> list[Any]:
        make = self._rows()
        return [make(found) for found in self._cursor.fetchall()]

    def fetchall(self) -> list[Any]:
        return self.all()

    def first(self) -> Any:
        make = self._rows()
        found = self._cursor.fetchone()
        self._cursor.close()
        return None if found is None else make(found)

    def one_or_none(self) -> Any:
        found = self.all()
        if len(found) > 1:
            raise sa.exc.MultipleResultsFound
        return found[0] if found else None

    def one(self) -> Any:
        found = self.one_or_none()
        if found is None:
            raise sa.exc.NoResultFound
        return found

    def scalar(self) -> Any:
        found = self.first()
        return None if found is None else found[0]

    def scalar_one(self) -> Any:
        return self.one()[0]

    def scalars(self) -> _Scalars:
        return _Scalars(self)

    def partitions(self, size: int) -> Iterator[list[Any]]:
        make = self._rows()
        while some := self._cursor.fetchmany(size):
            yield [make(found) for found in some]

    def _rows(self) -> Callable[[tuple[Any, ...]], Row[Any]]:
        if self._make is None:
            raise sa.exc.ResourceClosedError
        return self._make


class _Scalars:
    """The first column of an answer."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[Any]:
        return (found[0] for found in self._answer)

    def all(self) -> list[Any]:
        return list(self)

    def first(self) -> Any:
        return self._answer.scalar()
