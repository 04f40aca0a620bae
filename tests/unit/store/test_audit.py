import datetime as dt

import pytest

from service.store import audit
from service.store.tables import audit as table

NOW = dt.datetime(2019, 6, 3, 6, tzinfo=dt.UTC)


@pytest.fixture
def written(database):
    with database.begin() as session:
        for number in range(5):
            audit.append(session, at=NOW, actor="cli:anna", action="issue.send", subject=f"mailing:{number}")
    return database


def test_an_untouched_log_is_whole(written):
    with written.read() as session:
        assert audit.first_broken(session) is None


def test_the_newest_entries_come_in_their_order(written):
    with written.read() as session:
        assert [entry.subject for entry in audit.newest(session, 2)] == ["mailing:3", "mailing:4"]


@pytest.mark.parametrize("change", [{"actor": "cli:boris"}, {"details": {"week": "2019-W22"}}, {"previous": ""}])
def test_a_changed_entry_is_found(written, change):
    with written.begin() as session:
        session.execute(table.update().where(table.c.id == 3).values(**change))
    with written.read() as session:
        assert audit.first_broken(session) == 3


def test_a_removed_entry_is_found_at_the_one_after_it(written):
    with written.begin() as session:
        session.execute(table.delete().where(table.c.id == 2))
    with written.read() as session:
        assert audit.first_broken(session) == 3
