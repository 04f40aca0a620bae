"""Planned mailings to start from: made once by the real planner, kept as octets, and copied for each seed."""

from __future__ import annotations

import os
import random
import sqlite3
from dataclasses import dataclass
from unittest import mock

import sqlalchemy as sa

from service.delivery import release
from service.delivery.plan import Planner
from service.domain.chains import Chain, edition_key
from service.domain.content import Article, Issue, Text, TextStatus
from service.domain.slots import MARKERS, Slot
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.mail.segments import Rendition, compile_message
from service.store import Database, Sealer, issues, publication, schema, subscribers
from service.store.tables import deliveries
from tests.conftest import KEYRING
from tests.factories import JOINED, MADE_AT
from tests.fakes import FakeBell
from tests.simulation import substitutes
from tests.simulation.shortcut import Straight
from tests.simulation.world import World
from tests.unit.editorial.samples import publication as sample_publication

WEEK = "2019-W22"
TITLE = "issue"
CHAINS = ("en", "be,ru,en", "ru,en")
OTHER_CHAIN = "en,ru"  # of no reader at first: its edition is printed on the way


@dataclass(frozen=True)
class Plan:
    """How big a mailing is."""

    readers: int
    chains: int
    batch_limit: int


@dataclass(frozen=True)
class Template:
    """A database in memory, and who is to be mailed in it."""

    content: sqlite3.Connection
    mailing: int
    addresses: tuple[str, ...]
    readers: dict[int, bytes]  # subscriber by delivery; empty where nothing is planned yet


def titled_issue(week: str, title: str, status: TextStatus = TextStatus.APPROVED) -> Issue:
    """An issue of one article with one text, whose title tells it from the issue of another week or before."""
    text = Text("en", title, "A lead.", "A body.", status)
    return Issue(Week.parse(week), (Article("alliances", "security", "en", texts={"en": text}),))


class TinyPress:
    """Prints an edition that is short, and has all that a real one has besides length."""

    catalogues = None

    def printed(self, edition, *, mark="", text_only=False):
        subject = mark + edition.articles[0].text.title
        head = (
            f"From: weekly@sender.example\r\nTo: {MARKERS[Slot.RECIPIENT]}\r\nDate: {MARKERS[Slot.DATE]}\r\n"
            f"Message-ID: {MARKERS[Slot.MESSAGE_ID]}\r\nSubject: {subject}\r\nEdition: {edition_key(edition.chain, text_only=text_only)}\r\n\r\n"
        )
        body = f"Dear reader,\r\n.a dot\r\nhttps://x.example/u/{MARKERS[Slot.UNSUBSCRIBE]}\r\nEnd.\r\n"
        rendition = Rendition(None, compile_message((head + body).encode()))
        return _Rendered(subject, "<p>"), rendition


@dataclass(frozen=True)
class _Rendered:
    subject: str
    html: str


class Shelf:
    """The database that every seed of this process runs on, one after the other, and the templates.

    `straight` says whether it is reached without `sqlalchemy.engine`, which tells the same stories in more time.
    """

    def __init__(self, *, straight: bool = True) -> None:
        self.database = Database("sqlite:///:memory:", Sealer(KEYRING), pool_size=1)
        with mock.patch.object(os, "urandom", random.Random(1).randbytes):
            schema.upgrade(self.database)
            schema.adopt_keyring(self.database)
        self._raw = self.database.engine.raw_connection().driver_connection
        if straight:
            self.database._engine = Straight(self.database.engine, self._raw)
        self._empty = self._copy()
        substitutes.into(self._raw)
        self._templates: dict[tuple[Plan, bool], Template] = {}

    def _copy(self) -> sqlite3.Connection:
        made = sqlite3.connect(":memory:", check_same_thread=False)
        self._raw.backup(made)
        return made

    def after_fork(self) -> None:
        """Go on with this process's own copy of the memory that the database lies in."""
        self.database._pid = os.getpid()

    def lay_out(self, template: Template) -> Database:
        """The database as the template has it."""
        template.content.backup(self._raw)
        return self.database

    def template(self, plan: Plan, *, planned: bool = True) -> Template:
        """The template of that size; made when first asked for, the same in every process."""
        if (plan, planned) not in self._templates:
            self._templates[plan, planned] = self._make(plan, planned=planned)
        return self._templates[plan, planned]

    def _make(self, plan: Plan, *, planned: bool) -> Template:
        chance = random.Random(repr(plan))
        self._empty.backup(self._raw)
        world = World(0)
        substitutes.begin(world, None, substitutes.now.timeouts)
        random.seed(repr(plan))
        addresses = tuple(f"reader{number}@example.test" for number in range(plan.readers))
        with mock.patch.object(os, "urandom", chance.randbytes), self.database.begin() as session:
            publication.save(session, sample_publication(operators=("operator@example.org",)), MADE_AT)
            issues.save(session, titled_issue(WEEK, TITLE), MADE_AT)
            rows = [
                subscribers.prepared(
                    session.sealer,
                    address,
                    Chain(tuple(CHAINS[number % plan.chains].split(","))),
                    status=SubscriberStatus.ACTIVE,
                    consent="test",
                    week=JOINED,
                )
                for number, address in enumerate(addresses)
            ]
            subscribers.insert(session, rows, week=JOINED)
            now = substitutes.now.wall()
            mailing = release.send(session, WEEK, FakeBell(), lambda *_: [], actor="test", now=now)
        if planned:
            planner = Planner(self.database, TinyPress(), FakeBell(), _Wall(), 0.0, batch_limit=plan.batch_limit)
            assert planner.plan(mailing)
            with self.database.begin() as session:
                # As if nobody had been rung for yet.
                session.execute(sa.text("UPDATE batches SET rung_at = 0"))
        with self.database.read() as session:
            rows = session.execute(sa.select(deliveries.c.id, deliveries.c.subscriber_id))
            readers = {row.id: row.subscriber_id for row in rows}
        return Template(self._copy(), mailing, addresses, readers)


class _Wall:
    def now(self):
        return substitutes.now.wall()
