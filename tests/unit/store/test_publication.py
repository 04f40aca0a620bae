import datetime as dt

import pytest
import sqlalchemy as sa

from service.domain.errors import NotFoundError
from service.store import publication as store
from service.store.tables import publication as table
from tests.unit.editorial.samples import publication
from tests.unit.store.statements import counted

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)


def test_what_is_saved_is_loaded(database):
    with database.begin() as session:
        assert store.save(session, publication(), NOW)
    with database.read() as session:
        assert store.load(session) == publication()


def test_loading_before_the_first_import_names_the_command(database):
    with database.read() as session, pytest.raises(NotFoundError, match="tydzen publication import DIR"):
        store.load(session)


def test_saving_the_same_twice_writes_nothing(database):
    with database.begin() as session:
        store.save(session, publication(), NOW)
    with database.begin() as session, counted(database) as statements:
        assert not store.save(session, publication(), NOW)
    assert all(statement.startswith("SELECT") for statement in statements)


def test_sections_are_added_changed_moved_and_removed(database):
    first, second = publication().sections
    with database.begin() as session:
        store.save(session, publication(), NOW)
        for sections in ((second, first), (first,), (second, first)):
            changed = publication(sections=sections)
            assert store.save(session, changed, NOW)
            assert store.load(session).sections == sections


@pytest.mark.parametrize(
    ("sender", "domain"),
    [
        ("editors@weekly.example.org", "weekly.example.org"),
        ("editors@Тыдзень.бел", "xn--d1acfzv8cl.xn--90ais"),
        ("editors@weekly.тыдзень.бел", "weekly.xn--d1acfzv8cl.xn--90ais"),
    ],
)
def test_the_senders_domain_is_told_as_dns_has_it(database, sender, domain):
    with database.begin() as session:
        store.save(session, publication(sender=sender), NOW)
    with database.read() as session:
        assert store.sender_domain(session) == domain
        assert store.domain_of(store.load(session).sender) == domain


def test_operators_are_sealed_and_shown_by_no_repr(database):
    with database.begin() as session:
        store.save(session, publication(operators=("canary@example.org",)), NOW)
        row = session.execute(sa.select(table)).one()
        assert b"canary" not in bytes(row.operators)
        assert "canary" not in str(row.settings)
        loaded = store.load(session)
        assert loaded.operators == ("canary@example.org",)
        assert "canary" not in repr(loaded)


def test_loading_takes_two_statements(database):
    with database.begin() as session:
        store.save(session, publication(), NOW)
    with database.read() as session, counted(database) as statements:
        store.load(session)
    assert len(statements) == 2
