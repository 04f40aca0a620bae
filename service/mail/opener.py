"""Opening sessions with one relay: as many as are wanted and allowed, and after setbacks with patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from service.domain.replies import Phase
from service.log import cut_addresses
from service.mail.channel import Channel, SessionError
from service.mail.letter import Timeouts
from service.mail.relay import Relay
from service.mail.session import Capabilities, open_session

_BACK_OFF = (0.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # seconds; the last repeats
_LOCKED_OUT = (60.0, 120.0, 300.0, 600.0)  # seconds after a login that was refused: accounts get locked
_ENOUGH = 30.0  # seconds for which a relay that refuses one session more is not asked for it again


class Opener:
    """Calls `opened` with each new session, and `ended` when a try is over. `present` tells how many there are.

    `trouble` says why the relay cannot be used at present; then one session at a time is tried. `setbacks` since the
    relay last answered as it should are counted by `set_back`, and set to 0 by the owner.
    """

    def __init__(
        self,
        relay: Relay,
        *,
        helo_name: str,
        timeouts: Timeouts,
        present: Callable[[], int],
        opened: Callable[[Channel, Capabilities], None],
        ended: Callable[[], None],
    ) -> None:
        self.trouble: str | None = None
        self.trouble_phase = Phase.CONNECT
        self.tries: set[asyncio.Task[None]] = set()
        self._relay = relay
        self._helo_name = helo_name
        self._timeouts = timeouts
        self._tls = relay.tls_context()
        self._present = present
        self._opened = opened
        self._ended = ended
        self.setbacks = 0
        self._refused_logins = 0
        self._locked_out_until = 0.0
        self._retry_at = 0.0
        self._enough_until = 0.0

    def open(self, wanted: int, *, most: int) -> None:
        """Begin to open `wanted` sessions more, counting those that are being opened, up to `most` in all."""
        loop = asyncio.get_running_loop()
        now, present = loop.time(), self._present()
        if now < self._retry_at or (present and now < self._enough_until):
            return
        allowed = 1 if self.trouble else most
        for _ in range(min(wanted - len(self.tries), allowed - present - len(self.tries))):
            task = loop.create_task(self._open())
            self.tries.add(task)
            task.add_done_callback(self._done)

    def set_back(self, phase: Phase, text: str) -> None:
        """Wait before the next session; a relay that lets in but takes nothing counts like one that is away."""
        self.setbacks += 1
        self._retry_at = asyncio.get_running_loop().time() + _BACK_OFF[min(self.setbacks, len(_BACK_OFF)) - 1]
        self.trouble_phase = phase
        if not self._present():
            self.trouble = text

    async def close(self) -> None:
        """Give up what is being opened."""
        for task in list(self.tries):
            task.cancel()
        await asyncio.gather(*self.tries, return_exceptions=True)

    async def _open(self) -> None:
        try:
            channel, capabilities = await open_session(
                self._relay, helo_name=self._helo_name, timeouts=self._timeouts, tls=self._tls
            )
        except SessionError as error:
            self._not_let_in(error)
            return
        self.trouble = None
        self._refused_logins = 0
        self._opened(channel, capabilities)

    def _not_let_in(self, error: SessionError) -> None:
        """Wait before the next session: longer where a login was refused."""
        now = asyncio.get_running_loop().time()
        # Those that were tried at the same time say it once.
        if error.phase is Phase.AUTH and now >= self._locked_out_until:
            self._locked_out_until = now + _LOCKED_OUT[min(self._refused_logins, len(_LOCKED_OUT) - 1)]
            self._refused_logins += 1
        if self._present():
            self._enough_until = max(now + _ENOUGH, self._locked_out_until)
        else:
            self.set_back(error.phase, f"{self._relay.name}: {cut_addresses(error.text)} ({error.phase.value})")
        self._retry_at = max(self._retry_at, self._locked_out_until)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tries.discard(task)
        if not task.cancelled():
            task.result()
        self._ended()
