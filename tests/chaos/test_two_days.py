"""One provider takes nothing for two days, at the size of a large list."""

from __future__ import annotations

import pytest

from tests.smtp_sink import SmtpSink
from tests.unit.delivery.test_breaking import stay_away_for_two_days


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_of_a_hundred_thousand_the_thousands_at_one_provider_expire_and_the_rest_is_done(postgresql_database, tmp_path):
    with SmtpSink(tmp_path / "ledger", keep_in_memory=False) as sink:
        stay_away_for_two_days(postgresql_database, tmp_path, sink, readers=95_000, away=5_000)
