"""What stands in Redis and is no task of ours is dropped, and what stands behind it is read."""

import pytest
from celery import Celery
from kombu import Consumer

from service.queue import BULK, SEND_BATCH, CeleryBell, celery_settings


@pytest.mark.parametrize(
    "forged", ["this is no task", "{}", "[1]", "7", "[" * 100_000, '{"body": ' * 100_000], ids=lambda words: words[:16]
)
def test_what_cannot_be_read_is_dropped_and_the_next_hint_is_read(valkey, forged):
    app = Celery(set_as_current=False)
    app.conf.update(celery_settings(valkey.url))
    read = []
    valkey.command("LPUSH", BULK, forged)
    CeleryBell(app).ring(SEND_BATCH, 7)
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
