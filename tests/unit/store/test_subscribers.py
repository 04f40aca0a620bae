import datetime as dt
import uuid

import pytest
import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.errors import ConfigurationError
from service.domain.keys import Keyring
from service.domain.subscriber import SubscriberStatus, SuppressionReason, outranks
from service.domain.weeks import Week
from service.store import Database, DuplicateError, Sealer, subscribers, suppressions, tables
from service.store.subscribers import Count, Standing, prepared
from tests.canary import assert_no_trace, canary
from tests.unit.store.statements import counted

WEEK = Week(2019, 22)
BE_RU, EN = Chain(("be", "ru")), Chain(("en",))
ACTIVE = SubscriberStatus.ACTIVE


def add(session, address, chain=BE_RU, status=ACTIVE, consent="a form"):
    return subscribers.add(session, address, chain, status=status, consent=consent, week=WEEK)


def test_a_reader_is_found_by_any_spelling_and_the_address_is_as_it_was_typed(database):
    with database.begin() as session:
        made = add(session, "Ann.B+weekly@Reader.test")
    with database.read() as session:
        found = subscribers.find(session, "ann.b+WEEKLY@reader.TEST")
        assert found == made == subscribers.get(session, made.id)
        assert subscribers.address(session, found) == "Ann.B+weekly@Reader.test"
    assert (found.chain, found.status, found.epoch, found.consent, found.joined_week) == (
        BE_RU,
        ACTIVE,
        0,
        "a form",
        WEEK,
    )


def test_who_is_not_there_is_none(database):
    with database.read() as session:
        assert subscribers.find(session, "ann@reader.test") is None
        assert subscribers.get(session, b"x" * 16) is None
        assert subscribers.standings(session, []) == {}


def test_an_id_is_random_and_tells_no_time(database):
    with database.begin() as session:
        made = [add(session, f"reader{number}@reader.test").id for number in range(20)]
    assert {uuid.UUID(bytes=row_id).version for row_id in made} == {4}
    assert {uuid.UUID(bytes=row_id).variant for row_id in made} == {uuid.RFC_4122}
    assert made != sorted(made)


def test_a_second_reader_of_one_address_is_a_duplicate_and_the_transaction_goes_on(database):
    address = canary("duplicate")
    with database.begin() as session:
        add(session, address)
        with pytest.raises(DuplicateError) as caught:
            add(session, address.upper())
        add(session, canary("another"))
    assert_no_trace([address], text=str(caught.value) + repr(caught.value))
    with database.read() as session:
        assert len(subscribers.counts(session)) == 1


def test_a_violated_constraint_shows_no_value(database):
    address = canary("violated")
    with database.begin() as session:
        made = add(session, address)
    row = {"id": made.id, "address_hash": made.address_hash, "sealed": address.encode(), "chain": address[:100]}
    again = tables.subscribers.insert().values(**row, status="active", consent=address, joined_week="2019-W22")
    with pytest.raises(DuplicateError) as caught, database.begin() as session:
        session.execute(again)
    assert_no_trace([address], text=repr(caught.value))
    assert made.address_hash.hex() not in repr(caught.value)


def test_many_go_in_at_once_and_those_who_are_there_stay_as_they_are(database):
    with database.begin() as session:
        known = add(session, "reader3@reader.test", EN)
    new = [
        prepared(database.sealer, f"reader{number}@reader.test", BE_RU, status=ACTIVE, consent=None, week=WEEK)
        for number in range(2500)
    ]
    with database.begin() as session:
        assert subscribers.insert(session, new, week=WEEK) == 2499
        assert subscribers.insert(session, [], week=WEEK) == 0
    with database.read() as session, counted(database) as statements:
        standings = subscribers.standings(session, [row.address_hash for row in new])
        assert len(statements) == 1
        assert len(standings) == 2500
        assert standings[known.address_hash] == Standing(known.id, ACTIVE)
        assert subscribers.get(session, known.id).chain == EN
        assert subscribers.counts(session) == [Count(ACTIVE, "be,ru", 2499), Count(ACTIVE, "en", 1)]


def test_a_chain_and_a_status_change_for_that_reader_alone(database):
    with database.begin() as session:
        ann, bob = add(session, "ann@reader.test"), add(session, "bob@reader.test")
        subscribers.set_chain(session, ann.id, EN, week=WEEK)
        assert subscribers.set_status(session, ann.id, SubscriberStatus.UNSUBSCRIBED, week=WEEK)
        assert not subscribers.set_status(session, ann.id, SubscriberStatus.UNSUBSCRIBED, week=WEEK)
        kept = {SubscriberStatus.UNSUBSCRIBED}
        assert not subscribers.set_status(session, ann.id, ACTIVE, week=WEEK, unless=kept)
        assert not subscribers.set_status(session, b"x" * 16, ACTIVE, week=WEEK)
    with database.read() as session:
        assert subscribers.get(session, ann.id).chain == EN
        assert subscribers.get(session, ann.id).status is SubscriberStatus.UNSUBSCRIBED
        assert subscribers.get(session, bob.id) == bob


def test_erasing_removes_the_row_and_leaves_the_accounts_without_a_name(database):
    with database.begin() as session:
        ann, bob = add(session, "ann@reader.test"), add(session, "bob@reader.test")
        for mailing in (1, 2):
            save_mailing(session, mailing)
            for reader in (ann, bob):
                session.execute(
                    tables.deliveries.insert().values(
                        mailing_id=mailing, subscriber_id=reader.id, batch_id=mailing, state=2
                    )
                )
                session.execute(tables.mailing_audience.insert().values(mailing_id=mailing, subscriber_id=reader.id))
        assert subscribers.erase(session, ann.id, week=WEEK)
        assert not subscribers.erase(session, ann.id, week=WEEK)
    with database.read() as session:
        named = session.execute(sa.select(tables.deliveries.c.subscriber_id)).scalars().all()
        assert sorted(named, key=str) == sorted([None, None, bob.id, bob.id], key=str)
        chosen = session.execute(sa.select(tables.mailing_audience.c.subscriber_id)).scalars().all()
        assert set(chosen) == {bob.id}
        assert subscribers.find(session, "ann@reader.test") is None


def save_mailing(session, number):
    session.execute(tables.issues.insert().values(id=number, week=f"2019-W2{number}", subjects={}, changed_at=0))
    values = {
        "kind": "production",
        "state": "sending",
        "audience": "all",
        "actor": "test",
        "created_at": 0,
        "excluded": {},
    }
    session.execute(tables.mailings.insert().values(id=number, issue_id=number, **values))


def test_all_addresses_are_streamed_in_the_order_of_the_random_ids(database):
    typed = {f"reader{number}@reader.test" for number in range(50)}
    with database.begin() as session:
        for address in typed:
            add(session, address, status=ACTIVE if "1" in address else SubscriberStatus.UNSUBSCRIBED)
    with database.read() as session:
        rows = list(subscribers.every_address(session))
        assert {address for _, address in rows} == typed
        assert [reader.id for reader, _ in rows] == sorted(reader.id for reader, _ in rows)
        assert {address for _, address in subscribers.every_address(session, ACTIVE)} == {a for a in typed if "1" in a}


def test_a_dump_of_the_database_holds_no_address(database):
    typed = [canary("dump") for _ in range(5)]
    with database.begin() as session:
        for address in typed:
            reader = add(session, address)
            suppressions.add(session, reader.address_hash, SuppressionReason.OPERATOR, WEEK)
        subscribers.erase(session, reader.id, week=WEEK)
    with database.read() as session:
        rows = [
            repr(tuple(row)) + " ".join(bytes(cell).hex() for cell in row if isinstance(cell, bytes | memoryview))
            for table in tables.metadata.sorted_tables
            for row in session.execute(sa.select(table))
        ]
    assert len(rows) > 5
    assert_no_trace(typed, text="\n".join(rows))


def test_a_reader_is_not_shown_with_anything_that_leads_to_the_address(database):
    with database.begin() as session:
        made = add(session, "ann@reader.test")
    assert "ann" not in repr(made)
    assert made.address_hash.hex() not in repr(made)
    assert repr(made.address_hash) not in repr(made)


def test_after_a_new_key_readers_are_found_and_opened_as_before(database):
    url = database.url.render_as_string(hide_password=False)
    with database.begin() as session:
        add(session, "ann@reader.test")
    rotated = Database(url, Sealer(Keyring({1: bytes(range(32)), 2: b"n" * 32})))
    with rotated.begin() as session:
        add(session, "bob@reader.test")
        for address in ("ann@reader.test", "bob@reader.test"):
            assert subscribers.address(session, subscribers.find(session, address)) == address
    rotated.close()
    with database.read() as session, pytest.raises(ConfigurationError, match="key 2"):
        subscribers.address(session, subscribers.find(session, "bob@reader.test"))


def test_nothing_in_the_table_tells_a_time_finer_than_a_week():
    # The end of a pause is a day ahead, and forgotten once it is past.
    assert {column.name for column in tables.subscribers.columns} == {
        "id", "address_hash", "sealed", "chain", "status", "epoch", "consent", "joined_week", "provider",
        "text_only", "paused_until",
    }  # fmt: skip
    assert {column.name for column in tables.suppressions.columns} == {"address_hash", "reason", "since_week"}


HASH = b"h" * 32


def test_a_suppression_is_found_counted_once_and_lifted(database):
    with database.begin() as session:
        assert suppressions.add(session, HASH, SuppressionReason.ERASED, WEEK)
        assert not suppressions.add(session, HASH, SuppressionReason.ERASED, WEEK.shifted(1))
        assert suppressions.find(session, HASH) == suppressions.Suppression(SuppressionReason.ERASED, WEEK)
        assert suppressions.is_suppressed(session, HASH)
        assert suppressions.suppressed_among(session, [HASH, b"x" * 32]) == {HASH: SuppressionReason.ERASED}
        assert suppressions.lift(session, HASH) is SuppressionReason.ERASED
        assert suppressions.lift(session, HASH) is None
        assert not suppressions.is_suppressed(session, HASH)


@pytest.mark.parametrize("known", SuppressionReason)
@pytest.mark.parametrize("new", SuppressionReason)
def test_a_reason_that_only_an_operator_lifts_replaces_the_others_and_is_never_replaced(database, known, new):
    strong = {SuppressionReason.COMPLAINED, SuppressionReason.OPERATOR}
    with database.begin() as session:
        suppressions.add(session, HASH, known, WEEK)
        changed = suppressions.add(session, HASH, new, WEEK.shifted(1))
        assert changed == (new in strong and known not in strong) == outranks(new, known)
        kept = suppressions.Suppression(new, WEEK.shifted(1)) if changed else suppressions.Suppression(known, WEEK)
        assert suppressions.find(session, HASH) == kept
        suppressions.insert(session, [(b"x" * 32, known), (b"x" * 32, new)], WEEK)
        assert suppressions.find(session, b"x" * 32).reason is kept.reason


def test_many_are_suppressed_at_once_and_keep_the_reason_that_weighs_as_much(database):
    with database.begin() as session:
        suppressions.add(session, HASH, SuppressionReason.ERASED, WEEK)
        reasons = [(HASH, SuppressionReason.BOUNCED), (b"x" * 32, SuppressionReason.BOUNCED)]
        suppressions.insert(session, reasons, WEEK)
        suppressions.insert(session, [], WEEK)
        found = suppressions.suppressed_among(session, [HASH, b"x" * 32])
    assert found == {HASH: SuppressionReason.ERASED, b"x" * 32: SuppressionReason.BOUNCED}


def test_a_pause_that_is_over_is_forgotten(database):
    today = dt.date(2019, 6, 3)
    with database.begin() as session:
        readers = [add(session, f"{name}@reader.test") for name in ("past", "today", "ahead")]
        for days, reader in zip((-1, 0, 1), readers, strict=True):
            subscribers.set_pause(session, reader.id, today + dt.timedelta(days=days))
        subscribers.forget_pauses(session, today)
        found = [subscribers.get(session, reader.id).paused_until for reader in readers]
    assert found == [None, None, today + dt.timedelta(days=1)]
