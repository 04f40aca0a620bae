"""Opening sessions with one relay: as many as are wanted and allowed, and after setbacks with patience."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable

from service.domain.replies import Phase
from service.log import cut_addresses
from service.mail.channel import Channel, SessionError
from service.mail.letter import Timeouts
from service.mail.relay import Relay
from service.mail.session import Capabilities, open_session
from service.mail.transaction import LoginWanted

_BACK_OFF = (0.0, 0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)  # seconds; the last repeats
_LOCKED_OUT = (60.0, 120.0, 300.0, 600.0)  # seconds after a login that was refused: accounts get locked
_SPARE_HANDLES = 16  # that sessions leave to the database, the journal and the books, which are opened now and then
_ENOUGH = 30.0  # seconds for which a relay that refuses one session more is not asked for it again


def short_of_handles(newest: int) -> bool:
    """Whether this process may open hardly any file more, by the newest that it has: the lowest free number is it."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return most != resource.RLIM_INFINITY and newest >= most - _SPARE_HANDLES


class Opener:
    """Calls `opened` with each new session, and `ended` when a try is over. `present` tells how many there are.

    `trouble` says why the relay cannot be used at present; then one session at a time is tried. Setbacks are counted
    until the owner says that the relay `answered` a letter as it should. One that lets in and then takes nothing stays
    in trouble until then.
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
        self._trouble_phase = Phase.CONNECT
        self.tries: set[asyncio.Task[None]] = set()
        self._relay = relay
        self._helo_name = helo_name
        self._timeouts = timeouts
        self._tls = relay.tls_context()
        self._present = present
        self._opened = opened
        self._ended = ended
        self._setbacks = 0
        # What spoke against a relay that let in, and when: to be let in again proves nothing.
        self._unproven: tuple[str, Phase] | None = None
        self._suspect = 0
        self._refused_logins = 0
        self._locked_out_until = 0.0
        self._retry_at = 0.0
        self._enough_until = 0.0

    @property
    def trouble_kind(self) -> str:
        """Of `trouble`, in a word: auth, tls or down."""
        return {Phase.AUTH: "auth", Phase.TLS: "tls"}.get(self._trouble_phase, "down")

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

    def set_back(self, phase: Phase, text: str, *, parted: bool = False, unused: bool = False) -> None:
        """A session that was let in has ended against the will of its letters: wait before the next.

        Where the relay `parted` with a 421, that was its answer; else it gave none. One that was `unused`, and is not
        the only one, was one more than the relay likes.
        """
        if unused and self._present():
            self._enough_until = max(self._enough_until, asyncio.get_running_loop().time() + _ENOUGH)
            return
        if not (parted or self._present()):
            self._unproven = text, phase
        self._wait(phase, text)

    def _wait(self, phase: Phase, text: str) -> None:
        self._setbacks += 1
        self._retry_at = asyncio.get_running_loop().time() + _BACK_OFF[min(self._setbacks, len(_BACK_OFF)) - 1]
        self._trouble_phase = phase
        if not self._present():
            self.trouble = text

    def login_wanted(self, wanted: LoginWanted) -> None:
        """Treat it as a login that was refused, and not as mended before a letter is answered as it should be.

        A login that ran out in a session that was proven is repeated at once.
        """
        text = f"{self._relay.name}: {wanted.text}"
        if not wanted.proven:
            if self._lock_out(asyncio.get_running_loop().time()):
                self._suspect = wanted.delivery_id
            self.set_back(Phase.AUTH, text)
        else:
            self._wait(Phase.AUTH, text)
        self._retry_at = max(self._retry_at, self._locked_out_until)

    def suspects(self, delivery_id: int) -> bool:
        """Whether the last wait for a login began with this very letter, and is over."""
        return delivery_id == self._suspect and asyncio.get_running_loop().time() >= self._locked_out_until

    def answered(self) -> None:
        """A letter had an answer, whatever it was, that says nothing against the relay."""
        self._setbacks = 0
        if self._unproven is not None:
            self._unproven = self.trouble = None
            self._refused_logins = 0

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
        if self._present() and short_of_handles(channel.handle):
            channel.abort("too few file handles")
            self._enough_until = asyncio.get_running_loop().time() + _ENOUGH
            return
        self.trouble = None
        if self._unproven is not None:
            self.trouble, self._trouble_phase = self._unproven
        if self._trouble_phase is not Phase.AUTH or self.trouble is None:
            self._refused_logins = 0
        self._opened(channel, capabilities)

    def _not_let_in(self, error: SessionError) -> None:
        """Wait before the next session: longer where a login was refused."""
        now = asyncio.get_running_loop().time()
        if error.phase is Phase.AUTH and error.tried:
            self._lock_out(now)
        if self._present():
            self._enough_until = max(now + _ENOUGH, self._locked_out_until)
        else:
            self._wait(error.phase, f"{self._relay.name}: {cut_addresses(error.text)} ({error.phase.value})")
        self._retry_at = max(self._retry_at, self._locked_out_until)

    def _lock_out(self, now: float) -> bool:
        """Begin a longer wait; not one for each of those that were tried at the same time."""
        if now < self._locked_out_until:
            return False
        self._locked_out_until = now + _LOCKED_OUT[min(self._refused_logins, len(_LOCKED_OUT) - 1)]
        self._refused_logins += 1
        return True

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tries.discard(task)
        if not task.cancelled():
            task.result()
        self._ended()
