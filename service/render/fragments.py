"""Pieces of pages by the hash of what they are made from: of an issue, only a corrected article is rendered anew."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock

from markupsafe import Markup


class Fragments:
    """At most `characters` of rendered HTML; what was used longest ago goes first."""

    def __init__(self, characters: int = 8_000_000) -> None:
        self._room = characters
        self._held: OrderedDict[bytes, Markup] = OrderedDict()
        self._lock = Lock()

    def markup(self, made_from: object, make: Callable[[], Markup]) -> Markup:
        """What `make` returns, or returned when it was last made from the same.

        Two things are the same when they are written the same: `repr` must tell all that `make` reads.
        """
        key = hashlib.sha256(repr(made_from).encode()).digest()
        with self._lock:
            found = self._held.get(key)
            if found is not None:
                self._held.move_to_end(key)
                return found
        made = make()
        with self._lock:
            if key not in self._held:
                self._held[key] = made
                self._room -= len(made)
            while self._room < 0 and len(self._held) > 1:
                self._room += len(self._held.popitem(last=False)[1])
        return made
