"""Routes: through which line the next group of letters goes, by the order or the weights of the relays."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from service.clock import suspended_monotonic
from service.delivery.limits import DaySpentError, Limits, spent_error
from service.delivery.line import Line
from service.domain.limits import INSTALLATION, provider_scope, relay_scope
from service.pace.bucket import FOR_EVER
from service.store.provider_keys import is_hashed

# A relay that is asked first and takes nothing for so long counts as one in trouble.
_FULL_SECONDS = 5.0
# With weights, tokens of a relay that are further off than this are not waited for: another one may have some. It is
# asked again so long before they are good, so that a look that comes late costs it no rate.
_PATIENCE = 0.1
# With weights a relay gets so many letters at a time, so that a small mailing is divided as a large one is.
_LONGEST_TURN = 100
# With weights, so long is a relay's turn kept that has no room: letters come and go. One without tokens is asked for
# them no sooner.
_MOMENT = 0.1
_LOOK_SECONDS = 0.1


@dataclass(slots=True)
class Routes:
    """Belongs to one process; shared by all its runs.

    Without weights the first relay is used that can be: the next where it is in trouble, its day is spent or it took
    nothing for some seconds. With weights each gets its part of the letters, and what one has no room or no tokens for
    goes through another; one of weight 0 gets what no other has room and tokens for. A relay that is well again is
    noticed, because each that comes before the chosen one is asked, too.
    """

    limits: Limits
    now: Callable[[], dt.datetime]
    # By relay: letters it was given, divided by its weight; the least is next.
    _given: dict[str, float] = field(default_factory=dict)
    _full_since: dict[str, float] = field(default_factory=dict)
    _limited_until: dict[str, float] = field(default_factory=dict)
    _domains: dict[str, str] = field(default_factory=dict)
    _held: set[str] = field(default_factory=set)
    _told: Sequence[Line] = ()
    _version: int = 0

    async def room(
        self,
        lines: Sequence[Line],
        want: Callable[[Line], int],
        provider: str = "",
        *,
        despite_caps: bool = False,
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> tuple[Line, int]:
        """The line for the next group, and how many letters it takes, at most what `want` says for it; waits for room.

        `waiting` counts the time that another run may use. Safe to cancel. Raises UnavailableError after a line was
        stopped, and DaySpentError where all that may be sent today is sent: by the installation, to the provider, or
        through every relay; not so with `despite_caps`.
        """
        while True:
            self._apply(lines)
            asked: list[Line] = []
            found = self._look(lines if despite_caps else self._usable(lines, provider), want, asked)
            if found is not None:
                return found
            # What has no tokens of any relay would have none for another run either.
            with waiting() if asked else nullcontext():
                await _any_change(asked, want)

    def room_now(self, lines: Sequence[Line], want: Callable[[Line], int], provider: str) -> tuple[Line, int] | None:
        """As `room`, without waiting: None where no line has room at present. Raises the same."""
        self._apply(lines)
        return self._look(self._usable(lines, provider), want, [])

    def spent_until(self, lines: Sequence[Line], provider: str) -> dt.datetime | None:
        """Until when all that may be sent is sent, as `room` finds it; None where it is not."""
        try:
            self._usable(lines, provider)
        except DaySpentError as spent:
            return spent.until
        return None

    def learn(self, lines: Sequence[Line], provider: str, domain: str) -> None:
        """A provider of which only a keyed hash is stored has this domain: letters name it so.

        The wires know it from then on, so that its connections hold for the letters that are handed over next.
        """
        if provider not in self._domains:
            self._domains[provider] = domain
            self._told = ()
            self._apply(lines)

    def _apply(self, lines: Sequence[Line]) -> None:
        """Tell the wires of connections, where a limit has changed or they are new."""
        if lines is self._told and self._version == self.limits.version:
            return
        if self._version != self.limits.version:
            self._limited_until.clear()
        fixed = self.limits.connections_of_providers()
        for line in lines:
            line.wire.limit(self.limits.of(relay_scope(line.relay)).connections or line.wire.relay.connections)
            for provider in {*fixed, *self._held}:
                if not is_hashed(name := self._domains.get(provider, provider)):
                    line.wire.hold(name, fixed.get(provider))
        self._held = set(fixed)
        self._told, self._version = lines, self.limits.version

    def patience(self, lines: Sequence[Line]) -> float:
        """How many seconds to wait for tokens of one relay before it is looked for another one.

        Whether the others can be used at present is no matter: it is `room` that waits then, for the first that can.
        """
        return _PATIENCE if len(lines) > 1 and self._weighted(lines) else FOR_EVER

    def out_of_tokens(self, line: Line, seconds: float) -> None:
        """This line's relay has no tokens for so long: no room is found there before it is worth asking again."""
        self._limited_until[line.relay] = suspended_monotonic() + max(seconds - _PATIENCE, _MOMENT)

    def give(self, lines: Sequence[Line], line: Line, letters: int) -> None:
        """So many letters went through this line."""
        if len(lines) == 1:
            return
        level = self._given.get(line.relay, 0.0)
        # Who could take nothing meanwhile has no claim to it later.
        for other in lines:
            self._given[other.relay] = max(level, self._given.get(other.relay, 0.0))
        self._given[line.relay] = level + letters / (self._weight(line) or 1)

    def _usable(self, lines: Sequence[Line], provider: str) -> Sequence[Line]:
        now = self.now()
        for scope in (INSTALLATION, provider_scope(provider)):
            if self.limits.spent(scope, now):
                raise spent_error(scope, now)
        usable = [line for line in lines if not self.limits.spent(relay_scope(line.relay), now)]
        if not usable:
            raise spent_error(relay_scope(lines[-1].relay), now)
        return usable

    def _look(self, lines: Sequence[Line], want: Callable[[Line], int], asked: list[Line]) -> tuple[Line, int] | None:
        weighted = self._weighted(lines)
        now = suspended_monotonic()
        for line in self._by_part(lines, now) if weighted else lines:
            asked.append(line)
            wanted = min(want(line), _LONGEST_TURN) if weighted else want(line)
            room = line.wire.room_now(wanted)
            if room:
                # One that takes a letter now and then, and never all, keeps no turn for each of them.
                if room == wanted or not weighted:
                    self._full_since.pop(line.relay, None)
                return line, room
            full_since = self._full_since.setdefault(line.relay, now)
            patience = _MOMENT if weighted else _FULL_SECONDS
            if line.wire.trouble is None and now - full_since < patience:
                return None
        return None

    def _by_part(self, lines: Sequence[Line], now: float) -> Sequence[Line]:
        def place(line: Line) -> tuple[bool, float]:
            return self._weight(line) == 0, self._given.get(line.relay, 0.0)

        return sorted((line for line in lines if self._limited_until.get(line.relay, 0.0) <= now), key=place)

    def _weight(self, line: Line) -> int:
        weight = self.limits.of(relay_scope(line.relay)).weight
        return 1 if weight is None else weight

    def _weighted(self, lines: Sequence[Line]) -> bool:
        return any(self.limits.of(relay_scope(line.relay)).weight is not None for line in lines)


async def _any_change(lines: Sequence[Line], want: Callable[[Line], int]) -> None:
    """Wait a moment until one of these lines has room."""
    if not lines:
        await asyncio.sleep(_LOOK_SECONDS)
        return
    tasks = [asyncio.ensure_future(line.wire.room(want(line))) for line in lines]
    try:
        done, _ = await asyncio.wait(tasks, timeout=_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    for task in done:
        task.result()
