"""Celery's entry point on every machine: `celery -A worker worker`, `celery -A worker beat`."""

from service.bootstrap import celery_app as app

__all__ = ["app"]
