"""How a worker reads hints from Redis: as Celery does, but one that is no task of ours never ends the worker.

And it misses Redis for no longer than it must: Celery's own waits between two tries grow to half a minute.
"""

from __future__ import annotations

from functools import cached_property
from queue import Empty
from typing import Any

from celery import Celery
from celery.app.amqp import AMQP
from kombu.connection import Connection
from kombu.transport import redis

from service import log

# Seconds between two looks whether a broker that is away is back; it begins with one.
_LOOK_EVERY = 5

_log = log.get("hints")


class HintChannel(redis.Channel):
    """A channel that drops what cannot be read; Celery's own takes it for an error that no worker survives."""

    def _connparams(self, *args: Any, **more: Any) -> Any:
        """What connections are made with: they say nothing that costs a round trip and that nobody needs to hear.

        By themselves they greet in RESP3, and tell their library's name and version: four round trips for each of two.
        """
        parameters = super()._connparams(*args, **more)  # type: ignore[no-untyped-call]
        return {**parameters, "protocol": 2, "driver_info": None}

    def _brpop_read(self, **options: Any) -> Any:
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            _log.warning("hint-unreadable", error=type(error).__name__)
            raise Empty from None


class HintTransport(redis.Transport):
    """Celery's transport over Redis, with our channel; `queue.celery_settings` has it used."""

    Channel = HintChannel


class HintConnection(Connection):
    """A connection that is soon there when its broker is back."""

    def ensure_connection(self, errback: Any = None, max_retries: int | None = None, **more: Any) -> Any:
        """As Celery calls it; `errback` is called with each error and the seconds until the next try."""
        patience = {"interval_start": 1, "interval_step": 1, "interval_max": _LOOK_EVERY}
        return super().ensure_connection(errback, max_retries, **{**more, **patience})  # type: ignore[no-untyped-call]


class HintCelery(Celery):  # type: ignore[misc]  # Celery has no types
    """Celery's app whose workers ask and tell each other nothing; `bootstrap.celery_application` makes it.

    By itself each asks all others who they are, at every new connection to the broker, and waits a second for answers
    before it hears a hint; on a line that is slow and breaks every few seconds it would never come to hear one.
    """

    @cached_property
    def Worker(self) -> Any:  # noqa: N802  # Celery's name for it
        """The class of its workers, however they are started."""
        from celery.apps.worker import Worker  # here, where a worker starts: it brings much that nobody else needs

        class LoneWorker(Worker):  # type: ignore[misc]  # Celery has no types
            def __init__(self, *args: Any, **options: Any) -> None:
                silent = dict.fromkeys(("without_mingle", "without_gossip", "without_heartbeat"), True)
                super().__init__(*args, **{**options, **silent})

        return self.subclass_with_self(LoneWorker)


class HintAmqp(AMQP):  # type: ignore[misc]  # Celery has no types
    """What Celery makes its connections with; `bootstrap.celery_application` has it used."""

    Connection = HintConnection
