"""Named points of the engine at which a test may kill, stop or hold up a process. In production each does nothing.

No setting, file or variable arms them: only code that calls `arm`, and no module of the service does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

# Each stands in the code, once, where its name says. `-commit` is inside the transaction, when all is written but that.
# Where one statement is the whole transaction it is before that: nothing stands between its writing and its commit.
Point = Literal[
    # planning
    "plan-before-lock",
    "plan-after-lock",
    "plan-after-rendering",
    "plan-slice-numbered",
    "plan-slice-commit",
    "plan-between-slices",
    "plan-before-start",
    "plan-start-commit",
    "plan-after-start",
    # a worker's line to the relay
    "line-registered",
    "line-opened",
    "line-closed",
    "line-settled",
    # claim
    "before-claim",
    "claim-commit",
    "after-claim",
    "after-prepare",
    # tokens and gate
    "before-tokens",
    "after-tokens",
    "before-gate",
    "gate-commit",
    "after-gate",
    "gate-again",
    # record
    "before-record",
    "record-commit",
    "after-record",
    # the end of a batch
    "before-give-back",
    "after-give-back",
    "before-finish",
    "finish-commit",
    "after-finish",
    "after-ring",
    # the sweep
    "sweep-begun",
    "sweep-locked",
    "sweep-part-commit",
    "sweep-part-done",
    # what dead workers left
    "settle-begun",
    "settle-commit",
    "settle-recorded",
    "settle-renamed",
    # a database that was set back
    "reconcile-stopped",
    "reconcile-part-commit",
    "reconcile-part-done",
    "reconcile-reopened",
    "reconcile-lost-noted",
    "reconcile-apart-commit",
    "reconcile-apart",
    "reconcile-mark-commit",
    "reconcile-mark-raised",
    # single notices
    "notice-claimed",
    "notice-gated",
    "notice-spoken",
    "notice-recorded",
]
POINTS: frozenset[str] = frozenset(get_args(Point))

_USUAL = "service.mail.conversation:Conversation._as_usual"
_TAKEN = "service.mail.journal:Journal.accepted"

# Points that each letter passes: a call there would be felt, so nothing stands in the code. A test puts a hook before
# or after (for "within": in the middle of) the methods of these names.
PER_LETTER: Mapping[str, tuple[Literal["before", "after", "within"], tuple[str, ...]]] = {
    "before-mail": ("before", ("service.mail.conversation:Conversation._begin",)),
    "after-rcpt-reply": ("after", ("service.mail.conversation:Conversation._envelope_reply", _USUAL)),
    "before-dot-record": ("before", ("service.mail.journal:Journal.dot",)),
    "after-dot-record": ("after", ("service.mail.journal:Journal.dot",)),
    "before-write": ("before", ("service.mail.channel:Channel.write",)),
    "mid-body": ("within", ("service.mail.channel:Channel.write",)),
    "after-write": ("after", ("service.mail.channel:Channel.write",)),
    "reply-read": ("before", ("service.mail.conversation:Conversation.on_replies",)),
    "before-reply-record": ("before", ("service.mail.journal:Journal.reply", _TAKEN)),
    "after-reply-record": ("after", ("service.mail.journal:Journal.reply", _TAKEN)),
    "outcome-told": ("after", ("service.delivery.send:BatchRun._on_outcome",)),
}

_armed: Callable[[str], None] | None = None


def point(name: Point) -> None:
    """Say that the process has come to that point: one look at a variable, unless a test has armed this process."""
    if _armed is not None:
        _armed(name)


def arm(hook: Callable[[str], None] | None) -> None:
    """Have `hook` called at every point of this process from now on; None disarms. For tests alone."""
    global _armed  # noqa: PLW0603  # one process, one hook
    _armed = hook
