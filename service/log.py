"""Structured logs: a static event name, key-values and ids. An address in a log line is a bug like a crash."""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO, cast

import structlog

# The net below the rule: whatever looks like an address is cut out before a line leaves the process.
# It looks once at each run of characters, from its start: from every place in it, 64 KB took half a minute.
_LOCAL_PART = r"""(?<![^\s<>()\[\],;:"'=])[^\s<>()\[\],;:"'=]+|"(?:[^"\\]|\\.){1,64}\""""
_ADDRESS = re.compile(rf"""(?:{_LOCAL_PART})@(?:\[[^\]\s]{{1,64}}\]|[^\s<>()\[\],;:"']+)""")


def cut_addresses(text: str) -> str:
    """`text` with everything that looks like a mail address replaced by `<address>`."""
    return _ADDRESS.sub("<address>", text) if "@" in text else text


def _without_addresses(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if isinstance(value, str):
            event[key] = cut_addresses(value)
        elif isinstance(value, bytes):
            event[key] = cut_addresses(value.decode("utf-8", "replace"))
    return event


class _AddressFilter(logging.Filter):
    """Cuts addresses out of the records of libraries that log through the standard library."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "@" in message:
            record.msg, record.args = cut_addresses(message), None
        return True


class _AddresslessFormatter(logging.Formatter):
    """Formats tracebacks without addresses: an exception of a library may echo what it was given."""

    def format(self, record: logging.LogRecord) -> str:
        return cut_addresses(super().format(record))


class _Patient:
    """A stream that takes what it can: a full disk of the log must not stop what the log is about."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return 0

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def configure(*, json: bool, level: str = "INFO") -> None:
    """Send structured events and the libraries' records to stderr, one line each, as JSON or for a terminal."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _without_addresses,
            structlog.processors.JSONRenderer(ensure_ascii=False)
            if json
            else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=cast("TextIO", _Patient(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_AddresslessFormatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.addFilter(_AddressFilter())
    logging.basicConfig(handlers=[handler], level=level, force=True)
    # Libraries tell their own steps at INFO; an operator wants ours.
    for chatty in ("alembic", "celery", "kombu", "uvicorn", "httpx", "asyncio", "mail.log"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def get(name: str) -> Any:
    """A logger for one part; bind ids with `.bind(mailing=…, batch=…)`."""
    return structlog.get_logger(part=name)
