"""A small publication and issues of any week, put into a database."""

from __future__ import annotations

import datetime as dt

from service.clock import SystemClock
from service.domain.blockers import Blocker
from service.domain.chains import Chain
from service.domain.content import Article, Issue, Text, TextStatus
from service.domain.schedule import Schedule, WeekMode
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.store import issues, slots, subscribers
from service.store import publication as publication_store
from tests.unit.editorial.samples import publication

MADE_AT = dt.datetime(2019, 1, 1, tzinfo=dt.UTC)
JOINED = Week.of(MADE_AT.date())
CHAINS = ("en", "be,ru", "ru", "be,ru,en", "ru,be")
OPERATORS = ("operator-canary@example.org", "second-canary@example.org")


def save_publication(session, **changes):
    """Store the sample publication, with two operators; what was stored."""
    made = publication(**{"operators": OPERATORS, **changes})
    publication_store.save(session, made, MADE_AT)
    return made


def weekly_issue(week, status=TextStatus.APPROVED, articles=("alliances",)):
    """An issue of that week whose articles have one English text each, in that status."""
    return Issue(
        Week.parse(str(week)),
        tuple(
            Article(slug, "security", "en", texts={"en": Text("en", "A title", "A lead.", "A body.", status)})
            for slug in articles
        ),
    )


def save_issue(session, week, status=TextStatus.APPROVED, articles=("alliances",)):
    """Store such an issue, or change the one there is."""
    issues.save(session, weekly_issue(week, status, articles), MADE_AT)


def unapproved(session, week):
    """A check as the editorial one answers: a blocker for each article without an approved text."""
    issue = issues.load(session, Week.parse(week))
    if not issue.articles:
        return [Blocker("the issue has no articles; add one")]
    return [Blocker("no text is approved", article.slug) for article in issue.articles if not article.approved()]


def add_readers(
    database, count, *, chains=CHAINS, prefix="reader", status=SubscriberStatus.ACTIVE, domain="example.test"
):
    """So many readers, with those chains in turn, in one statement; their addresses, in order.

    `{}` in the domain is each reader's own number.
    """
    addresses = [f"{prefix}{number}@{domain.format(number)}" for number in range(count)]
    with database.begin() as session:
        rows = [
            subscribers.prepared(
                session.sealer,
                address,
                Chain(tuple(chains[number % len(chains)].split(","))),
                status=status,
                consent="test",
                week=JOINED,
            )
            for number, address in enumerate(addresses)
        ]
        subscribers.insert(session, rows, week=JOINED)
    return addresses


def set_slot(database):
    """A schedule whose slot is the next full minute but for one that is near; that instant, and the week it is for."""
    now = SystemClock().now()
    slot = (now + dt.timedelta(seconds=80)).replace(second=0, microsecond=0)
    schedule = Schedule(slot.weekday(), slot.hour * 60 + slot.minute, "UTC", WeekMode.CURRENT, 6, now)
    with database.begin() as session:
        slots.set_schedule(session, schedule, warned_at=now)
    return slot, Week.of(slot.date())
