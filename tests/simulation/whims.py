"""How the simulated relay may misbehave: what it says or does instead of the usual reply, and how likely."""

from __future__ import annotations

from dataclasses import dataclass

MAIL_TROUBLE = (
    b"451 4.3.0 try later",
    b"421 4.3.2 closing",
    b"550 5.7.1 blocked",
    b"530 5.7.0 authentication required",
    b"drop",
    b"reset",
    b"hang",
    b"garble",
    b"slow",
)
RCPT_TROUBLE = (
    b"450 4.2.1 greylisted",
    b"452 4.2.2 mailbox full",
    b"550 5.1.1 user unknown",
    b"550 5.7.1 blocked",
    b"552 5.2.2 over quota",
    b"421 4.7.0 too much",
    b"535 5.7.8 your login has expired",
    b"drop",
    b"hang",
    b"garble",
    b"slow",
)
DATA_TROUBLE = (
    b"451 4.3.0 try later",
    b"554 5.7.1 no",
    b"421 4.3.2 closing",
    b"drop",
    b"hang",
    b"slow",
    b"late",
    b"late",
    b"late",
)
DOT_TROUBLE = (
    b"451 4.3.0 try later",
    b"452 4.3.1 no room",
    b"550 5.1.1 user unknown",
    b"554 5.7.1 spam",
    b"554 5.6.0 bad content",
    b"421 4.3.2 closing",
    b"drop",  # before anything was taken
    b"taken, drop",
    b"taken, reset",
    b"taken, hang",
    b"taken, garble",
    b"taken, half",
    b"taken, slow",
    b"taken, late",
    b"taken, slices",
    b"taken, 221 what",
    b"hang",
    b"half",
    b"lies",
)


@dataclass
class Whims:
    """How likely the relay misbehaves, at each occasion, and how fast everything is."""

    trouble: float = 0.0
    at_dot: float = 0.0
    refusal: float = 0.0  # of connections
    full_buffer: float = 0.0
    travel: float = 0.001
    patience: float = 1.0  # seconds that count as slow
    extensions: tuple[bytes, ...] = (b"PIPELINING", b"8BITMIME")
    strict: bool = False
    policy_storm: float = 0.0
    login: float = 0.0  # how likely a session needs one from some letter on
