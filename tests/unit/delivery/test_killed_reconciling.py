"""Whoever compares the journals with a database that was set back may be killed at any point: the next one ends it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from service import faults
from service.delivery import standing
from service.delivery.reconciling import Look
from service.domain.delivery import DeliveryState
from service.domain.errors import ConflictError
from service.domain.replies import ReplyClass
from service.mail.host import boot_id, host_id
from service.mail.journal import Journal
from service.mail.notebook import Begun, Notebook
from service.store import Database, Sealer, hosts, lost_issues
from tests.conftest import KEYRING
from tests.installation import miscounted
from tests.unit.delivery.parts import books, killed_at
from tests.unit.delivery.test_reconciling import OK, World

S = DeliveryState
READERS = 12
LOST = "2019-W23"
POINTS = [(point, 0) for point in sorted(faults.POINTS) if point.startswith("reconcile-")]
# Of the second journal, and of the second and the last time that everything is stopped.
POINTS += [("reconcile-part-commit", 1), ("reconcile-part-done", 1), ("reconcile-stopped", 1)]
# Restored, or lagged behind: then no mark tells, and everything is stopped one time less.
CASES = [(*point, swept) for point in POINTS for swept in (True, False)] + [("reconcile-stopped", 2, True)]


@pytest.fixture(autouse=True)
def nobody_sends(monkeypatch):
    """No worker lives whose gates must run out first, a second each time."""
    monkeypatch.setattr("service.delivery.reconciling.GATE_SECONDS", 0.0)


@dataclass
class Past:
    """A database that was set back; of two hosts that were about, one is here, and knows of six letters more."""

    world: World
    other: str
    letters: list[int]

    def again(self):
        return self.world.again()

    def awaited(self):
        with self.world.database.read() as session:
            return {one.host for one in hosts.awaited(session)}


def set_back(database, tmp_path, clock, *, swept):
    """With `swept` the host has swept since; without, the copy lagged behind by less, and only the journals tell."""
    world = World(database, tmp_path / "here", clock, readers=READERS)
    other = tmp_path / "other"
    books(database, other, clock).compare(Look.ALL)
    world.time.keep()
    world.leave()
    if swept:
        world.books.compare()
    sender, journal, claim = world.start()
    gated = world.run.gate(claim, sender=sender).recipients
    world.end_with_one_of_each(journal, gated)
    world.recovery.settle_journals()
    # A second one, of a process that nobody has settled: of letters that were gated again.
    with Journal(world.data_dir, sender_id=world.run.register(boot=boot_id())) as second:
        for one, reply in ((gated[4], OK), (gated[5], None)):
            second.dot(one.delivery, one.attempt + 1)
            if reply is not None:
                second.reply(one.delivery, one.attempt + 1, reply, ReplyClass.ACCEPTED)
    Notebook(world.data_dir).begin(Begun(LOST, 99, 1, 2), started_at=1)
    world.time.go_back()
    assert world.run.counts() == {"pending": READERS}
    return Past(world, host_id(other), [one.delivery for one in gated[:6]])


def compare(past):
    """As a worker that starts, with connections of its own."""
    world = past.world
    mine = Database(world.database.url.render_as_string(hide_password=False), Sealer(KEYRING))
    books(mine, world.data_dir, world.clock).compare(Look.ALL)


@pytest.mark.parametrize(("point", "skip", "swept"), CASES)
def test_who_is_killed_while_the_journals_are_compared_leaves_what_the_next_one_finishes(
    database, tmp_path, clock, point, skip, swept
):
    past = set_back(database, tmp_path, clock, swept=swept)
    world = past.world
    here = host_id(world.data_dir)

    killed_at(point, skip, lambda: compare(past))

    # Nothing goes on in between: what nobody has compared to the end may be sent again.
    over = point == "reconcile-mark-raised"
    assert past.awaited() == ({past.other} if over else {here, past.other})
    assert world.mailing().state.value == "paused"
    with pytest.raises(ConflictError, match=past.other[:8] if over else here[:8]):
        world.run.control("resume")

    assert past.again().compare() is not over
    world.recovery.settle_journals()

    assert [world.run.states()[number] for number in past.letters] == [
        *(S.ACCEPTED, S.REFUSED, S.DEFERRED, S.UNCERTAIN),
        *(S.ACCEPTED, S.UNCERTAIN),
    ]
    assert world.run.counts()["pending"] == READERS - len(past.letters)
    assert not miscounted(database, world.run.mailing)
    assert world.has_left()
    with database.read() as session:
        assert [one.week for one in lost_issues.undecided(session)] == [LOST]
    assert past.awaited() == {past.other}
    found = world.mailing()
    assert found.state.value == "paused"
    assert "older than the journals of host" in found.reason
    # A third time there is nothing more to find, and the operator may go on.
    assert not past.again().compare(Look.ALL)
    with database.begin() as session:
        standing.go_on_without(session, past.other, actor="test", now=world.run.now)
    world.run.control("resume")
    assert len(world.run.gate(world.run.claim()).recipients) == READERS - len(past.letters)


def test_an_issue_that_was_found_lost_by_one_who_was_killed_is_reason_enough_to_look_on(database, tmp_path, clock):
    world = World(database, tmp_path / "here", clock)
    other = tmp_path / "other"
    books(database, other, clock).compare(Look.ALL)
    # A copy that lagged behind by less than a sweep, and by no letter.
    world.time.keep()
    world.leave()
    world.time.go_back()
    Notebook(world.data_dir).begin(Begun(LOST, 99, 1, 2), started_at=1)
    past = Past(world, host_id(other), [])

    killed_at("reconcile-lost-noted", 0, lambda: compare(past))

    with pytest.raises(ConflictError, match=host_id(world.data_dir)[:8]):
        world.run.control("retry")
    assert past.again().compare()
    assert world.has_left()
    assert past.awaited() == {past.other}
    assert world.mailing().state.value == "paused"
