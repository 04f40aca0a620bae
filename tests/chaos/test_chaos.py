"""The sample of `make chaos`: small enough for every run of the tests, on both databases."""

from __future__ import annotations

import pytest

from tests.chaos import run as chaos

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [1])
def test_nobody_is_lost_or_mailed_twice_while_workers_are_killed_and_valkey_forgets_everything(
    database, tmp_path, seed
):
    plan = chaos.Plan(readers=1000, kills=3, flushes=1, hurry=True, seed=seed)
    with chaos.arena(tmp_path / "run", database.url.render_as_string(hide_password=False), plan) as made:
        report = chaos.run(made, plan)
        print(report.table())
        report.complain()
        assert len(report.kills) == 3
        assert report.flushes == 1
