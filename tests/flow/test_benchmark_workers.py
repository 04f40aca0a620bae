"""The workers of the benchmark alone, that have neither gate nor journal: they follow the engine, or measure nothing."""

import pytest

from tests.flow.conftest import database_url
from tests.installation import installed

pytestmark = pytest.mark.slow

READERS = 900  # more than a group, so that acceptances go with the next gate


def test_workers_without_gate_and_journal_send_to_everybody(request, tmp_path):
    with database_url(request, "postgresql", tmp_path) as url, installed(tmp_path / "run", url) as made:
        made.fill(READERS)
        made.start_worker(app="benchmarks.unsafe")
        mailing = made.send()
        found = made.wait_until_sent(mailing, 60)
        assert found.counts.accepted == made.taken() == READERS
