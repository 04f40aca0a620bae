"""The states of a mailing, the run that sends one issue to an audience, and what an operator may do in each."""

from __future__ import annotations

from enum import Enum, StrEnum

from service.domain.errors import ConflictError


class MailingState(StrEnum):
    """Where a mailing stands."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    PLANNING = "planning"
    SENDING = "sending"
    PAUSED = "paused"
    SENT = "sent"
    CANCELLED = "cancelled"


class MailingEvent(Enum):
    """What can happen to a mailing."""

    SCHEDULE = "schedule"
    RELEASE = "release"
    PLANNED = "planned"
    PAUSE = "pause"
    RESUME = "resume"
    FINISH = "finish"
    CANCEL = "cancel"
    RETRY = "retry"
    RESEND = "resend"


_S, _E = MailingState, MailingEvent

TRANSITIONS: dict[tuple[MailingState, MailingEvent], MailingState] = {
    (_S.DRAFT, _E.SCHEDULE): _S.SCHEDULED,
    (_S.DRAFT, _E.RELEASE): _S.PLANNING,
    (_S.DRAFT, _E.CANCEL): _S.CANCELLED,
    (_S.SCHEDULED, _E.RELEASE): _S.PLANNING,
    (_S.SCHEDULED, _E.CANCEL): _S.CANCELLED,
    (_S.PLANNING, _E.PLANNED): _S.SENDING,
    (_S.PLANNING, _E.CANCEL): _S.CANCELLED,
    (_S.SENDING, _E.PAUSE): _S.PAUSED,
    (_S.SENDING, _E.FINISH): _S.SENT,
    (_S.SENDING, _E.CANCEL): _S.CANCELLED,
    (_S.SENDING, _E.RETRY): _S.SENDING,
    (_S.PAUSED, _E.RESUME): _S.SENDING,
    (_S.PAUSED, _E.CANCEL): _S.CANCELLED,
    (_S.PAUSED, _E.RETRY): _S.PAUSED,
    (_S.SENT, _E.RETRY): _S.SENDING,
    (_S.CANCELLED, _E.RETRY): _S.SENDING,
    # What is uncertain may be sent again; of a mailing that was cancelled that alone: a retry takes back the rest.
    (_S.SENDING, _E.RESEND): _S.SENDING,
    (_S.PAUSED, _E.RESEND): _S.PAUSED,
    (_S.SENT, _E.RESEND): _S.SENDING,
    (_S.CANCELLED, _E.RESEND): _S.SENDING,
}

# Events that no command of that name makes.
_NO_COMMANDS = frozenset({_E.SCHEDULE, _E.RELEASE, _E.PLANNED, _E.FINISH, _E.RESEND})

SETTLED = frozenset({MailingState.SENT, MailingState.CANCELLED})


def after(state: MailingState, event: MailingEvent) -> MailingState | None:
    """The state that `event` leads to; None where it is not allowed."""
    return TRANSITIONS.get((state, event))


def require(mailing: int, state: MailingState, event: MailingEvent) -> MailingState:
    """As `after`; raises ConflictError that says what is allowed instead."""
    following = after(state, event)
    if following is None:
        allowed = sorted(e.value for s, e in TRANSITIONS if s is state and e not in _NO_COMMANDS)
        can = f"; it can {' or '.join(allowed)}" if allowed else ""
        raise ConflictError(f"mailing {mailing} is {state.value}: it cannot {event.value}{can}")
    return following
