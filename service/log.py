"""Structured logs: a static event name, key-values and ids. An address in a log line is a bug like a crash."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

# The net below the rule: whatever looks like an address is cut out before a line leaves the process.
_ADDRESS = re.compile(r"[^\s<>()\[\],;:\"'=]+@[^\s<>()\[\],;:\"']+")


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
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
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
