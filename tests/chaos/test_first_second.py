"""A sample of the first second of sessions, and that its oracle can fail; `make chaos` runs all of it."""

from __future__ import annotations

from typing import ClassVar

import pytest

from tests.chaos import first_second
from tests.chaos.first_second import EarlyArena
from tests.chaos.openings import GROUNDS, EarlyCell
from tests.chaos.test_faults import url_of
from tests.installation import BUSY

pytestmark = pytest.mark.slow

CLEAR, SECURE = GROUNDS[1], GROUNDS[2]  # of both databases one
SAMPLE = {
    CLEAR: (("session-heard", "ehlo-closed", "kill"), ("after-gate", "mail-closed", "kill")),
    SECURE: (("session-refused", "auth-535", "kill"), ("random", "starttls-closed", "term")),
}


def cell_on(ground, number, point, reply, action, *, dark):
    """A cell of that number, with a seed that leads it there, and into the dark or not."""
    made = (EarlyCell(number, point, reply, seed, action) for seed in range(100))
    return next(cell for cell in made if cell.ground == ground and cell.dark == dark)


@pytest.fixture
def urls(sqlite_database, postgresql_database):
    return {CLEAR.name: url_of(sqlite_database), SECURE.name: url_of(postgresql_database)}


def test_nobody_is_lost_or_mailed_twice_and_nothing_stalls_however_sessions_open(urls, tmp_path):
    sample = [
        cell_on(ground, number, *words, dark=number == 1)
        for ground, all_words in SAMPLE.items()
        for number, words in enumerate(all_words, start=1)
    ]
    results = first_second.run(sample, tmp_path, urls)
    print(first_second.table(results))
    assert [result.line() for result in results if result.bad] == []
    assert len(results) == len(sample) == 4
    assert all(result.kills for result in results)
    assert [result.course.dials > 0 for result in results].count(True) == 2


def test_workers_that_do_not_wait_are_found_out(urls, tmp_path):
    class Mutants(EarlyArena):
        environment: ClassVar = {**EarlyArena.environment, "CHAOS_SETBACKS": "0"}
        # On a busy machine those who never wait dial hardly more often at first than those who wait a little.
        dark_seconds: ClassVar = BUSY * EarlyArena.dark_seconds

    cell = cell_on(CLEAR, 1, "random", "banner-421", "term", dark=True)
    with Mutants.open(tmp_path / "mutants", urls[CLEAR.name], CLEAR) as arena:
        result = arena.run(cell)
    assert any("s of the dark, by" in wrong for wrong in result.wrong), result.line()
