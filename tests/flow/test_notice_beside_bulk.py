"""A confirmation leaves at once while a mailing is running, with everything real."""

from __future__ import annotations

import time

import pytest

from tests.flow.conftest import sending_installation
from tests.flow.visitor import Visitor, mails
from tests.servers import free_port

pytestmark = pytest.mark.slow

READERS = 3000


def lateness(made, site, count):
    """For so many sign-ups, one after the other: seconds until the relay had the confirmation, and letters before it."""
    late = []
    for number in range(count):
        address = f"prompt-{number}@reader.test"
        before, began = made.taken(), time.monotonic()
        assert site.post("/be/subscribe", address=address, language="be")[0] == 303
        made.wait_for(lambda one=address: mails(made.sink, one), seconds=60, why="no confirmation came")
        late.append((time.monotonic() - began, made.taken() - before))
    return late


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_confirmation_overtakes_the_mailing_that_is_running(request, kind, tmp_path):
    port = free_port()
    settings = {"web_port": port, "base_url": f"http://127.0.0.1:{port}", "rate": 100}
    with sending_installation(request, kind, tmp_path, **settings) as made:
        made.start_command("web")
        site = Visitor(settings["base_url"])
        made.wait_for(site.answered, why="the site does not answer")
        made.fill(READERS)
        mailing = made.send()
        made.wait_for(lambda: made.taken() >= 50, why="the mailing does not begin")
        late = lateness(made, site, 5)
        # The rate is the installation's, so what was let out before a confirmation tells how long that stood in line.
        assert made.status(mailing).mailing.state.value == "sending"
        assert all(letters < READERS / 4 for _, letters in late), late
        # On a machine that has time, a fraction of a second.
        assert min(seconds for seconds, _ in late) < 2, late
