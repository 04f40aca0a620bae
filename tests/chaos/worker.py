"""Celery's entry point for chaos: worker.py's app in a process that is armed. `celery -A tests.chaos.worker worker`."""

from tests.chaos.arming import arm_by_environment
from worker import app

__all__ = ["app"]

arm_by_environment()
