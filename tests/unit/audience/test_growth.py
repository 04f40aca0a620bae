"""What readers, operators and relays do over some weeks, and that the sums of growth are what became of the readers."""

import datetime as dt
import random
from collections import Counter, defaultdict

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given, settings

from service.audience.adding import add
from service.audience.confirming import confirm
from service.audience.departures import reapply
from service.audience.erasure import erase
from service.audience.growth import look_back, together
from service.audience.importing import import_file
from service.audience.preferences import set_chain
from service.audience.said import Said
from service.audience.signup import answer, sign_up
from service.audience.suppressing import suppress, unsuppress
from service.audience.unsubscribe import unsubscribe
from service.domain.chains import Chain
from service.domain.errors import ConflictError, NotFoundError
from service.domain.growth import Change
from service.domain.keys import Purpose
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.tokens import ConfirmationSigner, LinkSigner
from service.domain.weeks import Week
from service.queue import ANSWER_SIGNUP
from service.store import Database, Sealer, bounces, confirmations, subscribers, tables
from service.store.departures import DepartureLog
from service.store.instants import stored
from tests.conftest import KEYRING, sqlite_copy
from tests.factories import save_publication
from tests.fakes import FakeBell
from tests.growth import astray, sums

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
ACTIVE = SubscriberStatus.ACTIVE
CHAINS = ("be", "ru", "be,ru")
NAMES = ("ann", "bob")
LEAVING = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE)
CONFIRMING = ConfirmationSigner(KEYRING)
# By which word somebody counts who is active after a step and was not before; all else is a departure or a change.
COMES_BY = {"confirms": "confirmed", "is added": "added", "is imported": "added", "is allowed again": "lifted"}


class Village:
    """A few readers, over weeks. Each step is what one of the doors does; `expected` counts what became of them."""

    def __init__(self, database, folder):
        self.database, self.folder, self.now = database, folder, NOW
        self.bell = FakeBell()
        self.departures = DepartureLog(folder / "departures.log")
        self.links = defaultdict(list)
        self.expected = Counter()
        with database.begin() as session:
            save_publication(session)
            session.execute(tables.issues.insert().values(id=1, week="2019-W22", subjects={}, changed_at=0))
            values = {"kind": "production", "state": "sending", "audience": "all", "actor": "test", "excluded": {}}
            session.execute(tables.mailings.insert().values(id=1, issue_id=1, created_at=0, **values))

    def step(self, what, name, chain):
        before = self._readers()
        DOORS[what](self, f"{name}@reader.test", chain)
        after = self._readers()
        for reader in {*before, *after}:
            self._expect(what, before.get(reader, (None, "")), after.get(reader, (None, "")))
        assert self._counted() == {key: readers for key, readers in self.expected.items() if readers}
        with self.database.read() as session:
            assert astray(session) == {}

    def _expect(self, what, before, after):
        week = str(Week.of(self.now.date()))
        (status, chain), (status_after, chain_after) = before, after
        if status is ACTIVE and status_after is ACTIVE:
            self.expected[week, chain, "changed"] -= chain != chain_after
            self.expected[week, chain_after, "changed"] += chain != chain_after
        elif status_after is ACTIVE:
            self.expected[week, chain_after, COMES_BY[what]] += 1
        elif status is ACTIVE:
            self.expected[week, chain, "bounced" if status_after is SubscriberStatus.BOUNCED else "left"] += 1

    def _readers(self):
        with self.database.read() as session:
            rows = session.execute(sa.select(tables.subscribers))
            return {row.id: (SubscriberStatus(row.status), row.chain) for row in rows}

    def _counted(self):
        return {
            (week, chain, change): readers
            for (week, chain), changes in sums(self.database).items()
            for change, readers in changes.items()
        }

    def _found(self, session, address):
        return subscribers.find(session, address)

    def by(self):
        return {"actor": "test", "now": self.now}

    # Doors

    def passes_a_week(self, _address, _chain):
        self.now += dt.timedelta(days=7)
        with self.database.begin() as session:
            confirmations.lapse(session, self.now)

    def signs_up(self, address, chain):
        with self.database.begin() as session:
            sign_up(session, self.bell, address, languages(chain), now=self.now)
        with self.database.begin() as session:
            if answer(session, self.bell, self.bell.heard(ANSWER_SIGNUP)[-1], now=self.now):
                notice = session.execute(sa.select(tables.notices).order_by(tables.notices.c.id.desc())).first()
                row_id, hour = notice.parameters["links"]["confirm"]
                self.links[address.partition("@")[0]].append(CONFIRMING.sign(bytes.fromhex(row_id), hour))

    def confirms(self, address, _chain):
        """With every link there ever was, and twice."""
        for token in self.links[address.partition("@")[0]] * 2:
            with self.database.begin() as session:
                confirm(session, self.bell, CONFIRMING, self.departures, token, now=self.now)

    def is_added(self, address, chain):
        try:
            with self.database.begin() as session:
                add(session, address, languages(chain), consent=None, **self.by())
        except ConflictError:
            """Who has left, is suppressed or chose other languages."""

    def is_imported(self, address, chain, said=Said.ACTIVE):
        path = self.folder / "readers.csv"
        path.write_text(f"email\n{address}\n")
        import_file(
            self.database, self.departures, path, languages=chain, consent=None, standing=said, **self.by(), chunk=1
        )

    def has_left_elsewhere(self, address, chain):
        self.is_imported(address, chain, Said.UNSUBSCRIBED)

    def has_complained_elsewhere(self, address, chain):
        self.is_imported(address, chain, Said.COMPLAINED)

    def changes_languages(self, address, chain):
        with self.database.begin() as session:
            if (reader := self._found(session, address)) is not None:
                set_chain(session, reader, languages(chain), **self.by())

    def leaves(self, address, _chain):
        for _ in range(2):
            with self.database.begin() as session:
                if (reader := self._found(session, address)) is not None:
                    token = LEAVING.sign(reader.id)
                    unsubscribe(session, self.bell, LEAVING, self.departures, token, now=self.now)

    def is_erased(self, address, _chain):
        with self.database.begin() as session:
            if (reader := self._found(session, address)) is not None:
                erase(session, self.departures, reader, **self.by())

    def bounces(self, address, _chain):
        with self.database.begin() as session:
            if (reader := self._found(session, address)) is None:
                return
            known = session.scalar(
                sa.select(tables.deliveries.c.id).where(tables.deliveries.c.subscriber_id == reader.id)
            )
            if known is None:
                delivery = {"mailing_id": 1, "subscriber_id": reader.id, "batch_id": 1, "state": 1}
                known = session.execute(tables.deliveries.insert().values(delivery)).inserted_primary_key[0]
            for _ in range(2):
                bounces.suppress(session, known, stored(self.now))

    def is_forbidden(self, address, _chain):
        with self.database.begin() as session:
            suppress(session, self.departures, address, SuppressionReason.OPERATOR, **self.by())

    def is_allowed_again(self, address, _chain):
        try:
            with self.database.begin() as session:
                unsuppress(session, self.departures, address, **self.by())
        except NotFoundError:
            """Who was not suppressed."""

    def are_sent_away_again(self, _address, _chain):
        with self.database.begin() as session:
            reapply(session, self.departures, **self.by())


DOORS = {
    door.__name__.replace("_", " "): door
    for door in (
        Village.passes_a_week,
        Village.signs_up,
        Village.confirms,
        Village.is_added,
        Village.is_imported,
        Village.has_left_elsewhere,
        Village.has_complained_elsewhere,
        Village.changes_languages,
        Village.leaves,
        Village.is_erased,
        Village.bounces,
        Village.is_forbidden,
        Village.is_allowed_again,
        Village.are_sent_away_again,
    )
}
STEPS = st.tuples(st.sampled_from(sorted(DOORS)), st.sampled_from(NAMES), st.sampled_from(CHAINS))


def languages(chain):
    return Chain(tuple(chain.split(",")))


@pytest.mark.slow
@settings(max_examples=30, derandomize=True, database=None)
@given(steps=st.lists(STEPS, min_size=4, max_size=25))
def test_after_any_life_the_sums_are_what_became_of_the_readers(steps, sqlite_template, tmp_path_factory):
    folder = tmp_path_factory.mktemp("village")
    database = Database(sqlite_copy(sqlite_template, folder), Sealer(KEYRING))
    try:
        village = Village(database, folder)
        for step in steps:
            village.step(*step)
    finally:
        database.close()


@pytest.mark.slow
def test_a_long_life_counts_every_change(database, tmp_path):
    chance = random.Random(3)
    village = Village(database, tmp_path)
    # By chance alone everybody would soon have left for good.
    doors = sorted(DOORS) + ["signs up", "confirms", "is allowed again", "bounces"] * 3
    for _ in range(200):
        village.step(chance.choice(doors), f"reader{chance.randrange(12)}", chance.choice(CHAINS))
    # Else the series would show nothing.
    assert {change for _, _, change in village.expected} == {change.value for change in Change}


def test_looking_back_ends_with_the_present_week_and_adds_up(sqlite_database, tmp_path):
    village = Village(sqlite_database, tmp_path)
    village.step("is added", "ann", "be")
    village.step("is added", "bob", "ru")
    village.step("passes a week", "ann", "be")
    village.step("changes languages", "ann", "ru")
    village.step("leaves", "bob", "ru")
    with sqlite_database.read() as session:
        both = look_back(session, weeks=2, now=village.now)
        last = look_back(session, weeks=1, now=village.now)
    assert (both.first, both.last, last.first) == (Week(2019, 23), Week(2019, 24), Week(2019, 24))
    assert [(str(week), chain) for week, chain in both.weeks] == [
        ("2019-W23", "be"), ("2019-W23", "ru"), ("2019-W24", "be"), ("2019-W24", "ru"),
    ]  # fmt: skip
    assert both.active == last.active == {"ru": 1}
    assert counted(both.totals()["ru"]) == {"added": 1, "changed": 1, "left": 1}
    assert counted(last.totals()["ru"]) == {"changed": 1, "left": 1}
    assert counted(together(both.totals())) == {"added": 2, "left": 1}


def counted(changes):
    return {change.value: readers for change, readers in changes.items() if readers}


def test_weeks_are_found_across_a_new_year(sqlite_database, tmp_path):
    village = Village(sqlite_database, tmp_path)
    village.now = dt.datetime(2020, 12, 31, tzinfo=dt.UTC)
    village.step("is added", "ann", "be")
    village.step("passes a week", "ann", "be")
    village.step("leaves", "ann", "be")
    with sqlite_database.read() as session:
        assert [str(week) for week, _ in look_back(session, weeks=2, now=village.now).weeks] == ["2020-W53", "2021-W01"]
        assert [str(week) for week, _ in look_back(session, weeks=1, now=village.now).weeks] == ["2021-W01"]


@pytest.mark.parametrize("door", ["is erased", "leaves", "bounces", "has complained elsewhere"])
def test_who_goes_in_whatever_way_goes_once(database, tmp_path, door):
    village = Village(database, tmp_path)
    village.step("is added", "ann", "be")
    for way in (door, "leaves", "is erased", "are sent away again"):
        village.step(way, "ann", "be")
    change = "bounced" if door == "bounces" else "left"
    assert sums(database) == {("2019-W23", "be"): {"added": 1, change: 1}}
