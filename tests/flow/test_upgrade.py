"""A deployment while an issue is sent: the schema goes first, old and new workers side by side, then back again."""

from __future__ import annotations

import pytest

from service.store import schema
from tests.flow.conftest import sending_installation
from tests.installation import audit
from tests.next_version import NEXT, next_migrations, next_program

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["postgresql"])
def test_old_and_new_workers_send_side_by_side_while_the_schema_moves_on(request, kind, tmp_path):
    with sending_installation(request, kind, tmp_path) as made:
        old = made.workers[0]
        made.fill(600)
        mailing = made.send(rate=60)
        made.wait_for(lambda: made.taken() >= 20)

        assert schema.upgrade(made.database, migrations=next_migrations(tmp_path / "next")) == (schema.NEWEST, NEXT)
        before = made.taken()
        made.wait_for(lambda: made.taken() >= before + 30, why="the old worker did not go on with the newer schema")

        # Workers take seconds to start, and something must be left for them.
        made.control("set_rate", mailing, rate=3)
        program = next_program(tmp_path / "program")
        new = made.start_worker(concurrency=2, program=program)
        made.wait_for(lambda: len(new.children()) == 2 and new.sweeps())
        old.end()
        before = made.taken()
        made.control("set_rate", mailing, rate=30)
        made.wait_for(lambda: made.taken() >= before + 20, why="the new worker does not send")
        made.control("set_rate", mailing, rate=3)
        # Back again: a worker of the old program starts with the newer schema.
        back = made.start_worker(concurrency=3)
        made.wait_for(lambda: len(back.children()) == 3)
        new.end()

        made.control("set_rate", mailing, rate=0)
        made.wait_until_sent(mailing, 60)
        found = audit(made, mailing)
        found.complain()
        assert found.taken == 600
        assert found.uncertain == 0
        assert made.tydzen("db", "upgrade").returncode == 0
        assert schema.revision(made.database) == NEXT
