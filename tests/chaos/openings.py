"""What relays do to sessions that begin, and the cells that `tests.chaos.first_second` runs."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tests.chaos import arming
from tests.chaos.arming import Order
from tests.chaos.matrix import Cell, Ground
from tests.smtp_sink import EXTENSIONS, Rule

CALM = [Rule("DOT", delay=0.03)]
_SHARES = (0.3, 0.5, 0.8)

GROUNDS = (
    Ground("postgresql, in clear", "postgresql", frozenset()),
    Ground("sqlite, in clear", "sqlite", frozenset()),
    Ground("postgresql, starttls and login", "postgresql", frozenset()),
    Ground("sqlite, starttls and login", "sqlite", frozenset()),
)
SECURE = GROUNDS[2:]


def _promises(*without: str) -> str:
    """A reply to EHLO; what is offered in the wrong place (STARTTLS within TLS) the worker does not look for."""
    offered = [word for word in (*EXTENSIONS, "STARTTLS", "AUTH PLAIN LOGIN") if word.split()[0] not in without]
    return "250-sink\r\n" + "".join(f"250-{word}\r\n" for word in offered) + "250 HELP\r\n"


# What happens to a session. The first of its rules whose share a session is in ends it, so that each has its chance.
CLASSES: dict[str, tuple[Rule, ...]] = {
    "accept-closed": (Rule("CONNECT", then="drop"),),
    "accept-reset": (Rule("CONNECT", then="reset"),),
    "banner-421": (Rule("CONNECT", "421 4.3.2 too busy", then="drop"),),
    "banner-554": (Rule("CONNECT", "554 5.7.1 not you"),),
    "banner-stalled": (Rule("CONNECT", then="hang"),),
    "ehlo-closed": (Rule("EHLO", _promises(), then="drop"),),
    "ehlo-421": (Rule("EHLO", "421 4.3.2 too busy", then="drop"),),
    "ehlo-502": (Rule("EHLO", "502 5.5.1 what?"),),
    "promises": (
        Rule("EHLO", _promises("CHUNKING")),
        Rule("EHLO", _promises("PIPELINING")),
        Rule("EHLO", _promises("CHUNKING", "PIPELINING", "SIZE", "8BITMIME")),
    ),
    "mail-closed": (Rule("MAIL", then="drop"),),
    "rcpt-closed": (Rule("RCPT", "250 2.1.5 recipient ok", then="drop"),),
    "bdat-dropped": (Rule("CHUNK", then="drop"),),
    "starttls-454": (Rule("STARTTLS", "454 4.7.0 not now"),),
    "starttls-closed": (Rule("STARTTLS", then="drop"),),
    "handshake-closed": (Rule("STARTTLS", "220 2.0.0 go", take=False, then="drop"),),
    "auth-454": (Rule("AUTH", "454 4.7.0 not now"),),
    "auth-535": (Rule("AUTH", "535 5.7.8 who are you?"),),
    "auth-closed": (Rule("AUTH", "235 2.7.0 welcome", then="drop"),),
}
CLASSES["mixed"] = tuple(itertools.chain.from_iterable(CLASSES.values()))
# Where letters go through on every session, or on each its first two.
_NEVER_DARK = {"ehlo-502", "promises", "bdat-dropped", "mixed"}
_OF_TLS = ("starttls-", "handshake-", "auth-")

POINTS = (
    "random",
    *arming.OPENING,
    "line-opened",
    "after-claim",
    "after-tokens",
    "after-gate",
    "before-mail",
    "after-rcpt-reply",
    "after-dot-record",
    "after-write",
    "reply-read",
    "before-record",
    "before-give-back",
)
# Passed seldom: to wait for a later time there would be to wait in vain.
_SELDOM = ("session-", "line-")


@dataclass(frozen=True)
class EarlyCell(Cell):
    """One class of openings, and one deed: at a point, or at a random moment to a random process."""

    def orders(self) -> list[Order]:
        if self.point == "random":
            return []
        if self.point.startswith(_SELDOM):
            return [Order(f"{self.number}", self.point, self.action, 0 if self.patient else self.chance.randrange(3))]
        return super().orders()

    @property
    def ground(self) -> Ground:
        grounds = SECURE if self.reply.startswith(_OF_TLS) else GROUNDS
        return grounds[(self.seed + self.number) % len(grounds)]

    @property
    def dark(self) -> bool:
        """Whether its relay takes nothing at first."""
        return self.reply not in _NEVER_DARK and self._half("dark")

    @property
    def brisk(self) -> bool:
        """Whether its relay takes one letter a session; of BDAT there would be nothing then."""
        return not self.dark and self.reply != "bdat-dropped" and (self.reply not in _NEVER_DARK or self._half("brisk"))

    def _half(self, what: str) -> bool:
        return random.Random(f"{what} {self.point} {self.reply} {self.seed}").random() < 0.5

    def rules(self, *, dark: bool = False) -> list[Rule]:
        """What all sessions meet in the dark, else a part of them; of a mixed class all kinds together are that part."""
        kinds = CLASSES[self.reply]
        share = 1 if dark else self.chance.choice(_SHARES)
        share = 1 - (1 - share) ** (1 / len(kinds)) if share < 1 else 1
        return [*(replace(rule, share=share) for rule in kinds), *CALM]


def cells(classes: Sequence[str], points: Sequence[str], seeds: int, start: int = 0) -> list[EarlyCell]:
    """Each class with a kill at each point, and two SIGTERMs: at a random moment, and at a point that the seed draws."""
    made = []
    for seed in range(start, start + seeds):
        chance = random.Random(seed)
        for reply in classes:
            made += [(point, reply, seed, "kill") for point in points]
            made += [("random", reply, seed, "term"), (chance.choice(POINTS[1:]), reply, seed, "term")]
    return [EarlyCell(number, *words) for number, words in enumerate(made, start=1)]
