import pytest
import sqlalchemy as sa

from service.audience import exporting, looking_up
from service.audience.adding import add
from service.audience.subscriber_file import SubscriberFile
from service.domain.chains import Chain
from service.domain.errors import ConflictError, InvalidInputError, NotFoundError
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import subscribers, suppressions
from service.store.tables import audit
from tests.canary import assert_no_trace, canary
from tests.unit.audience.files import NOW

BY = {"actor": "cli:ann", "now": NOW}
BE, EN = Chain(("be",)), Chain(("en",))


def test_a_reader_who_is_vouched_for_is_active_with_the_evidence(database):
    with database.begin() as session:
        reader, added = add(session, " Ann@reader.test ", BE, consent=None, **BY)
        assert added
        assert (reader.status, reader.chain, reader.consent) == (SubscriberStatus.ACTIVE, BE, "vouched for by cli:ann")
        assert reader.joined_week == Week(2019, 23)
        assert add(session, "ann@reader.test", BE, consent="other words", **BY) == (reader, False)
        entry = session.execute(sa.select(audit)).one()
    assert (entry.action, entry.subject, entry.actor) == ("subscriber.add", reader.public_id, "cli:ann")


def test_evidence_is_cleaned_and_audited_without_its_words(sqlite_database):
    address = canary()
    with sqlite_database.begin() as session:
        reader, _ = add(session, address, BE, consent=f"a letter of {address}", **BY)
    assert reader.consent == "a letter of <address>"
    assert_no_trace([address], database=sqlite_database)


@pytest.mark.parametrize("reason", SuppressionReason)
def test_a_suppressed_address_is_refused_and_the_mend_is_named(sqlite_database, reason):
    with sqlite_database.begin() as session:
        suppressions.add(session, session.sealer.address_hash("canary@reader.test"), reason, Week(2019, 1))
        with pytest.raises(ConflictError, match="unsuppress") as caught:
            add(session, "canary@reader.test", BE, consent=None, **BY)
        assert "canary" not in str(caught.value)


def test_an_operator_overwrites_no_choice_and_no_departure_by_the_way(sqlite_database):
    with sqlite_database.begin() as session:
        reader, _ = add(session, "canary@reader.test", BE, consent=None, **BY)
        with pytest.raises(ConflictError, match=r"s_[0-9a-f]{32} is a reader already, of be.*subscriber set"):
            add(session, "canary@reader.test", EN, consent=None, **BY)
        subscribers.set_status(session, reader.id, SubscriberStatus.UNSUBSCRIBED, week=reader.joined_week)
        with pytest.raises(ConflictError, match="unsubscribed; only a newly confirmed"):
            add(session, "canary@reader.test", BE, consent=None, **BY)


def test_what_is_no_address_is_refused(sqlite_database):
    with sqlite_database.begin() as session, pytest.raises(InvalidInputError):
        add(session, "canary", BE, consent=None, **BY)


def test_a_reader_is_looked_up_by_address_or_by_id_and_an_unknown_one_is_not_repeated(database):
    with database.begin() as session:
        reader, _ = add(session, "ann@reader.test", BE, consent=None, **BY)
        assert looking_up.reader(session, " ANN@reader.test") == reader
        assert looking_up.reader(session, reader.public_id) == reader
        for unknown in ("canary@reader.test", "s_" + "0" * 32):
            with pytest.raises(NotFoundError) as caught:
                looking_up.reader(session, unknown)
            assert str(caught.value) == "no such subscriber"


def test_an_export_holds_all_and_is_imported_as_it_was(importing):
    import csv
    import io

    typed = {
        "=cmd|'/c'!a@reader.test": "be",
        "+ann@reader.test": "be,ru",
        "-x@reader.test": "en",
        "fay@пошта.бел": "ru,en",
    }
    with importing.database.begin() as session:
        for address, languages in typed.items():
            add(session, address, Chain(tuple(languages.split(","))), consent="@home, on paper", **BY)
    with importing.database.read() as session:
        rows = list(exporting.exported(session))
        assert {row["email"]: row["languages"] for row in rows} == typed
        assert [*exporting.exported(session, SubscriberStatus.PENDING)] == []
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(exporting.COLUMNS)
    writer.writerows(map(exporting.guarded, rows))
    cells = [cell for row in csv.reader(io.StringIO(text.getvalue())) for cell in row]
    assert not [cell for cell in cells if cell[:1] in tuple("=+-@\t\r")]
    entries = {entry.address: entry for entry in SubscriberFile(io.BytesIO(text.getvalue().encode()))}
    assert {address: entry.languages for address, entry in entries.items()} == typed
    assert {entry.consent for entry in entries.values()} == {"@home, on paper"}
    assert importing(text.getvalue()).known == len(typed)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_of_an_export_begins_as_a_formula_does(start):
    row = dict.fromkeys(exporting.COLUMNS, f"{start}cmd|' /C calc'!A0")
    assert exporting.guarded(row) == [f"'{start}cmd|' /C calc'!A0"] * len(row)
    assert exporting.guarded(dict.fromkeys(exporting.COLUMNS, f"a{start}")) == [f"a{start}"] * len(row)


def test_an_address_is_revealed_one_at_a_time_and_audited(database):
    with database.begin() as session:
        reader, _ = add(session, "ann@reader.test", BE, consent=None, **BY)
        exporting.announce(session, status=None, **BY)
        assert exporting.reveal(session, reader, **BY) == "ann@reader.test"
        entries = session.execute(sa.select(audit.c.action, audit.c.subject).order_by(audit.c.id)).all()
    assert entries[1:] == [("subscriber.export", "all"), ("subscriber.reveal", reader.public_id)]
