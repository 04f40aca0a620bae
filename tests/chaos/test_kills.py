"""A sample of the thousand kills of `make chaos`."""

from __future__ import annotations

import pytest

from tests.chaos import kills
from tests.chaos.run import Plan
from tests.chaos.test_faults import url_of

pytestmark = pytest.mark.slow


def test_nobody_is_lost_or_mailed_twice_over_mailings_whose_workers_are_killed_at_random(
    postgresql_database, sqlite_database, tmp_path
):
    urls = [url_of(sqlite_database), url_of(postgresql_database)]
    plan = Plan(readers=160, kills=3, flushes=0, hurry=True, seed=1)
    tally = kills.run(tmp_path / "run", lambda number: urls[number % 2], plan, 6, print)
    print(tally.table())
    assert tally.wrong == []
    assert (tally.mailings, tally.readers, tally.kills.total()) == (2, 320, 6)
    assert (tally.lost, tally.twice) == (0, 0)
    assert tally.kills["everything"]
    assert tally.taken + tally.uncertain >= tally.readers
