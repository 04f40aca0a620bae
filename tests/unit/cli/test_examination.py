"""What the doctor says of the parts around the engine."""

from types import SimpleNamespace

import pytest

from service.cli import examination

MB = 1 << 20


def test_the_database_is_named_by_its_kind(database):
    kind = "PostgreSQL" if database.postgresql else "SQLite"
    assert examination._database(SimpleNamespace(database=database)) == f"{kind}, schema current"


@pytest.mark.parametrize(
    ("memory", "table", "words"),
    [
        (128 * MB, 128 * MB, ""),
        (
            128 * MB,
            189 * MB + 1,
            "; its shared_buffers of 128 MB do not hold the 190 MB of the readers: larger is quicker",
        ),
    ],
)
def test_a_cache_that_does_not_hold_the_readers_is_told(memory, table, words):
    assert examination._cramped(memory, table) == words
