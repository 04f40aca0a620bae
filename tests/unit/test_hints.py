"""What stands in Redis and is no task of ours is dropped, and what stands behind it is read."""

import re

import pytest
from celery import Celery
from kombu import Consumer

from service.bootstrap import celery_application
from service.config import Settings
from service.queue import BULK, SEND_BATCH, CeleryBell, celery_settings


@pytest.mark.parametrize(
    "forged", ["this is no task", "{}", "[1]", "7", "[" * 100_000, '{"body": ' * 100_000], ids=lambda words: words[:16]
)
def test_what_cannot_be_read_is_dropped_and_the_next_hint_is_read(valkey, forged):
    app = Celery(set_as_current=False)
    app.conf.update(celery_settings(valkey.url))
    read = []
    valkey.command("LPUSH", BULK, forged)
    assert CeleryBell(app).patient().ring(SEND_BATCH, 7)
    with (
        app.connection_for_read() as connection,
        Consumer(
            connection,
            [app.amqp.queues[BULK]],
            accept=["json"],
            on_message=lambda message: read.append(message.headers["task"]),
        ),
    ):
        while not read:
            connection.drain_events(timeout=30)
    assert read == [SEND_BATCH]


def test_a_connection_is_of_use_after_few_words(valkey):
    """Each is a round trip, at every new connection: to a broker far away there must be some left for hints."""
    app = celery_application(Settings(redis_url=valkey.url))
    assert CeleryBell(app).patient().ring(SEND_BATCH, 7)
    valkey.command("CONFIG", "RESETSTAT")
    read = []
    with (
        app.connection_for_read() as connection,
        Consumer(connection, list(app.amqp.queues.values()), accept=["json"], on_message=read.append),
    ):
        while not read:
            connection.drain_events(timeout=30)
    said = re.findall(r"cmdstat_([^:]+):calls=(\d+)", valkey.command("INFO", "commandstats").decode())
    calls = {word: int(times) for word, times in said}
    assert not {"hello", "client|setinfo", "sadd", "llen"} & calls.keys()
    # On its own connection and on the one that it listens on.
    assert (calls["ping"], calls["brpop"]) == (4, 1)


class EnoughError(Exception):
    """So often was it tried."""


def test_a_broker_that_was_away_for_long_is_missed_for_seconds_once_it_is_back(valkey, monkeypatch):
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _seconds: None)
    waits = []

    def away(_error, seconds):
        waits.append(seconds)
        if len(waits) == 30:
            raise EnoughError

    app = celery_application(Settings(redis_url=valkey.url))
    valkey.kill()
    with app.connection_for_read() as connection:
        with pytest.raises(EnoughError):
            connection.ensure_connection(away, None)
        valkey.start()
        assert connection.ensure_connection(away, None).connected
    assert waits[0] == 1
    assert max(waits) == 5
