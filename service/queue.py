"""The bell: names of jobs, and ringing one by name after commit. Arguments are ids; the database is the truth.

A lost hint costs seconds, because the sweep looks into the database; so ringing never fails and never waits long.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from celery import Celery
from kombu.entity import Queue
from kombu.exceptions import ChannelError, OperationalError
from kombu.transport import TRANSPORT_ALIASES

from service import log
from service.domain.errors import UnavailableError
from service.store import Session, rings

SEND_BATCH = "tydzen.send_batch"
SEND_NOTICE = "tydzen.send_notice"
PLAN_MAILING = "tydzen.plan_mailing"
ANSWER_SIGNUP = "tydzen.answer_signup"
REMIND = "tydzen.remind"
TICK = "tydzen.tick"
JOB_NAMES = (SEND_BATCH, SEND_NOTICE, PLAN_MAILING, ANSWER_SIGNUP, REMIND, TICK)

BULK = "bulk"
NOTICES = "notices"
# Somebody waits for what comes of these.
_PROMPT = frozenset({SEND_NOTICE, ANSWER_SIGNUP})
TICK_SECONDS = 15

# A caller that rings waits at most about this long, in seconds, for a broker that is away; the sweep, for which nobody
# waits, longer: it must reach one whose answers take longer than that, too.
_RING_SECONDS = 0.15
_PATIENT_SECONDS = 2.0

# Besides the transport's own; the last of a host's name that no resolver takes.
_AWAY = (OperationalError, OSError, UnicodeError)

# Kombu finds its transports by name: ours reads Redis, in this process.
TRANSPORT_ALIASES["redis"] = "service.hints:HintTransport"

_log = log.get("queue")


class Bell(Protocol):
    """Something that wakes workers."""

    def ring(self, job: str, *ids: int | str) -> bool:
        """Hint that `job` has work for these ids; False where the hint was lost. Never raises."""
        ...

    def empty(self) -> bool:
        """Whether no hint waits: what was rung for and is not taken up was lost. False where that cannot be known."""
        ...


class Silence:
    """A bell for those who must not open a connection to the broker: the sweep finds what they would have rung for."""

    def ring(self, job: str, *ids: int | str) -> bool:
        """As `Bell.ring`, of a hint that is lost."""
        _log.debug("hint-kept-back", job=job, ids=list(ids))
        return False

    def empty(self) -> bool:
        """As `Bell.empty`, of one who does not ask."""
        return False


def ring_after_commit(session: Session, bell: Bell, job: str, *ids: int | str) -> None:
    """Ring once the transaction is durable, and never for one that is not.

    Where the hint is lost, the next sweep rings again: nothing counts as rung then.
    """
    session.after_commit(lambda: _ring(session, bell, job, *ids))


def _ring(session: Session, bell: Bell, job: str, *ids: int | str) -> None:
    if not bell.ring(job, *ids):
        session.afterwards(rings.doubt)


class CeleryBell:
    """Rings through Celery's broker, with a connection of its own that waits so many `seconds` for each answer.

    What fails is tried `tries` times in all, each on a new connection.
    """

    def __init__(self, app: Celery, seconds: float = _RING_SECONDS, tries: int = 1) -> None:
        self._app = app
        self._seconds = seconds
        self._tries = tries
        self._connection: Any = None
        self._silent_until = 0.0

    def patient(self) -> CeleryBell:
        """One for who keeps nobody waiting, and so can reach a broker that is far away."""
        return CeleryBell(self._app, _PATIENT_SECONDS, tries=2)

    def ring(self, job: str, *ids: int | str) -> bool:
        """As `Bell.ring`; after a failure the broker is left alone for a second, so that loops are not slowed."""

        def send(connection: Any) -> bool:
            queue = NOTICES if job in _PROMPT else BULK
            self._app.send_task(job, args=list(ids), queue=queue, connection=connection, retry=False)
            return True

        return self._asked(send, "hint-lost", job=job, ids=list(ids))

    def empty(self) -> bool:
        """As `Bell.empty`, as far as the queues know; a worker may hold one hint for each of its processes."""
        return self._asked(
            lambda connection: not any(_length(connection.default_channel, name) for name in (NOTICES, BULK)),
            "hints-not-counted",
        )

    def _asked(self, ask: Callable[[Any], bool], failure: str, **said: Any) -> bool:
        """What `ask` says of a connection to the broker; False, with a line in the log, where nobody answers."""
        if monotonic() < self._silent_until:
            return False
        lost = ""
        for _ in range(self._tries):
            try:
                if self._connection is None:
                    self._connection = self._connect()
                return ask(self._connection)
            except self._app.connection_for_write().transport.channel_errors as error:
                # It answers, and refuses this (an ACL): the next question may be one that it does not refuse.
                _log.warning(failure, error=type(error).__name__, **said)
                return False
            except (*_AWAY, *self._app.connection_for_write().transport.connection_errors) as error:
                self._forget_connection()
                lost = type(error).__name__
        self._silent_until = monotonic() + 1.0
        _log.warning(failure, error=lost, **said)
        return False

    def _connect(self) -> Any:
        return self._app.connection_for_write(
            connect_timeout=self._seconds,
            transport_options={
                **self._app.conf.broker_transport_options,
                "socket_connect_timeout": self._seconds,
                "socket_timeout": self._seconds,
                "max_retries": 0,
            },
        )

    def _forget_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):  # a dead connection may fail to end; it is gone either way
                connection.release()


def waiting(app: Celery) -> dict[str, int]:
    """How many hints wait in each queue; raises UnavailableError where the broker does not answer, or does not say."""
    try:
        with app.connection_for_read(connect_timeout=2) as connection:
            return {name: _length(connection.default_channel, name) for name in (NOTICES, BULK)}
    except app.connection_for_read().transport.channel_errors as error:
        raise UnavailableError(
            f"Redis refuses to count the hints that wait ({type(error).__name__}); the user of TYDZEN_REDIS_URL needs "
            "EXISTS and LLEN"
        ) from None
    except (*_AWAY, *app.connection_for_read().transport.connection_errors) as error:
        raise UnavailableError(f"Redis does not answer ({type(error).__name__}); see TYDZEN_REDIS_URL") from None


def _length(channel: Any, name: str) -> int:
    try:
        return int(channel.queue_declare(name, passive=True).message_count)
    except ChannelError:
        return 0  # Redis keeps no list that is empty


def celery_settings(redis_url: str) -> dict[str, Any]:
    """Celery's settings for hints over Redis, each with its reason."""
    return {
        "broker_url": _broker_url(redis_url),
        # Results would pile up in Redis and name readers' batches; the database holds what became of each.
        "task_ignore_result": True,
        # JSON and nothing else: a pickled task from a broker that was broken into is code.
        "accept_content": ["json"],
        "task_serializer": "json",
        # One hint at a time: a hint that waits in a busy process is a batch that another could have sent.
        "worker_prefetch_multiplier": 1,
        # Acknowledge on receipt: losing a hint costs seconds, but a redelivered one only costs work.
        "task_acks_late": False,
        # Redis has no redelivery that can be relied on, so the time-out must never fire within a batch's life.
        "broker_transport_options": {
            "visibility_timeout": 86400,
            # Two queues with a strict order: a notice never waits behind the hints of a weekly run.
            "queue_order_strategy": "priority",
            "socket_keepalive": True,
            # Notices a dead connection to the broker (a firewall that forgets) within half a minute.
            "health_check_interval": 25,
        },
        "task_default_queue": BULK,
        # Redis makes a list where something is put into it, and hints name theirs: to declare them is four round trips.
        "task_queues": [Queue(NOTICES, no_declare=True), Queue(BULK, no_declare=True)],
        "task_create_missing_queues": False,
        # A worker outlives its broker: it waits and goes on when the broker is back.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A broker that refuses commands (read-only, out of memory, loading) is away, too.
        "broker_channel_error_retry": True,
        "broker_connection_timeout": 4,
        # The batch in hand is not Redis's business: it is finished whatever becomes of the connection.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # A batch may be of a slow relay; what ends it is its own lease and the sessions' deadlines, not a timer.
        "task_time_limit": None,
        # Events are traffic nobody here reads; what workers say to each other is left out by `hints.HintCelery`.
        "worker_send_task_events": False,
        "worker_enable_remote_control": False,
        # Logs are ours, with addresses cut out; Celery must not replace the root handlers.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        # One process more than there are cores: a worker of both queues keeps one free of bulk.
        "worker_concurrency": (os.cpu_count() or 1) + 1,
        # Processes are recycled by memory alone: a connection pool is worth keeping.
        "worker_max_memory_per_child": 400_000,
        "timezone": "UTC",
        "beat_schedule": {"tick": {"task": TICK, "schedule": TICK_SECONDS, "options": {"expires": TICK_SECONDS}}},
        # The beat keeps no file: a tick is idempotent and the slots are in the database.
        "beat_scheduler": "celery.beat:Scheduler",
        "beat_max_loop_interval": 5,
    }


def _broker_url(redis_url: str) -> str:
    """Kombu's spelling of a Redis URL: it knows sockets as redis+socket."""
    return redis_url.replace("unix://", "redis+socket://", 1)
