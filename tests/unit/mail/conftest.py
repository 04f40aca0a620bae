"""Loops of both kinds, and a sink on a real socket."""

from __future__ import annotations

import asyncio

import pytest

from service.mail.loop import new_event_loop
from tests.smtp_sink import SmtpSink


@pytest.fixture(params=["uvloop", "asyncio"])
def loop(request):
    made = new_event_loop() if request.param == "uvloop" else asyncio.new_event_loop()
    yield made
    made.run_until_complete(made.shutdown_asyncgens())
    made.close()


@pytest.fixture
def sink(tmp_path):
    """`sink(*rules, **settings)` starts one; all are stopped at the end."""
    running = []

    def start(*rules, **settings):
        made = SmtpSink(tmp_path / f"ledger-{len(running)}", rules, **settings)
        made.start()
        running.append(made)
        return made

    yield start
    for each in running:
        each.stop()
