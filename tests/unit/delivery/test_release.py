"""One mailing per issue, however many ask."""

import contextlib
import datetime as dt
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.clock import SystemClock
from service.delivery import release
from service.delivery.plan import Planner
from service.domain.errors import CheckFailedError, ConfigurationError, ConflictError, InvalidInputError, NotFoundError
from service.domain.weeks import Week
from service.editorial.approving import approve_issue
from service.editorial.importing import import_issue
from service.queue import PLAN_MAILING, SEND_NOTICE
from service.store import issues, mailings, publication, renditions
from tests.factories import MADE_AT, OPERATORS, add_readers, save_publication, unapproved
from tests.fakes import FakeBell
from tests.unit.delivery.parts import NOW, PRESS, WEEK
from tests.unit.render import samples


@pytest.fixture
def content(database):
    with database.begin() as session:
        publication.save(session, samples.publication(), MADE_AT)
        issues.save(session, samples.issue(), MADE_AT)
    return database


def send(database, bell, week=WEEK, check=lambda *_: [], **more):
    with database.begin() as session:
        return release.send(session, week, bell, check, **{"actor": "test", "now": NOW, **more})


def test_of_twenty_that_send_at_once_one_makes_the_mailing_and_the_others_are_told_which(content):
    start = threading.Barrier(20)
    bell = FakeBell()
    made, won, refused = [], [], []

    def ask(actor, now):
        start.wait()
        try:
            made.append(send(content, bell, actor=actor, now=now))
            won.append(f"(planning, asked for by {actor} on {now:%Y-%m-%d %H:%M} UTC)")
        except ConflictError as error:
            refused.append(str(error))

    asked = [(f"editor {number}", NOW + dt.timedelta(minutes=number)) for number in range(20)]
    threads = [threading.Thread(target=ask, args=who) for who in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 1
    assert len(refused) == 19
    # The losers are told who won, and when that was.
    assert all(f"mailing {made[0]} already {won[0]}; see" in words for words in refused)
    with content.read() as session:
        assert len(mailings.everyone(session)) == 1
    assert bell.heard(PLAN_MAILING) == made


def test_a_week_is_kept_as_it_is_written_everywhere_and_its_issue_is_sent_once(content):
    made = send(content, FakeBell(), week=f" {WEEK}\n")
    with content.read() as session:
        assert mailings.get(session, made).week == WEEK
    with pytest.raises(ConflictError, match=f"issue {WEEK} is mailing {made} already"):
        send(content, FakeBell(), week=f"{WEEK} ")


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


SLUGS = ("alliances", "credits")


def written(folder, week, word, status):
    """The folder of an issue of two articles, each with that word in its text."""
    folder.mkdir(exist_ok=True)
    articles = [f'[[articles]]\nslug = "{slug}"\nsection = "security"\nsource = "en"\n' for slug in SLUGS]
    (folder / "issue.toml").write_text(f'week = "{week}"\n' + "".join(articles), "utf-8")
    for slug in SLUGS:
        words = f"---\ntitle: A title\nlead: A lead.\nstatus: {status}\n---\n\nThis is the {word} text of {slug}.\n"
        (folder / f"{slug}.en.md").write_text(words, "utf-8")
    return folder


@pytest.mark.parametrize("status", ["approved", "ready"])
def test_an_issue_that_is_changed_while_it_is_sent_goes_out_whole_as_it_was_or_as_it_is(database, tmp_path, status):
    with database.begin() as session:
        save_publication(session)
    add_readers(database, 2, chains=("en",))
    found = []
    for number in range(8):
        week = f"2019-W{20 + number}"
        folder = written(tmp_path / week, week, "oldword", "approved")
        with database.begin() as session:
            import_issue(session, folder, actor="test", now=NOW)
        written(folder, week, "newword", status)
        # Either has the better start in turn, by a little more each time.
        found.append(raced(database, folder, week, ahead=(-1) ** number * 0.002 * (number // 2)))
    for refused, content in found:
        # Whoever edits too late is told so, and what is sent is all of one text: in HTML and as text, by article.
        assert not refused or "is just being planned" in refused or "is being sent" in refused
        sent, other = (b"oldword", b"newword") if refused else (b"newword", b"oldword")
        assert content.count(sent) >= 2 * len(SLUGS)
        assert content.count(other) == 0


def raced(database, folder, week, *, ahead):
    """An import, and an approval, race a send and the planning; why the former was refused, and what is mailed."""
    start = threading.Barrier(2)

    def edit():
        start.wait()
        time.sleep(max(0.0, -ahead))
        try:
            with database.begin() as session:
                import_issue(session, folder, actor="editor", now=NOW)
        except ConflictError as error:
            return str(error)
        # Of ready texts nothing can be sent before; of approved ones it may be, and then there is nothing to approve.
        with contextlib.suppress(ConflictError), database.begin() as session:
            approve_issue(session, Week.parse(week), language=None, actor="editor", now=NOW)
        return ""

    def ask():
        start.wait()
        time.sleep(max(0.0, ahead))
        while True:
            try:
                made = send(database, bell, week, check=unapproved)
            except CheckFailedError:
                time.sleep(0.001)  # imported, and not approved yet
                continue
            assert Planner(database, PRESS, bell, SystemClock(), 0.0, batch_limit=1000).plan(made)
            return made

    bell = FakeBell()
    with ThreadPoolExecutor(2) as pool:
        editing, sending = pool.submit(edit), pool.submit(ask)
        refused, mailing = editing.result(60), sending.result(60)
    with database.read() as session:
        (rendition,) = renditions.ids(session, mailing).values()
        return refused, renditions.get(session, rendition).content
