"""A restored backup, and workers that are killed one after the other while they compare their journals with it."""

from __future__ import annotations

import pytest

from service.mail.host import host_id
from service.mail.notebook import Begun, Notebook
from service.store import lost_issues
from tests.chaos import arming
from tests.chaos.arming import Order, give_orders
from tests.flow.test_restored_backup import awaited, back_up, kill, known, restore, travelling
from tests.installation import audit

__all__ = ["travelling"]

pytestmark = pytest.mark.slow

# As they are passed.
POINTS = (
    "reconcile-stopped",
    "reconcile-part-commit",
    "reconcile-part-done",
    "reconcile-reopened",
    "reconcile-lost-noted",
    "reconcile-apart-commit",
    "reconcile-apart",
    "reconcile-mark-commit",
    "reconcile-mark-raised",
)
LOST = "2019-W23"


def test_workers_that_are_killed_at_each_point_of_their_comparison_lose_nobody_and_mail_nobody_twice(travelling):
    made = travelling
    made.fill(400)
    made.start_worker(concurrency=3)
    mailing = made.send(rate=60)
    made.wait_for(lambda: made.taken() >= 50, 120)
    back_up(made)
    made.wait_for(lambda: made.taken() >= 100, 120)
    kill(made)
    # The next one settles what the first has left, which the backup does not know.
    made.start_worker(concurrency=3)
    made.wait_for(lambda: made.taken() >= 180, 120)
    journals = made.folder / "data" / "journals"
    made.wait_for(lambda: list(journals.glob("*.settled")), 60, why="nothing was settled")
    kill(made)
    lost = made.taken()
    Notebook(made.folder / "data").begin(Begun(LOST, 99, 1, 2), started_at=1)
    restore(made)

    for point in POINTS:
        one_is_killed_at(made, point, mailing)
    made.start_worker(concurrency=3)
    made.wait_for(lambda: known(made, mailing) >= lost - 24, 60, why="the journals were not heard")
    made.sweep()

    with made.database.read() as session:
        assert [one.week for one in lost_issues.undecided(session)] == [LOST]
    assert made.taken() == lost
    made.control("set_rate", mailing, rate=0)
    made.tydzen("mailing", "resume", mailing)
    made.wait_until_sent(mailing, 120)
    found = audit(made, mailing)
    found.complain()
    assert found.uncertain <= 24  # what the two kills left between the dot and its reply
    assert found.taken + found.uncertain >= 400


def one_is_killed_at(made, point, mailing):
    """A worker starts, and dies there; nobody can go on with the mailing before another has come to the end."""
    orders = made.folder / "orders"
    orders.mkdir(exist_ok=True)
    give_orders(orders, Order(point, point))
    made.environment["CHAOS_ORDERS"] = str(orders)
    worker = made.start_worker(concurrency=3, app="tests.chaos.worker")
    made.wait_for(lambda: not worker.alive, 60, why=f"it was not killed at {point}")
    assert arming.done(orders, point) is not None, worker.log.read_text()
    assert made.status(mailing).mailing.state.value == "paused"
    if point != POINTS[-1]:
        assert awaited(made) == {host_id(made.folder / "data")}
        assert "have not been compared" in made.tydzen("mailing", "resume", mailing, wants=5).stderr
