"""A sample of the kill matrix for every run of the tests; `make chaos` runs all of it."""

from __future__ import annotations

import pytest

from tests.chaos import matrix

pytestmark = pytest.mark.slow

# By ground: a point of each part of the engine, and every class of replies.
SAMPLE = {
    "postgresql, pipelining": (
        ("plan-slice-commit", "accept"),
        ("after-gate", "4xx"),
        ("mid-body", "accept"),
        ("after-write", "drop-after"),
        ("record-commit", "hang"),
        ("settle-commit", "accept"),
    ),
    "postgresql, chunking": (
        ("gate-commit", "5xx"),
        ("after-dot-record", "drop-before"),
        ("after-write", "hang"),
        ("settle-recorded", "accept"),
        ("notice-gated", "accept"),
    ),
    "sqlite, lockstep": (
        ("plan-after-start", "accept"),
        ("after-claim", "5xx"),
        ("before-reply-record", "drop-after"),
        ("after-record", "4xx"),
    ),
}


@pytest.mark.parametrize("ground", matrix.GROUNDS, ids=lambda ground: ground.name.replace(", ", "-"))
def test_nobody_is_lost_or_mailed_twice_whatever_point_a_worker_dies_at(request, tmp_path, ground):
    database = request.getfixturevalue(f"{ground.database}_database")
    url = database.url.render_as_string(hide_password=False)
    seed = matrix.GROUNDS.index(ground)
    sample = [matrix.Cell(n, point, reply, seed) for n, (point, reply) in enumerate(SAMPLE[ground.name], start=1)]
    results = matrix.run(sample, tmp_path, {ground.name: url})
    print(matrix.table(results))
    assert [result.line() for result in results if result.bad] == []
    assert sum(result.kills for result in results) >= len(sample)
