"""The database as one process sees it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.store import DatabaseAwayError

if TYPE_CHECKING:
    from tests.simulation.machines import Site


class SeenDatabase:
    """It may be away, lose a transaction, or not say that it was committed."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.sealer = site.database.sealer
        self.postgresql = False
        self.asks_alone = False
        self.losses = 0

    @contextmanager
    def begin(self) -> Iterator[Any]:
        site = self._site
        fate = ""
        if site.database_away:
            raise DatabaseAwayError("away")
        if site.database_trouble and site.world.rng.random() < site.database_trouble:
            fate = site.world.rng.choice(("lost", "unknown"))
            site.counts[f"commits {fate}"] += 1
        with site.database.begin() as session:
            yield session
            if fate == "lost":
                raise DatabaseAwayError("lost before the commit")
            if fate == "unknown":
                session._after_commit.clear()
        if fate == "unknown":
            raise DatabaseAwayError("lost after the commit")

    def close(self) -> None:
        """Connections are not simulated."""

    def run_short(self) -> None:
        """Nor do they run short."""

    def give_back(self) -> None:
        """Nor given back."""

    @contextmanager
    def read(self) -> Iterator[Any]:
        if self._site.database_away:
            raise DatabaseAwayError("away")
        with self._site.database.read() as session:
            yield session
