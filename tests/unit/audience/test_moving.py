"""A reader who moves to another address: the mailbox that was left is mailed no more, whatever is restored later."""

import datetime as dt

import pytest
import sqlalchemy as sa

from service.audience.adding import add
from service.audience.confirming import Outcome
from service.audience.departures import Reapplied, reapply
from service.audience.erasure import erase
from service.audience.importing import import_file
from service.audience.signup import answer, sign_up
from service.audience.suppressing import suppress
from service.audience.unsubscribe import unsubscribe
from service.domain.errors import ConflictError
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.queue import ANSWER_SIGNUP
from service.store import subscribers
from service.store.audit import first_broken
from service.store.departures import DepartureLog, Step
from service.store.tables import audit, notices
from tests.canary import assert_no_trace
from tests.factories import save_publication
from tests.unit.audience.test_signup import BE, DAY, HOUR, LEAVING, LINKS, NOW, Form
from tests.unit.delivery.parts import Time

OLD, NEW = "canary-old@reader.test", "canary-new@reader.test"
BY = {"actor": "test", "now": NOW}


class Mover(Form):
    """The form, a reader who moves by the links of its mails, and a database that can be set back."""

    def __init__(self, database, folder):
        super().__init__(database, folder)
        self.time = Time(database)
        with database.begin() as session:
            save_publication(session)
        self.active(OLD)

    def asked_to_move(self, old=OLD, new=NEW, now=NOW):
        """The token that is mailed to the new address."""
        reader = self.reader(old)
        with self.database.begin() as session:
            sign_up(session, self.bell, new, BE, now=now, mover=(reader.id, reader.epoch))
        with self.database.begin() as session:
            assert answer(session, self.bell, self.bell.heard(ANSWER_SIGNUP)[-1], now=now)
            mailed = session.execute(sa.select(notices).order_by(notices.c.id.desc())).first()
        row_id, hour = mailed.parameters["links"]["confirm"]
        return LINKS.sign(bytes.fromhex(row_id), hour)

    def move(self, old=OLD, new=NEW, now=NOW):
        assert self.confirm(self.asked_to_move(old, new, now), now) is Outcome.MOVED

    def reapply(self):
        with self.database.begin() as session:
            return reapply(session, self.departures, **BY)

    def imported(self, address):
        path = self.departures.path.with_name("old.csv")
        path.write_text(f"email,languages\n{address},be\n")
        return import_file(self.database, self.departures, path, languages=None, consent=None, **BY)


@pytest.fixture
def mover(database, tmp_path):
    return Mover(database, tmp_path)


@pytest.fixture
def mover_on_sqlite(sqlite_database, tmp_path):
    return Mover(sqlite_database, tmp_path)


def stays(_mover):
    """Who moves and is mailed on, at the new address."""


def leaves(mover):
    with mover.database.begin() as session:
        token = LEAVING.sign(subscribers.find(session, NEW).id)
        unsubscribe(session, mover.bell, LEAVING, mover.departures, token, now=NOW)


def is_erased(mover):
    with mover.database.begin() as session:
        erase(session, mover.departures, subscribers.find(session, NEW), **BY)


@pytest.mark.parametrize("then", [stays, leaves, is_erased])
def test_a_restored_backup_mails_nobody_at_the_address_that_was_left(mover, then):
    mover.time.keep()
    mover.move()
    then(mover)
    mover.time.go_back()
    assert mover.reader(OLD).status is SubscriberStatus.ACTIVE
    assert mover.reapply() == Reapplied(unsubscribed=0, erased=1, suppressed=1 + (then is is_erased))
    assert mover.reader(OLD) is None
    assert mover.suppression(OLD).reason is SuppressionReason.ERASED
    assert mover.reapply() == Reapplied(0, 0, 0)


def test_who_moves_there_and_back_is_mailed_there_after_a_restored_backup_too(mover):
    mover.time.keep()
    mover.move()
    mover.move(NEW, OLD)
    assert (mover.suppression(OLD), mover.suppression(NEW).reason) == (None, SuppressionReason.ERASED)
    mover.time.go_back()
    mover.reapply()
    assert mover.reader(OLD).status is SubscriberStatus.ACTIVE
    assert mover.suppression(OLD) is None


def test_who_moved_back_by_another_host_stays(mover, tmp_path):
    """The database knows when the reader moved last."""
    elsewhere = DepartureLog(tmp_path / "elsewhere.log")
    mover.departures, ours = elsewhere, mover.departures
    mover.move()
    mover.departures = ours
    mover.move(NEW, OLD, now=NOW + 7 * DAY)
    with mover.database.begin() as session:
        assert reapply(session, elsewhere, **BY) == Reapplied(0, 0, 0)
    assert mover.reader(OLD).status is SubscriberStatus.ACTIVE


def test_what_is_there_after_a_move_is_left_alone_by_the_log(mover):
    mover.move()
    assert [one.step for one in mover.departures.read()] == [Step.ERASED, Step.CONFIRMED]
    assert mover.reapply() == Reapplied(0, 0, 0)
    assert mover.reader(NEW).status is SubscriberStatus.ACTIVE


def test_of_a_move_the_audit_log_knows_the_week_alone(mover):
    mover.move(now=NOW + HOUR)
    _, moved = mover.rows(audit)
    assert (moved.action, moved.subject) == ("subscriber.move", mover.reader(NEW).public_id)
    assert moved.at == int(dt.datetime(2019, 6, 3, tzinfo=dt.UTC).timestamp() * 1000)
    with mover.database.read() as session:
        assert first_broken(session) is None


def test_no_old_list_brings_mails_back_to_the_address_that_was_left(mover):
    mover.move()
    assert mover.imported(OLD).suppressed == 1
    with mover.database.begin() as session, pytest.raises(ConflictError, match="unsuppress"):
        add(session, OLD, BE, consent=None, **BY)
    assert mover.reader(OLD) is None
    # Its keyed hash is all that is kept, and it is not told from that of an erased reader.
    with mover.database.begin() as session:
        session.execute(notices.delete())
    assert_no_trace([OLD], paths=[mover.departures.path], database=mover.database)


def test_whoever_signs_up_at_the_address_that_was_left_is_a_reader(mover):
    mover.move()
    assert mover.confirm(mover.sign_up(OLD, now=NOW + DAY), NOW + DAY) is Outcome.CONFIRMED
    assert mover.suppression(OLD) is None
    assert mover.reader(OLD).id != mover.reader(NEW).id
    mover.reapply()
    assert mover.reader(OLD).status is mover.reader(NEW).status is SubscriberStatus.ACTIVE


def test_pressing_the_link_of_a_move_again_changes_nothing(mover_on_sqlite):
    token = mover_on_sqlite.asked_to_move()
    assert [mover_on_sqlite.confirm(token) for _ in range(3)] == [Outcome.MOVED, *[Outcome.ALREADY] * 2]
    assert len(list(mover_on_sqlite.departures.read())) == 2


@pytest.mark.parametrize("then", [leaves, is_erased, lambda mover: mover.move(NEW, OLD)])
def test_the_link_of_a_move_tells_nothing_once_its_reader_is_not_mailed_there(mover_on_sqlite, then):
    token = mover_on_sqlite.asked_to_move()
    mover_on_sqlite.confirm(token)
    then(mover_on_sqlite)
    assert mover_on_sqlite.confirm(token) is Outcome.STALE


def test_whom_an_operator_suppressed_since_does_not_move_out_of_that(mover):
    token = mover.asked_to_move()
    with mover.database.begin() as session:
        suppress(session, mover.departures, OLD, SuppressionReason.OPERATOR, **BY)
    assert mover.confirm(token) is Outcome.STALE
    assert mover.reader(NEW) is None


def test_the_link_of_a_move_does_not_speak_for_another_reader_who_came_to_that_address(mover_on_sqlite):
    token = mover_on_sqlite.asked_to_move()
    assert mover_on_sqlite.confirm(mover_on_sqlite.sign_up(NEW, now=NOW + DAY), NOW + DAY) is Outcome.CONFIRMED
    assert mover_on_sqlite.confirm(token, NOW + DAY) is Outcome.STALE
    assert mover_on_sqlite.reader(OLD).status is SubscriberStatus.ACTIVE
