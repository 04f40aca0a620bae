"""Explaining: what one reader got for one issue, in which language and why, or why nothing was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service.domain.chains import Chain, read_edition_key
from service.domain.content import edition
from service.domain.delivery import DeliveryState, Hindrance
from service.domain.mailing import MailingState
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.store import Session, issues, ledger, mailings, publication, renditions
from service.store.ledger import Attempt, Entry
from service.store.mailings import Mailing

_HINDRANCES = frozenset(Hindrance)
_SCORED = {"soft": "; it counts against the mailbox: see tydzen subscriber show"}
_CHANGED_SINCE = (
    "; the issue was changed after this edition was made, and the articles are those of the issue as it is now"
)
_NOT_PLANNED = {
    MailingState.SCHEDULED: "is scheduled, and is planned when its time has come",
    MailingState.CANCELLED: "was cancelled before it was planned; nobody was mailed",
}


@dataclass(frozen=True, slots=True)
class ShownIn:
    """One article in that reader's edition; `language` is None where it was left out."""

    slug: str
    language: str | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything known; `why` says it in a sentence for a person.

    `articles` are those of the issue as it is now; where that was changed since this reader's edition, `why` says so.
    """

    week: str
    mailing: Mailing | None
    entry: Entry | None
    attempts: Sequence[Attempt]
    articles: Sequence[ShownIn]
    why: str


def explain(session: Session, week: str, subscriber: bytes, status: SubscriberStatus, chain: Chain) -> Explanation:
    """What that reader got for that issue. Raises NotFoundError where there is no such issue."""
    named = Week.parse(week)
    issue, week = issues.load(session, named), str(named)
    mailing = mailings.of_issue(session, week)
    entry = ledger.of_subscriber(session, mailing.id, subscriber) if mailing else None
    attempts = ledger.failed_attempts(session, entry.delivery) if entry else []
    sent_chain = read_edition_key(entry.chain)[0] if entry else chain
    shown = edition(publication.load(session), issue, sent_chain)
    languages = {one.article.slug: one.text.language for one in shown.articles} if shown else {}
    articles = [ShownIn(article.slug, languages.get(article.slug)) for article in issue.articles]
    why = _why(week, mailing, entry, status, chain)
    if mailing and entry and entry.revision and renditions.issue_changed_since(session, mailing.id, entry.revision):
        why += _CHANGED_SINCE
    return Explanation(week, mailing, entry, attempts, articles, why)


def _why(week: str, mailing: Mailing | None, entry: Entry | None, status: SubscriberStatus, chain: Chain) -> str:
    if mailing is None:
        return f"issue {week} has not been sent to anybody yet"
    if entry is not None:
        return _what_became(entry)
    if not mailing.whole:
        return f"mailing {mailing.id} {_NOT_PLANNED.get(mailing.state, 'is still being planned')}"
    if mailing.audience != "all":
        return f"mailing {mailing.id} went to a chosen audience; this reader was not planned in it"
    if status is not SubscriberStatus.ACTIVE:
        return f"the reader is {status.value}, and was not among the active ones when mailing {mailing.id} was planned"
    return (
        f"the reader was not active, was suppressed or paused when mailing {mailing.id} was planned, or joined later "
        f"(languages now: {chain}); records of readers are also removed when the retention time is over"
    )


def _what_became(entry: Entry) -> str:
    if entry.reason in _HINDRANCES and entry.state is DeliveryState.DEFERRED:
        return f"the mail waits here, and not at the relay: {entry.reason}"
    if entry.reason in _HINDRANCES and entry.state is DeliveryState.EXPIRED:
        return f"the mail waited here, and not at the relay, until it was given up: {entry.reason}"
    said = f": {entry.reply}" if entry.reply else ""
    words = {
        "accepted": "the relay took the mail",
        "refused": f"the mail was refused ({entry.reason}){said}{_SCORED.get(entry.reason or '', '')}",
        "deferred": f"the relay asked to try again later ({entry.reason}){said}{_SCORED.get(entry.reason or '', '')}",
        "uncertain": f"nobody can know whether the mail arrived ({entry.reason}){said}",
        "skipped": f"nothing was sent: {entry.reason}",
        "expired": f"the relay kept putting the mail off until it was given up{said}",
        "pending": "the mail waits for its turn",
        "attempting": "the mail is being handed over at this moment",
    }
    return words[entry.state.label]
