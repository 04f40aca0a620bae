"""Two hosts share PostgreSQL and Valkey; one is cut off in mid-run and comes back after its lease."""

from __future__ import annotations

import contextlib
import shutil
import signal

import pytest
import sqlalchemy as sa

from service.mail.host import host_id
from service.store import DatabaseAwayError, tables
from tests.chaos.hosts import hindrance, hosts
from tests.chaos.run import hurried
from tests.chaos.test_faults import is_sent, is_still, url_of
from tests.chaos.test_network import behind
from tests.installation import audit, installed
from tests.smtp_sink import Rule

pytestmark = pytest.mark.slow

# Each host has its own way to what it shares with the other.
WAYS = ("database_url", "redis_url", "smtp_url")


@pytest.mark.parametrize("dies", [False, pytest.param(True, marks=pytest.mark.long)], ids=["comes-back", "dies"])
def test_a_host_that_is_cut_off_loses_nobody_and_its_journal_settles_what_it_left(postgresql_database, tmp_path, dies):
    why = hindrance()
    if why:
        pytest.skip(why)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(
            installed(
                tmp_path / "run",
                url_of(postgresql_database),
                rules=[Rule("DOT", delay=0.03)],
                own_process=True,
                connections=3,
                batch_size=60,
                lease_seconds=5,
            )
        )
        workers, settings = {}, {}
        for host in stack.enter_context(hosts(2)):
            stack.enter_context(behind(made, database=True, host=host.gateway))
            data = tmp_path / host.name
            data.mkdir()
            shutil.copy(tmp_path / "run" / "data" / "secret.key", data)
            ways = {name: made.environment[f"TYDZEN_{name.upper()}"] for name in WAYS}
            settings[host] = {**ways, "data_dir": data}
            workers[host] = made.start_worker(concurrency=2, within=host.within, **settings[host])
        made.fill(900)
        # Both are there before anything is sent.
        made.wait_for(lambda: all(worker.sweeps() and worker.children() for worker in made.workers), 60)
        mailing = made.send()
        with hurried(made):
            made.wait_for(lambda: len(hosts_at_work(made)) == 2 and made.taken() > 80, 90)
            cut, worker = next(iter(workers.items()))
            name = host_id(settings[cut]["data_dir"])
            made.wait_for(lambda: under_way(made, name), 30, "it has nothing in hand")
            cut.unplug()
            spoken = len(worker.log.read_text())
            # The other host goes on, and takes over what the first had claimed and not gated.
            made.wait_for(lambda: not made.status(mailing).counts.pending and is_still(made, mailing), 90)
            if not is_sent(made, mailing):
                assert made.status(mailing).counts.attempting, "its letters wait for it"
            # Silence is known for what it is within half a minute; the kernel alone takes a quarter of an hour.
            made.wait_for(lambda: "database-away" in worker.log.read_text()[spoken:], 60)
            if dies:
                worker.signal(signal.SIGSTOP)
                worker.kill()
                cut.plug()
                made.start_worker(concurrency=2, within=cut.within, **settings[cut])
            else:
                cut.plug()
            made.wait_for(lambda: is_sent(made, mailing), 120)
        found = audit(made, mailing)
        found.complain()
        # At most what one process had past the dot on its connections.
        assert found.uncertain <= 2 * 3 * 4
        assert found.planned == 900


def hosts_at_work(made):
    """The hosts whose workers hold a batch now or held one."""
    with contextlib.suppress(DatabaseAwayError), made.database.read() as session:
        b, s = tables.batches, tables.senders
        rows = session.execute(s.select().where(s.c.id.in_(b.select().with_only_columns(b.c.sender_id))))
        return {row.host for row in rows}
    return set()


def under_way(made, host):
    """How many letters that host has let through the gate and not heard of yet."""
    b, s = tables.batches, tables.senders
    counted = sa.select(sa.func.sum(b.c.attempting)).join(s, s.c.id == b.c.sender_id).where(s.c.host == host)
    with made.database.read() as session:
        return session.scalar(counted)
