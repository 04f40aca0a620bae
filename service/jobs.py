"""Every Celery task: parse the ids, call one use-case. No logic lives here."""

from __future__ import annotations
