"""The one transaction of a command that changes something, or its rehearsal: `--dry-run`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from service.store import Database, Session


class _NothingDoneError(Exception):
    """Rolls a dry run back."""


@contextlib.contextmanager
def changing(database: Database, *, dry_run: bool) -> Iterator[Session]:
    """A dry run does it all and takes it back, rings nobody, and so fails where the run would."""
    with contextlib.suppress(_NothingDoneError), database.begin() as session:
        yield session
        if dry_run:
            raise _NothingDoneError


def ending(dry_run: bool) -> str:
    """How the message of a command ends: a rehearsal says that it was one."""
    return "; a dry run, nothing was changed" if dry_run else ""
