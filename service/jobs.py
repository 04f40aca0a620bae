"""Every Celery task: parse the ids, call one use-case. No logic lives here. And what a worker does when it starts."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

from celery import shared_task, signals

from service import log, queue
from service.audience import reminding
from service.audience import signup as signing_up
from service.bootstrap import preload, services
from service.delivery.rest import Rest
from service.delivery.stopping import StopFlag
from service.domain.errors import ConfigurationError
from service.embedded.companion import Companion
from service.pace.places import Places

if TYPE_CHECKING:
    from service.bootstrap import Services
    from service.delivery.process import SendingProcess

# Made before the pool forks, so that the parent can tell all its children at once to stop after the letters in hand.
_stopping = StopFlag()
_parent: int | None = None  # whose pool this process is of
_places: Places | None = None
_process: SendingProcess | None = None
_parts: Services | None = None
_rest: Rest | None = None

# Seconds without work after which a process keeps no connection to the database.
_REST_SECONDS = 5.0
# Seconds between two looks whether the sweep beside this worker is still there.
_LOOK_AFTER_SWEEP = 5

_log = log.get("jobs")


def parts() -> Services:
    """The parts of this process."""
    global _parts  # noqa: PLW0603  # one process, one set of parts
    if _parts is None:
        _parts = services()
    return _parts


def sending() -> SendingProcess:
    """What this process sends with, made with its first batch."""
    global _process  # noqa: PLW0603  # one process, one loop
    if _process is None:
        assert _places is not None
        _process = parts().sending_process(_places, _stopping.is_set)
    return _process


def rest() -> Rest:
    """The rest of this process between two tasks, made with its first."""
    global _rest  # noqa: PLW0603  # one process, one rest
    if _rest is None:
        _rest = Rest(parts().database.give_back, _REST_SECONDS)
    return _rest


@shared_task(name=queue.SEND_BATCH)  # type: ignore[untyped-decorator]
def send_batch(batch: int) -> None:
    """Send what is due of a batch."""
    sending().send_batch(int(batch))


@shared_task(name=queue.SEND_NOTICE)  # type: ignore[untyped-decorator]
def send_notice(notice: int) -> None:
    """Send one transactional mail."""
    sending().send_notice(int(notice))


@shared_task(name=queue.ANSWER_SIGNUP)  # type: ignore[untyped-decorator]
def answer_signup(signup: int) -> None:
    """See whether whoever signed up may be asked to confirm, and ask."""
    made = parts()
    with made.database.begin() as session:
        signing_up.answer(session, made.bell, int(signup), now=made.now())


@shared_task(name=queue.REMIND)  # type: ignore[untyped-decorator]
def remind(confirmation: str) -> None:
    """Remind of a sign-up that was not confirmed."""
    made = parts()
    with made.database.begin() as session:
        reminding.remind(session, made.bell, bytes.fromhex(confirmation), now=made.now())


@shared_task(name=queue.PLAN_MAILING)  # type: ignore[untyped-decorator]
def plan_mailing(mailing: int) -> None:
    """Render, freeze and cut a mailing."""
    parts().books.compare()
    parts().planner.plan(int(mailing))


@shared_task(name=queue.TICK)  # type: ignore[untyped-decorator]
def tick() -> None:
    """Look for what is due, whatever hints were lost."""
    parts().sweep.run()


@signals.celeryd_after_setup.connect  # type: ignore[untyped-decorator]
def on_setup(sender: str, instance: Any, **_kwargs: Any) -> None:
    """Before the pool forks: see that this worker can work at all, and load what its processes share."""
    try:
        _prepare(sender, instance)
    except ConfigurationError as error:
        # Celery takes an error here for a nuisance and goes on; nothing that this worker took up would get anywhere.
        _not_started(str(error))
    except PermissionError as error:
        # Of the mark, or another book beside the journals: each claim would meet it again.
        mend = f"give it to this worker's user: chown {os.geteuid()} {error.filename}"
        _not_started(f"{error.filename}: {error.strerror}; {mend}")


def _not_started(reason: str) -> NoReturn:
    _log.error("worker-not-started", reason=reason)
    raise SystemExit(1) from None


def _prepare(sender: str, instance: Any) -> None:
    """Keep one process free of bulk where this worker also sends notices."""
    global _places, _parent  # noqa: PLW0603  # set once, before the fork
    _parent = os.getpid()
    both = {queue.BULK, queue.NOTICES} <= set(instance.app.amqp.queues.consume_from)
    processes = instance.concurrency or os.cpu_count() or 1
    count = max(1, processes - 1) if both else processes
    _places = Places.of_new_worker(Path(parts().settings.data_dir) / "places", count)
    preload(parts())
    # What is there by now stays. No process is to stand still for a tenth of a second, with readers' letters under way,
    # to look through all of it for what could go, nor to write into memory that it shares.
    gc.collect()
    gc.freeze()
    _log.info("worker-starting", worker=sender.partition("@")[0], processes=processes, bulk=count)


@signals.worker_ready.connect  # type: ignore[untyped-decorator]
def on_ready(sender: Any, **_kwargs: Any) -> None:
    """The sweep runs beside every worker, in a process that ends with it, and needs neither beat nor broker."""
    sweep = Companion("sweep", "--every", str(queue.TICK_SECONDS))
    sweep.keep()
    sender.timer.call_repeatedly(_LOOK_AFTER_SWEEP, sweep.keep)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        _tell_first(number)


def _tell_first(number: signal.Signals) -> None:
    """Let the children know of that signal before Celery does: at SIGQUIT it waits for them first, and then tells."""
    celerys = signal.getsignal(number)
    assert callable(celerys)

    def tell(received: int, frame: FrameType | None) -> None:
        _stopping.set()
        celerys(received, frame)

    signal.signal(number, tell)


@signals.worker_process_init.connect  # type: ignore[untyped-decorator]
def on_fork(**_kwargs: Any) -> None:
    """A child starts with nothing of its parent's that is open: no connection, no journal, no loop."""
    global _process, _rest  # noqa: PLW0603  # made anew in this process
    if _parent is not None and os.getppid() != _parent:
        # It died before Celery had bound this process to it. Nobody would ever end one that waits for its hints:
        # each of its siblings holds the others' pipes open.
        os._exit(1)
    _process = _rest = None
    # Some supervisors tell a whole group to stop. The parent does that in good order: see `on_stop`.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@signals.worker_shutting_down.connect  # type: ignore[untyped-decorator]
def on_stop(**_kwargs: Any) -> None:
    """Tell the children: finish what is past the dot, give back the rest."""
    _stopping.set()


@signals.task_prerun.connect  # type: ignore[untyped-decorator]
def on_task(**_kwargs: Any) -> None:
    """A task has its connections for itself."""
    rest().end()


@signals.task_postrun.connect  # type: ignore[untyped-decorator]
def on_task_done(**_kwargs: Any) -> None:
    """Nobody knows when there is work here again, and others may wait for a connection."""
    rest().begin(at_once=parts().database.scarce)


@signals.worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def on_exit(**_kwargs: Any) -> None:
    """Leave nothing open."""
    if _rest is not None:
        _rest.end()
    if _process is not None:
        _process.close()


@signals.setup_logging.connect  # type: ignore[untyped-decorator]
def on_logging(**_kwargs: Any) -> None:
    """Logging is set up already; Celery must not add handlers that know nothing of addresses."""
