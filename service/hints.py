"""How a worker reads hints from Redis: as Celery does, but one that is no task of ours never ends the worker."""

from __future__ import annotations

from queue import Empty
from typing import Any

from kombu.transport import redis

from service import log

_log = log.get("hints")


class HintChannel(redis.Channel):
    """A channel that drops what cannot be read; Celery's own takes it for an error that no worker survives."""

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            _log.warning("hint-unreadable", error=type(error).__name__)
            raise Empty from None


class HintTransport(redis.Transport):
    """Celery's transport over Redis, with our channel; `queue.celery_settings` has it used."""

    Channel = HintChannel
