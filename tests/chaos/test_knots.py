"""A database that is there and says no: deadlocks, locks that are not given, transactions that collide, no connection."""

from __future__ import annotations

import contextlib
import threading

import pytest
import sqlalchemy as sa

from service.store import Database, DatabaseAwayError, Sealer, tables
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_scarcity import everybody_has_one, sending
from tests.conftest import KEYRING

pytestmark = pytest.mark.long


def settle_for(database, **settings):
    """What every session of this database has from now on."""
    with database.begin() as session:
        for name, value in settings.items():
            session.execute(sa.text(f"ALTER DATABASE \"{database.url.database}\" SET {name} = '{value}'"))


@contextlib.contextmanager
def somebody(url, deed):
    """A stranger who does that again and again, in transactions of his own."""
    over = threading.Event()
    stranger = Database(url, Sealer(KEYRING))

    def meddle():
        while not over.wait(0.05):
            with contextlib.suppress(DatabaseAwayError), stranger.begin() as session:
                deed(session, over)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        stranger.close()


def lock_the_wrong_way_round(session, over):
    """Deliveries before their batch: everybody else does it in the other order."""
    d, b = tables.deliveries, tables.batches
    session.execute(sa.text("SET LOCAL deadlock_timeout = '10s'"))  # the others are the ones to give up
    session.execute(sa.select(d.c.id).where(d.c.state <= 1).with_for_update())
    over.wait(0.05)
    session.execute(sa.select(b.c.id).with_for_update())


def lock_for_long(session, over):
    session.execute(sa.select(tables.batches.c.id).with_for_update())
    over.wait(0.2)


def change_beneath(session, over):
    """Rows that others are about to change are others since."""
    session.execute(tables.batches.update().values(rung_at=tables.batches.c.rung_at + 1))
    over.wait(0.05)  # long enough for somebody to wait for them


@pytest.mark.parametrize(
    ("settings", "deed", "said"),
    [
        pytest.param({"deadlock_timeout": "30ms"}, lock_the_wrong_way_round, "DeadlockDetected", id="deadlock"),
        pytest.param({"lock_timeout": "30ms"}, lock_for_long, "LockNotAvailable", id="lock-time-out"),
    ],
)
def test_who_is_refused_by_the_database_asks_again(postgresql_database, tmp_path, settings, deed, said):
    url = url_of(postgresql_database)
    with sending(tmp_path / "run", url, 400) as made:
        settle_for(made.database, **settings)
        worker = made.start_worker(concurrency=3)
        # At a rate: a fast machine is done before the stranger has come in anybody's way.
        mailing = made.send(rate=40)
        made.wait_for(lambda: made.taken() > 20, 60)
        with somebody(url, deed):
            made.wait_for(lambda: said in worker.log.read_text("utf-8", "replace") and made.taken() > 120, 120)
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing)


def test_a_server_whose_default_is_serializable_refuses_nobody(postgresql_database, tmp_path):
    """Planning writes from two connections at once, and who is changed beneath a gate waits: neither is a collision."""
    url = url_of(postgresql_database)
    with sending(tmp_path / "run", url, 400) as made:
        settle_for(made.database, default_transaction_isolation="serializable")
        worker = made.start_worker(concurrency=3)
        mailing = made.send(rate=40)
        made.wait_for(lambda: made.taken() > 20, 60)
        with somebody(url, change_beneath):
            made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing)
        assert "SerializationFailure" not in worker.log.read_text("utf-8", "replace")


REFUSED = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF random() < 0.1 THEN
            RAISE 'could not serialize access' USING ERRCODE = 'serialization_failure';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER refused BEFORE UPDATE ON batches FOR EACH ROW EXECUTE FUNCTION refuse();
"""


def test_who_is_refused_every_tenth_change_asks_again(postgresql_database, tmp_path):
    with sending(tmp_path / "run", url_of(postgresql_database), 400) as made:
        with made.database.begin() as session:
            session.connection.exec_driver_sql(REFUSED)
        worker = made.start_worker(concurrency=3)
        mailing = made.send()
        made.wait_for(lambda: is_sent(made, mailing), 120)
        everybody_has_one(made, mailing)
        assert "SerializationFailure" in worker.log.read_text("utf-8", "replace")
