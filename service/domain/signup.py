"""Signing up: whom a confirmation may be mailed to, how often, how long it holds, and what is kept of the consent."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Collection, Sequence

from service.domain.chains import Chain
from service.domain.errors import InvalidInputError
from service.domain.subscriber import LIFTED_BY_CONFIRMATION, SubscriberStatus, SuppressionReason
from service.domain.weeks import Week

# Raised whenever the words on the form change that say what a reader agrees to; a test knows the words of each.
TEXT_VERSION = 3
# Until one of them is confirmed: whoever names a stranger's address again and again must not get far.
MOST_CONFIRMATIONS = 3
_EVIDENCE = re.compile(r"web form, text \d+, (20\d{2}-W\d{2}), token sha256:[0-9a-f]{32}")
# The kind of notice that is the newest issue itself: printed by the press, not from a folder of templates.
NEWEST_ISSUE = "newest-issue"
# The kind of notice that comes when a sign-up was confirmed, and names the newest issue of that moment.
WELCOME = "welcome"


def may_confirm(status: SubscriberStatus | None, suppression: SuppressionReason | None) -> bool:
    """Whether an address may be asked to confirm: not after a complaint, nor where an operator said no.

    `status` is None for an address that is no subscriber's, `suppression` for one that may be mailed.
    """
    if status is SubscriberStatus.COMPLAINED:
        return False
    return suppression is None or suppression in LIFTED_BY_CONFIRMATION


def may_move_to(status: SubscriberStatus | None, suppression: SuppressionReason | None) -> bool:
    """Whether a reader may be asked at a new address: as `may_confirm`, and not where an active reader is mailed."""
    return status is not SubscriberStatus.ACTIVE and may_confirm(status, suppression)


def chain_of(ticked: Sequence[str], first: str, known: Collection[str]) -> Chain:
    """The chain of the languages ticked on a form: that of the page first, the others in the publication's order.

    Raises InvalidInputError where none is ticked, or one that the publication does not have.
    """
    if not set(ticked) <= set(known):
        raise InvalidInputError("a language that the publication does not have")
    return Chain(tuple(sorted((code for code in known if code in ticked), key=lambda code: code != first)))


def evidence(text_version: int, signed_up: Week, token: str) -> str:
    """What is kept of a consent: where, to which words, in which week, and the hash of the token that confirmed it.

    Only who read the mail held the token; its hash shows that without being of use to anybody.
    """
    return f"web form, text {text_version}, {signed_up}, token sha256:{hashlib.sha256(token.encode()).hexdigest()[:32]}"


def confirmed_in(consent: str | None, joined: Week) -> Week | None:
    """The week in which a reader confirmed, as `evidence` has it; None for a consent that came another way.

    `joined` is the row's own week. A file may have brought any; the link of a sign-up held for 72 hours, so into the
    week after it at the latest.
    """
    match = _EVIDENCE.fullmatch(consent or "")
    try:
        return None if match is None else min(joined, Week.parse(match[1]).shifted(1))
    except InvalidInputError:
        return None


def start_of_week(now: dt.datetime) -> dt.datetime:
    """Monday's midnight, UTC: no finer time of what readers do is written down for good."""
    return dt.datetime.combine(Week.of(now.date()).monday, dt.time(), dt.UTC)
