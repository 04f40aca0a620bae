"""A role, or a server, that bears fewer connections than a worker would like to have."""

from __future__ import annotations

import contextlib
import uuid

import pytest
import sqlalchemy as sa
from celery import Celery

from service.queue import ANSWER_SIGNUP, CeleryBell, celery_settings
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_scarcity import everybody_has_one, sending

pytestmark = pytest.mark.slow


@contextlib.contextmanager
def role(made, connections):
    """The name of one that may have so many connections, and the URL by which a worker is that role."""
    name = f"few_{uuid.uuid4().hex[:12]}"
    with made.database.begin() as session:
        session.execute(sa.text(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {connections}"))
        for kind in ("TABLES", "SEQUENCES"):
            session.execute(sa.text(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {name}"))
    try:
        yield name, made.database.url.set(username=name).render_as_string(hide_password=False)
    finally:
        for each in made.workers:
            each.kill()
        with made.database.begin() as session:
            session.execute(sa.text(f"DROP OWNED BY {name}"))
            session.execute(sa.text(f"DROP ROLE {name}"))


def bell_of(made):
    app = Celery("tydzen", set_as_current=False)
    app.conf.update(celery_settings(made.environment["TYDZEN_REDIS_URL"]))
    return CeleryBell(app)


@pytest.mark.parametrize("connections", [2, 3, 6])
def test_too_few_connections_to_the_database_cost_time_and_no_letters(postgresql_database, tmp_path, connections):
    with (
        sending(tmp_path / "run", url_of(postgresql_database), 300) as made,
        role(made, connections) as (_, url),
    ):
        worker = made.start_worker(concurrency=5, database_url=url)
        mailing = made.send()
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing, 300)
        assert "away or busy (OperationalError)" in worker.log.read_text("utf-8", "replace")


def test_a_worker_without_work_keeps_no_connection_in_its_processes(postgresql_database, tmp_path):
    with (
        sending(tmp_path / "run", url_of(postgresql_database), 300) as made,
        role(made, 30) as (name, url),
    ):
        made.start_worker(concurrency=5, database_url=url)
        mailing = made.send()

        def connections():
            count = sa.text("SELECT count(*) FROM pg_stat_activity WHERE usename = :name")
            with made.database.read() as session:
                return session.scalar(count, {"name": name})

        made.wait_for(lambda: connections() >= 5, 60)
        made.wait_for(lambda: is_sent(made, mailing), 60)
        # The sweep beside the worker may keep one.
        made.wait_for(lambda: connections() <= 1, 20)
        # A hint about a sign-up that is gone: it takes a connection to see that.
        bell = bell_of(made)
        for _ in range(20):
            assert bell.ring(ANSWER_SIGNUP, 1_000_000)
        made.wait_for(lambda: connections() > 1, 20)
        made.wait_for(lambda: connections() <= 1, 20)
