"""A confirmation leaves within two seconds while an issue goes to 100,000 readers."""

from __future__ import annotations

import pytest

from tests.flow.conftest import database_url
from tests.flow.test_notice_beside_bulk import lateness
from tests.flow.visitor import Visitor
from tests.installation import installed
from tests.servers import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

READERS = 100_000


def test_a_confirmation_leaves_within_two_seconds_while_a_hundred_thousand_are_mailed(request, tmp_path):
    port = free_port()
    settings = {"web_port": port, "base_url": f"http://127.0.0.1:{port}", "rate": 500}
    with database_url(request, "postgresql", tmp_path) as url, installed(tmp_path / "run", url, **settings) as made:
        made.fill(READERS)
        made.start_command("web")
        made.start_worker("-Q", "bulk", concurrency=2)
        made.start_worker("-Q", "notices", concurrency=1)
        site = Visitor(settings["base_url"])
        made.wait_for(site.answered, why="the site does not answer")
        mailing = made.send()
        made.wait_for(lambda: made.taken() >= 1000, seconds=120, why="the mailing does not begin")
        late = lateness(made, site, 30)
        assert made.status(mailing).mailing.state.value == "sending"
        assert max(seconds for seconds, _ in late) < 2, late
        made.control("cancel", mailing)
