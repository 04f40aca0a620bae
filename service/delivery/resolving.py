"""Resolving uncertain deliveries: by an operator's word, by the relay's log, or by the installation's policy.

The number of the attempt guards each of them: whoever is second, a journal that comes late or another operator,
changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

from service import log
from service.delivery import control, recording, standing
from service.delivery.correcting import Proofs
from service.domain.delivery import RESOLVED, TRANSITIONS, DeliveryEvent, DeliveryState
from service.domain.errors import ConflictError, InvalidInputError, NotFoundError
from service.domain.mailing import MailingEvent, MailingState, after, require
from service.domain.maillog import Fate, Finding
from service.domain.replies import Phase, ReplyClass
from service.domain.retries import GIVE_UP_AFTER
from service.domain.subscriber import read_public_id
from service.domain.tokens import DeliverySigner
from service.mail.letter import Outcome
from service.queue import Bell
from service.store import Session, audit, batches, bounces, hosts, mailings, outcomes, uncertain
from service.store.bounces import Said
from service.store.instants import stored
from service.store.mailings import Mailing
from service.store.outcomes import Result
from service.store.uncertain import Uncertain

POLICY = "policy"
# An audit entry names that many deliveries; the count is always there.
_NAMED = 100

_log = log.get("resolving")


class Verdict(StrEnum):
    """What an operator may say of an uncertain delivery."""

    RESEND = "resend"
    ACCEPTED = "accepted"
    REFUSED = "refused"


_EVENTS = {
    Verdict.RESEND: DeliveryEvent.RESOLVED_RESEND,
    Verdict.ACCEPTED: DeliveryEvent.RESOLVED_ACCEPTED,
    Verdict.REFUSED: DeliveryEvent.RESOLVED_REFUSED,
}
_STATES = {verdict: TRANSITIONS[DeliveryState.UNCERTAIN, event] for verdict, event in _EVENTS.items()}


@dataclass(slots=True)
class ByLog:
    """How many the relay's log decided, and how: `bounced` are accepted ones that came back later.

    `refused` and `deferred` the relay had read to their end; `begun` only began to come in, and `unknown` are not in
    the log: both stay uncertain.
    """

    accepted: int = 0
    bounced: int = 0
    refused: int = 0
    deferred: int = 0
    begun: int = 0
    unknown: int = 0
    decided: list[int] = field(default_factory=list, repr=False)


def chosen(found: Sequence[Uncertain], named: Collection[str], ids: DeliverySigner) -> list[Uncertain]:
    """Those of `found` that are named, by Message-ID or by the id of the reader.

    Raises InvalidInputError for a name that is neither, NotFoundError for one that is not uncertain.
    """
    by_name: dict[str, Uncertain] = {}
    for one in found:
        by_name[ids.message_id(one.delivery)] = one
        if one.subscriber is not None:
            by_name[one.subscriber.hex()] = one
    picked: dict[int, Uncertain] = {}
    for name in named:
        key = _key(name)
        if key not in by_name:
            raise NotFoundError(f"{name} is no uncertain delivery of this mailing; see: tydzen mailing uncertain ID")
        picked[by_name[key].delivery] = by_name[key]
    return list(picked.values())


def _key(name: str) -> str:
    reader = read_public_id(name.strip())
    if reader is not None:
        return reader.hex()
    left = name.strip().strip("<>").partition("@")[0].lower()
    if len(left) != 32 or not all(digit in "0123456789abcdef" for digit in left):
        raise InvalidInputError(
            "a delivery is named by its Message-ID (<32 hexadecimal digits@…>) or by its reader, s_…"
        )
    return left


def resolve(
    session: Session,
    mailing: int,
    verdict: Verdict,
    which: Sequence[Uncertain],
    bell: Bell,
    *,
    proofs: Proofs,
    actor: str,
    now: dt.datetime,
) -> int:
    """Have these deliveries be what the operator says; how many still were uncertain and, to be resent, have a reader.

    A resend makes them pending, and the mailing go on; whoever got the letter gets it twice. Where the mailing was
    cancelled they alone are sent, with the issue as it is now. Raises ConflictError where the mailing cannot send
    again, CheckFailedError where the issue of a cancelled one was changed and cannot be sent as it is, NotFoundError;
    nothing changes then.
    """
    found = control.lock(session, mailing)
    if verdict is Verdict.RESEND and found.state is MailingState.CANCELLED:
        control.cancel_what_came_back(session, mailing, now=now)
    left = _still_uncertain(session, found, verdict, which)
    resend = bool(left) and verdict is Verdict.RESEND
    if resend and control.was_cancelled(session, found):
        proofs.correct(session, found, added=(), now=now)
    done = _resolve(session, found, verdict, left, bell, actor=actor, now=now)
    if resend:
        control.take_up_for_some(session, found)
    return done


def _still_uncertain(session: Session, found: Mailing, verdict: Verdict, which: Sequence[Uncertain]) -> list[Uncertain]:
    """Those that are still as they were listed, held; raises ConflictError where the verdict is not possible.

    Whose reader was forgotten cannot be reached again: it stays uncertain, as it may have arrived.
    """
    if verdict is Verdict.RESEND:
        require(found.id, found.state, MailingEvent.RESEND)
        standing.refuse_unsettled(session, found.week)
    uncertain.hold(session, found.id)
    listed = uncertain.listed(session, found.id)
    if verdict is Verdict.RESEND:
        listed = [one for one in listed if one.subscriber is not None]
    open_now = {(one.delivery, one.attempt): one for one in listed}
    return [open_now[key] for one in which if (key := (one.delivery, one.attempt)) in open_now]


def _resolve(
    session: Session,
    found: Mailing,
    verdict: Verdict,
    left: Sequence[Uncertain],
    bell: Bell,
    *,
    actor: str,
    now: dt.datetime,
) -> int:
    touched = outcomes.record(session, [_result(one, verdict, actor) for one in left], now_ms=stored(now))
    _go_on(session, found, touched, bell, resend=verdict is Verdict.RESEND and bool(left), now=now)
    _audit(session, found.id, actor, now, [one.delivery for one in left], verdict=verdict.value)
    return len(left)


def _result(one: Uncertain, verdict: Verdict, actor: str) -> Result:
    state = _STATES[verdict]
    if state is not DeliveryState.REFUSED:
        return Result(one.delivery, one.attempt, state, verdict.value, named=True)
    return Result(
        one.delivery,
        one.attempt,
        state,
        RESOLVED,
        reason=RESOLVED,
        reply=f"{one.read or 'no reply was read'}; resolved as refused by {actor}",
        phase=one.phase,
        relay=one.relay,
    )


def _go_on(
    session: Session, mailing: Mailing, touched: Collection[int], bell: Bell, *, resend: bool, now: dt.datetime
) -> None:
    batches.settle(session, sorted(touched))
    state = after(mailing.state, MailingEvent.RESEND)
    if not resend or state is None:
        return
    # A pause keeps its reason; only a mailing that had ended begins again.
    if state is not mailing.state:
        mailings.move(session, mailing.id, state, now=now)
    if state is MailingState.SENDING:
        control.ring(session, mailing.id, bell, now=now)


def resolve_by_log(
    session: Session,
    mailing: int,
    findings: Mapping[int, Finding],
    bell: Bell,
    *,
    actor: str,
    now: dt.datetime,
) -> ByLog:
    """Have the relay's log decide the uncertain deliveries among `findings`, which are by delivery.

    A letter that was in the relay's queue was accepted; where it bounced later, that is noted and scored as a bounce.
    One that the relay read to its end and refused was refused, or is put off as that refusal says. Every other stays.
    """
    found = mailings.lock(session, mailing)
    uncertain.hold(session, mailing)
    done = ByLog()
    spoken: list[Outcome] = []
    returned: list[tuple[Uncertain, Finding]] = []
    for one in uncertain.listed(session, mailing):
        finding = findings.get(one.delivery)
        if finding is None:
            continue
        outcome = _decided(one, finding, done)
        if outcome is not None:
            done.decided.append(one.delivery)
            spoken.append(outcome)
            if finding.fate is Fate.TAKEN:
                returned.append((one, finding))
    touched = recording.record(session, spoken, now=now)
    for one, finding in returned:
        _note(session, one, finding, done, now)
    # It is no operator's word that takes a cancelled mailing up; a letter that an operator named goes on, see `tidy`.
    resend = done.deferred > 0 and not found.cancelled
    _go_on(session, found, touched, bell, resend=resend, now=now)
    counts = {"accepted": done.accepted, "bounced": done.bounced, "refused": done.refused, "deferred": done.deferred}
    _audit(session, mailing, actor, now, done.decided, verdict="log", **counts)
    return done


def _decided(one: Uncertain, finding: Finding, done: ByLog) -> Outcome | None:
    """What the log says of this attempt, as its relay would have said it; None where it says nothing."""
    if finding.fate is Fate.TAKEN:
        done.accepted += 1
        return _spoken(one, ReplyClass.ACCEPTED, finding, "the relay's log: it was queued")
    # A refusal may be that of an earlier attempt, which has the same Message-ID.
    if finding.fate is Fate.REFUSED and one.attempt == 1 and finding.reply_class is not None:
        if recording.STATES[finding.reply_class] is DeliveryState.DEFERRED:
            done.deferred += 1
        else:
            done.refused += 1
        return _spoken(one, finding.reply_class, finding, "the relay's log: read to its end, and refused")
    if finding.fate is Fate.UNKNOWN:
        done.unknown += 1
    else:
        done.begun += 1
    return None


def _spoken(one: Uncertain, reply_class: ReplyClass, finding: Finding, words: str) -> Outcome:
    return Outcome(
        one.delivery,
        one.attempt,
        reply_class,
        finding.code or 0,
        finding.enhanced,
        words,
        Phase.DOT,
        one.relay or "",
        past_dot=True,
    )


def _note(session: Session, one: Uncertain, finding: Finding, done: ByLog, now: dt.datetime) -> None:
    """Keep what became of an accepted letter beyond the relay, and score it where it came back."""
    words = f"the relay's log: queued, then {finding.status}" if finding.status else "the relay's log: queued"
    outcomes.note(session, one.delivery, one.attempt, code=finding.code, enhanced=finding.enhanced, words=words)
    if finding.status not in {"bounced", "expired"}:
        return
    done.bounced += 1
    if finding.reply_class is ReplyClass.HARD:
        bounces.suppress(session, one.delivery, stored(now))
    elif finding.reply_class is ReplyClass.SOFT:
        said = Said(finding.code, finding.enhanced, words, returned=True)
        bounces.score(session, one.delivery, said, now_ms=stored(now))


def resend_once(session: Session, bell: Bell, *, now: dt.datetime) -> int:
    """Send again what has become uncertain in the last 48 hours, for the first time; how many.

    For installations whose policy that is. What a resend left uncertain is held for an operator.
    """
    if hosts.awaited(session) or hosts.unheard(session):
        return 0  # their journals may know what became of it
    since = now - GIVE_UP_AFTER
    resent = 0
    # A mailing may have been made long before it was released.
    for mailing in uncertain.mailings_with(session, _OF_POLICY, since=since - _MADE_BEFORE):
        ripe = [one for one in uncertain.listed(session, mailing) if one.times <= 1 and one.at >= since]
        if ripe:
            # Of an issue that was lost, an operator decides first.
            with suppress(ConflictError):
                resent += _resend_by_policy(session, mailing, ripe, bell, now)
    if resent:
        _log.info("uncertain-resent", letters=resent)
    return resent


def _resend_by_policy(session: Session, mailing: int, ripe: Sequence[Uncertain], bell: Bell, now: dt.datetime) -> int:
    found = mailings.lock(session, mailing)
    if found.state not in _OF_POLICY or found.cancelled:
        return 0
    left = _still_uncertain(session, found, Verdict.RESEND, ripe)
    return _resolve(session, found, Verdict.RESEND, left, bell, actor=POLICY, now=now)


# Only an operator's word takes up what an operator cancelled, also when some of it was sent again since.
_OF_POLICY = frozenset(state for state in MailingState if after(state, MailingEvent.RESEND)) - {MailingState.CANCELLED}
_MADE_BEFORE = dt.timedelta(days=60)


def _audit(
    session: Session, mailing: int, actor: str, now: dt.datetime, decided: Sequence[int], **details: str | int
) -> None:
    if decided:
        named = {"letters": len(decided), "deliveries": list(decided[:_NAMED]), **details}
        audit.append(
            session, at=now, actor=actor, action="mailing.resolve", subject=f"mailing:{mailing}", details=named
        )
