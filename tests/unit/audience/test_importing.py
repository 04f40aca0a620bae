import hashlib
import json
import tracemalloc

import pytest
import sqlalchemy as sa

from service.audience.candidates import Defaults, Examiner
from service.audience.erasure import erase
from service.audience.importing import ImportReport
from service.audience.said import Said
from service.audience.subscriber_file import Entry
from service.domain.chains import Chain
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.store import subscribers, suppressions
from service.store.departures import Step
from service.store.tables import audit
from tests.canary import assert_no_trace, canary
from tests.unit.audience.files import NOW
from tests.unit.store.statements import counted

WEEK = Week(2019, 23)
HEADER = "email,languages,status,consent\n"


def find(importing, address):
    with importing.database.read() as session:
        return subscribers.find(session, address)


def counts(report, **expected):
    zero = dict.fromkeys(("new", "known", "suppressed", "unsubscribed", "unconfirmed", "invalid", "left"), 0)
    assert {name: getattr(report, name) for name in zero} == {**zero, **expected}
    assert (
        report.lines
        == report.new + report.known + report.suppressed + report.unsubscribed + report.unconfirmed + report.invalid
    )


def test_readers_are_new_once_and_known_ever_after(importing):
    text = 'email,languages\nann@reader.test,"be,ru"\nBob@Reader.test,BY/RU\n'
    counts(importing(text), new=2)
    counts(importing(text), known=2)
    ann, bob = find(importing, "ann@reader.test"), find(importing, "bob@reader.test")
    assert ann.chain == bob.chain == Chain(("be", "ru"))
    assert (ann.status, ann.joined_week) == (SubscriberStatus.ACTIVE, WEEK)
    with importing.database.read() as session:
        assert subscribers.address(session, bob) == "Bob@Reader.test"


@pytest.mark.parametrize("chunk", [1, 2, 7, 1000])
def test_a_reader_twice_in_a_file_is_known_the_second_time_wherever_chunks_end(importing_to_sqlite, chunk):
    lines = "".join(f"{address}@reader.test,en\n" for address in ("ann", "bob", "Ann", "cid", "ANN", "bob", "dora"))
    text = "email,languages\n" + lines
    counts(importing_to_sqlite(text, chunk=chunk, dry_run=True), new=4, known=3)
    counts(importing_to_sqlite(text, chunk=chunk), new=4, known=3)
    counts(importing_to_sqlite(text, chunk=chunk, dry_run=True), known=7)


def test_a_dry_run_changes_nothing_and_says_the_same(importing):
    text = HEADER + "ann@reader.test,en,active,\nbob@reader.test,en,blocklisted,\ncid@reader.test,xx,,\n"
    dry = importing(text, dry_run=True)
    counts(dry, new=1, suppressed=1, invalid=1)
    with importing.database.read() as session:
        assert subscribers.counts(session) == []
        assert session.scalar(sa.select(sa.func.count()).select_from(audit)) == 0
    assert not importing.departures.path.exists()
    assert importing(text) == dry


def test_a_known_reader_keeps_the_languages_that_were_chosen(importing):
    importing("email,languages\nann@reader.test,be\n")
    counts(importing("email,languages\nann@reader.test,en\n"), known=1)
    assert find(importing, "ann@reader.test").chain == Chain(("be",))


@pytest.mark.parametrize(
    "status", [SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED, SubscriberStatus.COMPLAINED]
)
def test_who_has_left_is_not_brought_back(importing, status):
    importing("email,languages\nann@reader.test,be\n")
    with importing.database.begin() as session:
        subscribers.set_status(session, subscribers.find(session, "ann@reader.test").id, status, week=WEEK)
    counts(importing("email,languages,status\nann@reader.test,be,active\n"), unsubscribed=1)
    assert find(importing, "ann@reader.test").status is status


@pytest.mark.parametrize("reason", SuppressionReason)
def test_who_is_suppressed_is_not_brought_back(importing, reason):
    with importing.database.begin() as session:
        suppressions.add(session, session.sealer.address_hash("ann@reader.test"), reason, WEEK)
    counts(importing("email,languages\nAnn@Reader.Test,be\n"), suppressed=1)
    assert find(importing, "ann@reader.test") is None


def test_who_was_erased_is_not_brought_back(importing):
    text = "email,languages\nann@reader.test,be\n"
    importing(text)
    with importing.database.begin() as session:
        reader = subscribers.find(session, "ann@reader.test")
        erase(session, importing.departures, reader, actor="test", now=NOW)
    counts(importing(text), suppressed=1)
    assert find(importing, "ann@reader.test") is None


def test_what_a_file_says_of_those_who_are_new_here(importing):
    statuses = ("active", "pending", "unsubscribed", "bounced", "complained", "blocklisted")
    report = importing(HEADER + "".join(f"{status}@reader.test,be,{status},\n" for status in statuses))
    counts(report, new=1, unconfirmed=1, unsubscribed=3, suppressed=1)
    found = {status: find(importing, f"{status}@reader.test") for status in statuses}
    assert {status: reader and reader.status.value for status, reader in found.items()} == {
        "active": "active", "pending": None, "unsubscribed": "unsubscribed", "bounced": "bounced",
        "complained": "complained", "blocklisted": None,
    }  # fmt: skip
    with importing.database.read() as session:
        hashes = {session.sealer.address_hash(f"{status}@reader.test"): status for status in statuses}
        reasons = {hashes[known]: why.value for known, why in suppressions.suppressed_among(session, hashes).items()}
    assert reasons == {"bounced": "bounced", "complained": "complained", "blocklisted": "operator"}


def test_a_file_can_have_readers_leave_and_that_is_written_beside_the_database(importing):
    names = ("ann", "bob", "cid")
    importing("email,languages\n" + "".join(f"{name}@reader.test,be\n" for name in names))
    text = (
        HEADER + "ann@reader.test,be,unsubscribed,\nbob@reader.test,be,complained,\ncid@reader.test,be,blocklisted,\n"
    )
    counts(importing(text), unsubscribed=2, suppressed=1, left=3)
    statuses = [find(importing, f"{name}@reader.test").status.value for name in names]
    assert statuses == ["unsubscribed", "complained", "active"]
    assert sorted(one.step for one in importing.departures.read()) == [
        Step.COMPLAINED,
        Step.OPERATOR,
        Step.UNSUBSCRIBED,
    ]
    counts(importing(text), unsubscribed=1, suppressed=2)


@pytest.mark.parametrize("chunk", [1, 100])
def test_of_two_lines_about_one_reader_the_departure_counts(importing_to_sqlite, chunk):
    text = HEADER + "ann@reader.test,be,active,\nann@reader.test,be,unsubscribed,\nann@reader.test,be,active,\n"
    importing_to_sqlite(text, chunk=chunk)
    assert find(importing_to_sqlite, "ann@reader.test").status is SubscriberStatus.UNSUBSCRIBED


def test_each_broken_line_costs_itself_and_is_told_by_number_and_reason_alone(importing_to_sqlite):
    typed = canary("broken")
    local = typed.rpartition("@")[0]
    lines = [
        f'"{typed},be', f"{typed}\0,be", f"{local},be", f"{typed},xx", f"{typed},{typed}", typed, f"{typed},",
        f"{typed},be,be", f"be,{typed}", f"{typed}x.y@,en", f"{typed},be;ru;{local}", "ann@reader.test,be",
    ]  # fmt: skip
    octets = "\n".join(["email,languages", *lines]).encode() + b"\n" + typed.encode() + b"\xff,be\nbob@reader.test,be\n"
    report = importing_to_sqlite(octets)
    counts(report, new=2, invalid=12)
    assert list(importing_to_sqlite.invalid) == [*range(2, 13), 14]
    assert all(importing_to_sqlite.invalid.values())
    assert_no_trace(
        [typed], text=repr(report) + json.dumps(importing_to_sqlite.invalid), database=importing_to_sqlite.database
    )


def test_lines_without_languages_take_those_of_the_command(importing):
    counts(importing("email\nann@reader.test\n", languages="be,ru"), new=1)
    counts(importing("email,languages\nbob@reader.test,\ncid@reader.test,en\n", languages="by"), new=2)
    assert find(importing, "ann@reader.test").chain == Chain(("be", "ru"))
    assert find(importing, "bob@reader.test").chain == Chain(("be",))
    assert find(importing, "cid@reader.test").chain == Chain(("en",))


def test_without_languages_anywhere_the_mend_is_named(importing_to_sqlite):
    with pytest.raises(InvalidInputError, match="--languages be,ru"):
        importing_to_sqlite("email\nann@reader.test\n")
    counts(importing_to_sqlite("email,languages\nann@reader.test,\n"), invalid=1)
    assert "--languages" in importing_to_sqlite.invalid[2]
    with pytest.raises(InvalidInputError):
        importing_to_sqlite("email\nann@reader.test\n", languages="xx")


def test_who_left_elsewhere_needs_no_languages(importing_to_sqlite):
    counts(importing_to_sqlite(HEADER + "ann@reader.test,,unsubscribed,\n"), unsubscribed=1)


def test_consent_is_that_of_the_line_else_of_the_command_else_the_files_digest(importing_to_sqlite):
    typed = canary()
    text = f"email,languages,consent\nann@reader.test,be,a form of {typed} at 192.0.2.7\nbob@reader.test,be,\n"
    importing_to_sqlite(text, consent="paper lists, spring 2019")
    assert find(importing_to_sqlite, "ann@reader.test").consent == "a form of <address> at <ip>"
    assert find(importing_to_sqlite, "bob@reader.test").consent == "paper lists, spring 2019"
    text = "email,languages\ncid@reader.test,be\n"
    report = importing_to_sqlite(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert report.source == f"sha256:{digest}"
    assert find(importing_to_sqlite, "cid@reader.test").consent == f"import sha256:{digest[:12]}"


def test_the_week_of_joining_comes_along_when_an_installation_moves(importing_to_sqlite):
    lines = "a@r.test,be,2016-W05\nb@r.test,be,soon\nc@r.test,be,9999-W01\n"
    counts(importing_to_sqlite(f"email,languages,joined_week\n{lines}"), new=1, invalid=2)
    assert find(importing_to_sqlite, "a@r.test").joined_week == Week(2016, 5)


def test_an_import_is_audited_before_and_after_by_the_digest_of_the_file(importing):
    report = importing("email,languages\nann@reader.test,be\nbroken,be\n")
    with importing.database.read() as session:
        rows = session.execute(sa.select(audit).order_by(audit.c.id)).all()
    assert [row.action for row in rows] == ["subscriber.import", "subscriber.imported"]
    assert all(row.details["source"] == report.source for row in rows)
    assert (rows[1].details["new"], rows[1].details["invalid"]) == (1, 1)
    assert rows[0].actor == "test"


def test_progress_tells_octets_up_to_the_whole_file(importing_to_sqlite):
    text = "email,languages\n" + "".join(f"r{number}@reader.test,be\n" for number in range(10))
    importing_to_sqlite(text, chunk=4)
    assert importing_to_sqlite.octets == sorted(importing_to_sqlite.octets)
    assert importing_to_sqlite.octets[-1] == len(text)
    assert len(importing_to_sqlite.octets) == 3


def test_what_long_lines_hold_is_not_remembered(importing_to_sqlite):
    examiner = Examiner(importing_to_sqlite.database.sealer, ("be",), Defaults(None, "the list", WEEK))
    tracemalloc.start()
    try:
        for number in range(200):
            consent = f"form{' ' * 60_000}{number}"
            assert examiner.candidate(Entry(1, "ann@reader.test", "be", Said.ACTIVE, consent, "")).consent.startswith(
                "form"
            )
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2_000_000


def test_long_lines_make_short_chunks(importing_to_sqlite, monkeypatch):
    monkeypatch.setattr("service.audience.importing._CHUNK_OCTETS", 100_000)
    long = "".join(f"r{number}@reader.test,be,{' ' * 60_000}form {number}\n" for number in range(5))
    short = "".join(f"s{number}@reader.test,be,\n" for number in range(5))
    counts(importing_to_sqlite("email,languages,consent\n" + long + short), new=10)
    assert len(importing_to_sqlite.octets) == 3
    assert find(importing_to_sqlite, "r4@reader.test").consent == "form 4"


def test_a_chunk_takes_the_same_few_statements_however_long_it_is(importing):
    taken = []
    for length in (10, 500):
        text = "email,languages\n" + "".join(f"r{length}.{number}@reader.test,be\n" for number in range(length))
        with counted(importing.database) as statements:
            importing(text)
        taken.append(len(statements))
    assert taken[0] == taken[1]


def test_an_import_that_was_cut_short_is_taken_up_again(importing):
    text = "email,languages\n" + "".join(f"r{number}@reader.test,be\n" for number in range(10))
    with pytest.raises(KeyboardInterrupt):
        importing_interrupted(importing, text)
    report = importing(text, chunk=3)
    counts(report, new=4, known=6)


def importing_interrupted(importing, text):
    told = []

    class Interrupt(list):
        def append(self, octets):
            told.append(octets)
            if len(told) == 2:
                raise KeyboardInterrupt

    path = importing.folder / "readers.csv"
    path.write_text(text)
    from service.audience.importing import Listener, import_file

    import_file(
        importing.database, importing.departures, path, languages=None, consent=None, actor="test", now=NOW,
        listener=Listener(progress=Interrupt().append), chunk=3,
    )  # fmt: skip


def test_a_file_that_is_not_there_is_refused_without_its_name(importing_to_sqlite):
    from service.audience.importing import import_file

    path = importing_to_sqlite.folder / "canary@reader.test"
    for folder in (False, True):
        if folder:
            path.mkdir()
        with pytest.raises(InvalidInputError) as caught:
            import_file(
                importing_to_sqlite.database, importing_to_sqlite.departures, path,
                languages=None, consent=None, actor="test", now=NOW,
            )  # fmt: skip
        assert "canary" not in str(caught.value)


def test_without_a_publication_the_mend_is_named(database, tmp_path):
    from service.audience.importing import import_file
    from service.store.departures import DepartureLog

    path = tmp_path / "readers.csv"
    path.write_text("email,languages\nann@reader.test,be\n")
    with pytest.raises(NotFoundError, match="publication import"):
        import_file(database, DepartureLog(tmp_path / "d"), path, languages=None, consent=None, actor="test", now=NOW)


def test_a_report_names_the_kind_of_the_file(importing_to_sqlite):
    report = importing_to_sqlite('email,name,attributes,status\nann@reader.test,Ann,"{""lang"":""by""}",enabled\n')
    assert isinstance(report, ImportReport)
    assert report.origin == "listmonk"
    counts(report, new=1)


def test_a_cleaned_address_of_mailchimp_is_suppressed_also_by_a_command_that_says_less(importing_to_sqlite):
    header, when = "Email Address,OPTIN_TIME,UNSUB_TIME,CLEAN_TIME,LEID,EUID\n", "2019-05-27 10:00:00"
    lines = f"ann@reader.test,,,{when},1,2\nbob@reader.test,,{when},,1,2\ncid@reader.test,{when},,,1,2\n"
    report = importing_to_sqlite(header + lines, languages="be", standing=Said.PENDING)
    counts(report, unsubscribed=2, unconfirmed=1)
    with importing_to_sqlite.database.read() as session:
        assert suppressions.find(session, session.sealer.address_hash("ann@reader.test")).reason == "bounced"
    assert find(importing_to_sqlite, "bob@reader.test").status is SubscriberStatus.UNSUBSCRIBED
