"""How a session is spoken on: in lockstep, pipelined, or whole letters ahead; decided anew for each letter.

A letter by DATA whose session ends before the relay has asked for its body is provably unsent. A letter by BDAT that
stood behind another is uncertain then, and that is the price of sending several in one round trip. So letters go by
DATA where sessions are likely to end: at the start of one, after a long pause, and where the relay has ended others.
"""

from __future__ import annotations

from collections import deque

from service.domain.replies import Phase
from service.mail.session import Capabilities
from service.mail.transaction import Transaction

TRIAL = 2  # letters of a new session that go by DATA
_MARGIN = 2  # letters after which a session has outlived an ending
_REMEMBERED = 16  # endings


class Endings:
    """After how many letters the relay has ended sessions without a word; shared by the sessions of one wire."""

    def __init__(self) -> None:
        self._after: deque[int] = deque(maxlen=_REMEMBERED)
        self.known = False

    def note(self, answered: int) -> None:
        """Learn that a session was ended after so many letters."""
        self.known = True
        if answered not in self._after:
            self._after.append(answered)

    def near(self, answered: int, under_way: int) -> bool:
        """Whether a session may end before a letter that follows so many answered ones and so many under way."""
        return any(answered - _MARGIN < ending <= answered + under_way for ending in self._after)


class Manner:
    """Of one session. `window` is how many letters may be under way at once by BDAT, 0 where the relay cannot.

    The first `trial` letters go by DATA.
    """

    def __init__(self, can: Capabilities, *, window: int, endings: Endings, trial: int = TRIAL) -> None:
        self.pipelining = can.pipelining
        self._chunking = can.chunking and window > 0
        self.window = window if self._chunking and can.pipelining else 0
        self.answered = 0  # letters of this session whose dot had its reply
        self._trial = trial
        self._endings = endings

    def paused(self) -> None:
        """A long pause is over; the relay may have gone meanwhile."""
        self._trial = max(self._trial, 1)

    def lost(self) -> None:
        """The relay has ended the session while letters were under way."""
        if self.answered:
            self._endings.note(self.answered)

    def has_room(self, pipeline: deque[Transaction], *, blocked: bool) -> bool:
        """Whether another envelope may be written behind these letters; `blocked` while the kernel takes no more."""
        if not pipeline:
            return True
        # After DATA nothing may be written until the relay has answered it: RFC 2920 §3.1.
        last = pipeline[-1]
        if not self.pipelining or (last.phase is not Phase.DOT and not last.chunked):
            return False
        return not self.window or (len(pipeline) < self.window and not blocked)

    def chunked(self, pipeline: deque[Transaction]) -> bool:
        """Whether the next letter goes by BDAT, behind these; asked once for each."""
        if not self.window:
            return self._chunking
        if self._trial:
            self._trial -= 1
            return False
        return not (self._endings.known and self._endings.near(self.answered, len(pipeline)))
