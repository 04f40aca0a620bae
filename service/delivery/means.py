"""What one worker process sends with."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from service.delivery.letters import Stationery
from service.delivery.limits import Limits
from service.delivery.meter import Meter
from service.delivery.offload import Offload
from service.delivery.routes import Routes
from service.delivery.watch import Watch
from service.pace.bucket import Pace
from service.queue import Bell
from service.store import Database


@dataclass(frozen=True, slots=True)
class Means:
    """Shared by all runs of the process."""

    database: Database
    pace: Pace
    stationery: Stationery
    offload: Offload
    now: Callable[[], dt.datetime]
    stopping: Callable[[], bool]
    limits: Limits
    routes: Routes
    lease_seconds: float
    meter: Meter
    bell: Bell
    watch: Watch
    # Called in the database's thread once it is back: it may be a copy that lagged behind.
    returned: Callable[[], object] = lambda: None
