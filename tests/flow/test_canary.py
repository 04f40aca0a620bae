"""The canary grep: unique addresses go through a life, and then no file, log, row or message holds one of them."""

from __future__ import annotations

import datetime as dt
import json
import re
import sqlite3
import sys
import time
from collections import Counter

import pytest
import sqlalchemy as sa

from service.audience.unsubscribe import unsubscribe
from service.domain.delivery import DeliveryState
from service.domain.keys import Purpose
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import LinkSigner
from service.queue import Silence
from service.store import subscribers
from service.store.departures import DepartureLog
from service.store.tables import meta, notices, publication
from tests.canary import LeakError, assert_no_trace, find_traces
from tests.conftest import KEYRING
from tests.factories import save_issue, save_publication
from tests.flow.life import Life
from tests.flow.visitor import Visitor, body, mails
from tests.installation import BUSY
from tests.servers import free_port, valkey_server
from tests.smtp_sink import Rule, SmtpSink

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)

# A library that puts what it was given into its message, deep inside a command.
CRASH = """
import service.audience.adding as adding
def broken(text):
    raise ValueError(f"cannot make sense of {text!r} <{text}> ({text.upper()})")
adding.checked = broken
"""

# A reader written twice past every check, so that the database itself refuses the second row, and tells its values.
VIOLATION = """
import service.audience.adding as adding
from service.store.subscribers import prepared
from service.store.tables import subscribers as table
def broken(session, address, chain, **words):
    for _ in range(2):
        row = prepared(session.sealer, address, chain, **words)
        session.execute(table.insert().values({name: getattr(row, name) for name in row.__slots__}))
adding.subscribers.add = broken
"""

# A statement that the database itself refuses, with the values in it.
REFUSAL = """
import service.audience.adding as adding
import sqlalchemy as sa
def broken(session, address, chain, **_):
    session.execute(sa.text("INSERT INTO nowhere VALUES (:address)"), {"address": address})
adding.subscribers.add = broken
"""


@pytest.fixture
def life(database, tmp_path):
    with database.begin() as session:
        save_publication(session)
    made = Life(database, tmp_path)
    yield made
    made.stop()


@pytest.fixture
def harsh(life):
    """The database keeps all it can: SQLite its write-ahead log, PostgreSQL every statement with its values."""
    if life.database.postgresql:
        with life.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            name = connection.exec_driver_sql("SELECT current_database()").scalar()
            for setting in ("log_statement = 'all'", "log_min_duration_statement = 0", "log_error_verbosity = verbose"):
                connection.exec_driver_sql(f'ALTER DATABASE "{name}" SET {setting}')
        life.database.close()
        yield life
        return
    # As long as somebody reads, nobody may empty the log.
    reading = sqlite3.connect(life.database.url.database)
    reading.execute("BEGIN")
    reading.execute("SELECT count(*) FROM meta").fetchone()
    yield life
    reading.close()


def imported(life):
    """Readers of a file, and lines that are broken in every way there is, each with an address in it."""
    readers = [life.reader(f"imported{number}") for number in range(3)]
    broken = [life.reader(f"broken{number}") for number in range(11)]
    lines = [
        f'"{broken[0]},be', f"{broken[1]}\0,be", f"{broken[2]},xx", f"{broken[3]},{broken[3]}", broken[4],
        f"{broken[5]}@,be", f"be,{broken[6]}", f"{broken[7]},be,active,a form,{broken[7]}", f"{broken[8]},be,{broken[8]},",
        f"{broken[9]},be,active,{broken[9]} {'x' * 300}", *(f'{one},"be,ru",active,"a form of {one}"' for one in readers),
    ]  # fmt: skip
    content = (
        "\n".join(["email,languages,status,consent", *lines]).encode() + b"\n" + broken[10].encode() + b"\xff,be\n"
    )
    file = life.file("readers.csv", content)
    assert life.run("subscriber", "import", file, "--dry-run")[0] == 6
    code, out = life.run("subscriber", "import", file, "--json", "--errors", life.inside / "errors.csv")
    assert code == 6
    report = json.loads(out)
    assert (report["new"], report["invalid"]) == (3, 11)
    return readers


def changed(life, address):
    """What an operator does with one reader, and gets wrong."""
    assert life.run("subscriber", "show", address)[0] == 0
    assert life.run("subscriber", "show", "-", stdin=address)[0] == 0
    assert life.run("subscriber", "set", address, "--languages", "en,be")[0] == 0
    assert life.run("subscriber", "set", address, "--languages", address)[0] == 2
    assert life.run("subscriber", "add", address, "--languages", "be")[0] == 5
    assert life.run("subscriber", "add", address, address, "--languages", "be")[0] == 2
    assert life.run("subscriber", "suppress", address)[0] == 0
    assert life.run("subscriber", "add", address, "--languages", "be")[0] == 5
    assert life.run("subscriber", "unsuppress", address)[0] == 0
    unknown = life.reader("unknown")
    for command in ("show", "erase", "unsuppress"):
        assert life.run("subscriber", command, unknown, *(["--yes"] if command == "erase" else []))[0] == 4
    assert life.run("subscriber", "suppress", life.reader("suppressed"))[0] == 0


def crashed(life):
    """Commands that end in a traceback, with the address in the message of the error."""
    away = b"the database is away" if not life.database.postgresql else b"Traceback"
    for fault, expected in ((CRASH, b"Traceback"), (VIOLATION, b"the database refused a row"), (REFUSAL, away)):
        before = len(life.output)
        code, _ = life.run("subscriber", "add", life.reader("crashed"), "--languages", "be", before=fault)
        assert code != 0
        assert expected in life.output[before:]


def left(life, addresses):
    """By link, by erasure, and by a backup that is restored."""
    by_link, erased = addresses
    departures = DepartureLog(life.data / "departures.log")
    links = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE)
    with life.database.begin() as session:
        reader = subscribers.find(session, by_link)
        unsubscribe(session, Silence(), links, departures, links.sign(reader.id), now=NOW)
    assert life.run("subscriber", "erase", erased)[0] == 2
    assert life.run("subscriber", "erase", erased, "--yes")[0] == 0
    with life.database.read() as session:
        assert subscribers.get(session, reader.id).status is SubscriberStatus.UNSUBSCRIBED
        assert subscribers.find(session, erased) is None
    assert life.run("subscriber", "reapply")[0] == 0


def exported(life, addresses):
    """Refused without a yes; with it, the addresses go where they were asked for and nowhere else."""
    assert life.run("subscriber", "export")[0] == 2
    assert life.run("subscriber", "export", "--status", addresses[0])[0] == 2
    code, out = life.run("subscriber", "export", "--yes", outgoing=True)
    assert code == 0
    assert all(address.encode() in out for address in addresses)


def signed_up(life, suppressed):
    """By the form and the link: a new reader, one who is suppressed, one whom the relay refuses by name, and mistakes."""
    refused, new = life.reader("refused"), life.reader("new")
    rules = [Rule("RCPT", f"550 5.1.1 <{refused}> is nobody", recipient=refused)]
    port = free_port()
    with valkey_server(life.inside / "valkey") as valkey, SmtpSink(life.outside / "ledger", rules) as sink:
        life.environment |= {
            "TYDZEN_REDIS_URL": valkey.url,
            # Of several letters by BDAT, those behind one that is lost would be uncertain with it.
            "TYDZEN_SMTP_URL": f"smtp://127.0.0.1:{sink.port}?tls=none&chunking=no",
            "TYDZEN_WEB_PORT": str(port),
            "TYDZEN_BASE_URL": f"http://127.0.0.1:{port}",
        }
        life.start(sys.executable, "-m", "service.cli", "web")
        life.start(sys.executable, "-m", "celery", "-A", "worker", "worker", "--concurrency", "2", "-l", "DEBUG")
        visitor = Visitor(life.environment["TYDZEN_BASE_URL"])
        wait_for(visitor.answered)
        for address in (new, suppressed, refused):
            assert visitor.post("/be/subscribe", address=address, language="be")[0] == 303
        assert visitor.post("/be/subscribe", address=new)[0] == 422
        assert visitor.post("/be/subscribe", address=life.reader("twice") + "@", language="be")[0] == 422
        assert visitor.post("/be/subscribe", address=new, language=new, website=new)[0] == 303
        assert visitor.post(f"/c/{new}")[0] == 404
        visitor.get(f"/be/subscribe?address={new}")
        wait_for(lambda: mails(sink, new))
        (link,) = re.findall(r"/c/\S+", body(mails(sink, new)[0], "plain"))
        assert visitor.get(link)[0] == visitor.post(link)[0] == 200
        wait_for(lambda: len(mails(sink, new)) == 2)
        wait_for(lambda: notice_states(life)[DeliveryState.REFUSED] == 1)
        wait_for(lambda: notice_states(life)[DeliveryState.ACCEPTED] == 2)
        life.search(valkey=valkey)
        mailed(life, sink)
        life.search(valkey=valkey)
        moved = moved_by_link(life, visitor, sink, new)
        life.search(valkey=valkey)
        erased_by_link(life, visitor, sink, moved)
        life.search(valkey=valkey)
        life.stop()


def mailed(life, sink):
    """An issue to four readers: taken, refused and put off by name, and one of whose letter nobody knows."""
    taken, refused, deferred, unknown = (life.reader(name) for name in ("taken", "gone", "later", "silent"))
    for address in (taken, refused, deferred, unknown):
        assert life.run("subscriber", "add", address, "--languages", "en", "--consent", "a letter")[0] == 0
    sink.set_rules(
        Rule("RCPT", f"550 5.1.1 <{refused}> is nobody", recipient=refused),
        Rule("DOT", f"451 4.2.1 {deferred} is full", recipient=deferred),
        Rule("DOT", recipient=unknown, then="drop"),
    )
    with life.database.begin() as session:
        save_issue(session, "2019-W22")
    assert life.run("issue", "send", "2019-W22", "--yes")[0] == 0

    def counts():
        code, out = life.run("mailing", "status", "2019-W22", "--json")
        assert code == 0
        return {name: json.loads(out)[name] for name in ("accepted", "refused", "deferred", "uncertain")}

    wait_for(lambda: counts() == dict.fromkeys(("accepted", "refused", "deferred", "uncertain"), 1))
    for command in ("status", "ledger", "uncertain"):
        assert life.run("mailing", command, "2019-W22")[0] == 0
    for address in (taken, refused, deferred, unknown):
        assert life.run("explain", "-", "2019-W22", stdin=address)[0] == 0


def link_in(sink, address, letter, number):
    """The link of that kind in the mail of that number, once it has come."""
    wait_for(lambda: len(mails(sink, address)) >= number)
    return re.findall(rf"/{letter}/[^\s?]+", body(mails(sink, address)[number - 1], "plain"))[0]


def moved_by_link(life, visitor, sink, address):
    """The reader's own page, mistakes among it, the data, and another address; that address."""
    own, moved = link_in(sink, address, "p", 2), life.reader("moved")
    for fields in (
        {"change": "text", "text_only": "1"},
        {"change": "pause", "until": "9999-01-01"},
        {"change": address},
    ):
        visitor.post(own, **fields)
    assert visitor.post(own, change="request", purpose="data")[0] == 200
    code, _, data = visitor.post(link_in(sink, address, "r", 3))
    assert (code, json.loads(data)["address"]) == (200, address)
    assert visitor.post(own, change="request", purpose="address")[0] == 200
    link = link_in(sink, address, "r", 4)
    assert visitor.post(link, address=moved + "@")[0] == 422
    assert visitor.post(link, address=moved)[0] == 200
    assert visitor.post(link_in(sink, moved, "c", 1))[0] == 200
    wait_for(lambda: len(mails(sink, address)) == 5)
    return moved


def erased_by_link(life, visitor, sink, address):
    """The reader leaves, is told so, and has the rest erased."""
    with life.database.read() as session:
        reader = subscribers.find(session, address)
    assert visitor.post(f"/u/{LinkSigner(KEYRING, Purpose.UNSUBSCRIBE).sign(reader.id)}")[0] == 200
    own = link_in(sink, address, "p", 2)
    assert visitor.post(own, change="request", purpose="erase")[0] == 200
    assert visitor.post(link_in(sink, address, "r", 3))[0] == 200
    with life.database.read() as session:
        assert subscribers.get(session, reader.id) is None


def notice_states(life):
    with life.database.read() as session:
        return Counter(DeliveryState(one) for one in session.execute(sa.select(notices.c.state)).scalars())


def wait_for(what, seconds=60):
    """As `Installation.wait_for`."""
    give_up = time.monotonic() + BUSY * seconds
    while not what():
        assert time.monotonic() < give_up, "it did not come true"
        time.sleep(0.02)


def assert_all_is_kept(life):
    """What is searched holds what it should: the log that is not merged yet, the statements that were run."""
    if not life.database.postgresql:
        assert [path.stat().st_size > 0 for path in life.database_files() if path.name.endswith("-wal")] == [True]
        return
    log = next(path for path in life.database_files() if path.name == "log").read_bytes()
    assert b"INSERT INTO subscribers" in log
    assert b"uq_subscribers_address_hash" in log
    assert b"arameters: " in log


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_trace_is_left_of_any_reader(harsh):
    life = harsh
    readers = imported(life)
    added = life.reader("added")
    assert (
        life.run("subscriber", "add", "-", "--languages", "be", "--consent", f"a letter of {added}", stdin=added)[0]
        == 0
    )
    changed(life, added)
    crashed(life)
    exported(life, [*readers, added])
    assert_all_is_kept(life)
    life.search()
    left(life, readers[:2])
    life.search()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_trace_is_left_of_who_signs_up(harsh):
    life = harsh
    suppressed = life.reader("unwelcome")
    assert life.run("subscriber", "suppress", suppressed)[0] == 0
    signed_up(life, suppressed)
    if life.database.postgresql:
        log = next(path for path in life.database_files() if path.name == "log").read_bytes()
        assert b"INSERT INTO signups" in log
    life.search()


def test_a_trace_would_be_found(life):
    address = life.reader("planted")
    (life.inside / "var" / "log").write_text(address)
    with pytest.raises(LeakError, match="planted"):
        life.search()


def test_a_trace_in_a_row_would_be_found_in_the_files_of_the_database(life):
    address = life.reader("planted")
    with life.database.begin() as session:
        session.execute(meta.insert().values(key="leak", value=address))
    with pytest.raises(LeakError, match="planted"):
        assert_no_trace([address], paths=life.database_files())


def test_a_trace_in_a_row_would_be_found_in_a_backup_as_text_and_as_octets(life):
    text, octets, unheard = life.reader("text"), life.reader("octets"), life.reader("unheard")
    assert find_traces(life.addresses, paths=[life.backup()]) == []
    with life.database.begin() as session:
        session.execute(meta.insert().values(key="leak", value=text))
        session.execute(publication.update().values(operators=octets.encode()))
    backup = life.backup()
    assert find_traces([text], paths=[backup])
    assert find_traces([octets], paths=[backup])
    assert find_traces([unheard], paths=[backup]) == []
    with pytest.raises(LeakError, match="backups/backup-"):
        life.search()
