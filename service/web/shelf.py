"""The printed pages of the site, kept in this process until something that the public sees has changed.

The database is asked at most once a second whether anything has; what is at hand is served without asking.
"""

from __future__ import annotations

import datetime as dt
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from service.bootstrap import Services
from service.domain.archive import Archive, ReleasedIssue
from service.domain.content import Edition, edition
from service.domain.errors import NotFoundError
from service.domain.weeks import Week
from service.render.fragments import Fragments
from service.render.site import Site
from service.store import issues, releases
from service.store import publication as publications
from service.web.sheet import Sheet

FRESH = dt.timedelta(seconds=1)
_ROOM = 32_000_000  # octets of pages, of which an issue with five commentaries has about 30,000


@dataclass(frozen=True, slots=True)
class Room:
    """What the public may read at one moment, and the pages printed from it."""

    parts: Services
    mark: str
    site: Site
    archive: Archive

    def require(self, language: str) -> None:
        """Raise NotFoundError for a language that the publication has not."""
        if language not in self.site.publication.languages:
            raise NotFoundError("the publication has no such language")

    def released(self, week: Week) -> ReleasedIssue:
        """That week's issue; raises NotFoundError where the public may not see one."""
        found = self.archive.issue(week)
        if found is None:
            raise NotFoundError("there is no such issue, or not yet")
        return found

    def edition(self, week: Week, language: str) -> Edition:
        """That week's issue as a page in `language` shows it; raises NotFoundError where there is nothing of it."""
        self.released(week)
        with self.parts.database.read() as session:
            issue = issues.load(session, week)
        shown = edition(self.site.publication, issue, self.site.chain(language))
        if shown is None:
            raise NotFoundError(f"issue {week} has no approved text")
        return shown


@dataclass(slots=True)
class _Kept:
    sheets: OrderedDict[str, tuple[Sheet, Any]] = field(default_factory=OrderedDict)
    octets: int = 0


class Shelf:
    """The pages of one process."""

    def __init__(self, parts: Services, room: int = _ROOM) -> None:
        self._parts = parts
        self._most = room
        self._fragments = Fragments()
        self._lock = Lock()
        self._looking = Lock()
        self._room: Room | None = None
        self._looked_at: dt.datetime | None = None
        self._kept = _Kept()

    def room(self) -> Room:
        """What the public may read, as of a second ago at most; raises NotFoundError where there is no publication."""
        with self._looking:
            if self._room is None or not self._fresh():
                self._look()
            assert self._room is not None
            return self._room

    def _fresh(self) -> bool:
        looked = self._looked_at
        # A clock that was set back must not make this moment last.
        return looked is not None and dt.timedelta(0) <= self._parts.clock.now() - looked < FRESH

    def _look(self) -> None:
        looked = self._parts.clock.now()
        with self._parts.database.read() as session:
            # The mark comes first: what changes while the rest is read makes another one.
            mark = releases.mark(session)
            if self._room is None or self._room.mark != mark:
                publication = publications.load(session)
                archive = releases.archive(session)
                site = Site(publication, self._parts.base_url(publication), fragments=self._fragments)
                with self._lock:
                    self._room, self._kept = Room(self._parts, mark, site, archive), _Kept()
        self._looked_at = looked

    def at_hand(self, path: str) -> tuple[Sheet, Any] | None:
        """The page of that path and its route, if it may be served without asking anyone."""
        if not self._fresh():
            return None
        with self._lock:
            found = self._kept.sheets.get(path)
            if found is not None:
                self._kept.sheets.move_to_end(path)
            return found

    def sheet(self, path: str, route: object, make: Callable[[Room], Sheet]) -> Sheet:
        """The page of that path, printed by `make` unless it was since the last change."""
        room = self.room()
        if found := self.at_hand(path):
            return found[0]
        kept = self._kept
        made = make(room)
        with self._lock:
            # A page of before a change that came meanwhile goes to those who asked for it, and no further.
            if self._kept is kept and room is self._room and path not in kept.sheets:
                kept.sheets[path] = (made, route)
                kept.octets += made.octets
                while kept.octets > self._most and len(kept.sheets) > 1:
                    kept.octets -= kept.sheets.popitem(last=False)[1][0].octets
        return made


class FromShelf:
    """Answers what is at hand before any route is looked for."""

    def __init__(self, app: ASGIApp, shelf: Shelf) -> None:
        self._app = app
        self._shelf = shelf

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is not at hand."""
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD"):
            found = self._shelf.at_hand(scope["path"])
            if found is not None:
                sheet, scope["route"] = found
                await sheet(scope, receive, send)
                return
        await self._app(scope, receive, send)
