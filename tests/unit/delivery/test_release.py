"""One mailing per issue, however many ask."""

import datetime as dt
import threading

import pytest

from service.delivery import release
from service.domain.errors import CheckFailedError, ConfigurationError, ConflictError, InvalidInputError, NotFoundError
from service.domain.weeks import Week
from service.queue import PLAN_MAILING, SEND_NOTICE
from service.store import issues, mailings, publication
from tests.factories import MADE_AT, OPERATORS, save_publication
from tests.fakes import FakeBell
from tests.unit.delivery.parts import NOW, WEEK
from tests.unit.render import samples


@pytest.fixture
def content(database):
    with database.begin() as session:
        publication.save(session, samples.publication(), MADE_AT)
        issues.save(session, samples.issue(), MADE_AT)
    return database


def send(database, bell, week=WEEK, check=lambda *_: [], **more):
    with database.begin() as session:
        return release.send(session, week, bell, check, actor="test", now=NOW, **more)


def test_of_twenty_that_send_at_once_one_makes_the_mailing_and_the_others_are_told_which(content):
    start = threading.Barrier(20)
    bell = FakeBell()
    made, refused = [], []

    def ask():
        start.wait()
        try:
            made.append(send(content, bell))
        except ConflictError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert len(refused) == 19
    assert all(f"mailing {made[0]} " in words for words in refused)
    with content.read() as session:
        assert len(mailings.everyone(session)) == 1
    assert bell.heard(PLAN_MAILING) == made


def test_what_blocks_is_said_and_nothing_is_made(content):
    with pytest.raises(CheckFailedError, match="no text"):
        send(content, FakeBell(), check=lambda *_: ["no text"])
    with content.read() as session:
        assert not mailings.everyone(session)


@pytest.mark.parametrize("rate", [float("inf"), float("nan"), -1, 1e9])
def test_a_rate_that_nobody_could_keep_makes_no_mailing(content, rate):
    with pytest.raises(InvalidInputError, match=r"rate \S+ is not from 0 to 1,000,000"):
        send(content, FakeBell(), rate=rate)
    with content.read() as session:
        assert not mailings.everyone(session)


def test_an_issue_that_is_not_there_is_said_so(content):
    with pytest.raises(NotFoundError, match="2019-W40"):
        send(content, FakeBell(), week="2019-W40")


def test_a_mailing_for_later_is_released_at_its_time_once(content):
    bell = FakeBell()
    at = NOW + dt.timedelta(hours=2)
    made = send(content, bell, at=at)
    assert not bell.rung

    def release_due(now):
        with content.begin() as session:
            return release.release_due(session, bell, lambda *_: [], now=now)

    release_due(at - dt.timedelta(seconds=1))
    assert not bell.rung
    release_due(at)
    release_due(at)
    assert bell.heard(PLAN_MAILING) == [made]


def test_a_mailing_that_something_blocks_at_its_time_is_cancelled_and_says_why(content):
    made = send(content, FakeBell(), at=NOW + dt.timedelta(hours=2))
    with content.begin() as session:
        cancelled = release.release_due(
            session, FakeBell(), lambda *_: ["a text was withdrawn"], now=NOW + dt.timedelta(hours=3)
        )
        found = mailings.get(session, made)
    assert cancelled == [made]
    assert (found.state.value, found.reason) == ("cancelled", "a text was withdrawn")


@pytest.mark.parametrize("error", [ConfigurationError, InvalidInputError, NotFoundError, CheckFailedError])
def test_a_mailing_that_cannot_be_checked_stays_scheduled_and_keeps_no_other_waiting(content, error):
    other = "2019-W23"
    with content.begin() as session:
        save_publication(session)
        issues.save(session, samples.issue(week=Week.parse(other)), MADE_AT)
    later = NOW + dt.timedelta(hours=2)
    stuck, free = (send(content, FakeBell(), week, at=later) for week in (WEEK, other))
    bell = FakeBell()

    def check(_session, week):
        if week == WEEK and not mended:
            raise error("the template of the edition is broken; mend it")
        return []

    def swept():
        with content.begin() as session:
            release.release_due(session, bell, check, now=later)
        with content.read() as session:
            both = mailings.get(session, stuck), mailings.get(session, free)
            return [(found.state.value, found.reason) for found in both]

    mended = False
    reason = "the template of the edition is broken; mend it"
    assert swept() == swept() == [("scheduled", reason), ("planning", None)]
    assert bell.heard(PLAN_MAILING) == [free]
    # The operators hear of it, once.
    assert len(bell.heard(SEND_NOTICE)) == len(OPERATORS)
    mended = True
    assert swept() == [("planning", None), ("planning", None)]
