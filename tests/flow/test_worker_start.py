"""A worker that can do nothing does not start, and says what to mend; the doctor says the same."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from service.domain.keys import Keyring
from service.embedded.keyring_file import write_keyring
from service.mail.journal import Journal
from service.store.tables import meta
from tests.flow.conftest import database_url
from tests.installation import PROJECT, installed

START_SECONDS = 60


@pytest.fixture
def made(request, tmp_path):
    with database_url(request, "sqlite", tmp_path) as url, installed(tmp_path / "run", url) as one:
        yield one


def unreadable_key(made):
    return {"dkim": "w1=/nowhere/key.pem"}, "TYDZEN_DKIM: /nowhere/key.pem cannot be read"


def half_a_relay(made):
    return {"smtp_url": f"smtp://127.0.0.1:{made.sink.port}?tls=perhaps"}, "tls is none, starttls or implicit"


def keyring_of_another(made):
    path = made.folder / "other.key"
    write_keyring(path, Keyring({1: bytes(32)}))
    return {"secret_key_file": path}, "the keyring is not the one this database was sealed with"


def no_schema(made):
    return {"database_url": f"sqlite:///{made.folder / 'empty.sqlite3'}"}, "no schema yet; run: tydzen db upgrade"


def schema_of_a_later_program(made):
    with made.database.begin() as session:
        session.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
        session.execute(meta.update().where(meta.c.key == "compatible_from").values(value="9999"))
    return {}, "install the newer program here, too"


def misspelt_option(made):
    return {"database_url": "postgresql://me@127.0.0.1:1/x?conect_timeout=5"}, "PostgreSQL has no option conect_timeout"


TROUBLES = [misspelt_option, unreadable_key, half_a_relay, keyring_of_another, no_schema, schema_of_a_later_program]


@pytest.mark.slow
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_worker_that_can_do_nothing_does_not_start_and_says_what_to_mend(made, trouble):
    settings, wanted = trouble(made)
    worker = made.start_worker(concurrency=2, **settings)
    assert worker.process.wait(START_SECONDS) == 1
    said = worker.log.read_text()
    assert "worker-not-started" in said
    assert wanted in said
    assert "Traceback" not in said


@pytest.mark.parametrize("options", ["tls=perhaps", "tls=none&connections=0", "tls=starttls&ca=/nowhere.pem"])
def test_the_doctor_objects_to_a_relay_with_which_no_worker_could_send(made, tydzen, monkeypatch, options):
    monkeypatch.setenv("TYDZEN_SMTP_URL", f"smtp://127.0.0.1:{made.sink.port}?{options}")
    code, out, _ = tydzen("doctor", "--json")
    (relay,) = (one for one in json.loads(out)["checks"] if one["what"] == "relay")
    assert code == 3
    assert not relay["ok"]
    assert "127.0.0.1" in relay["found"]


def test_the_doctor_names_what_is_misspelt_and_reads_each_url_as_a_worker_does(tydzen, monkeypatch):
    monkeypatch.setenv("TYDZEN_RATES", "7")
    monkeypatch.setenv("TYDZEN_INBOUND_URL", "foo")
    monkeypatch.setenv("TYDZEN_SMTP_URL", "foo")
    code, out, _ = tydzen("doctor", "--json")
    wrong = {one["what"]: one["found"] for one in json.loads(out)["checks"] if not one["ok"]}
    assert code == 3
    assert wrong["settings"].startswith("TYDZEN_RATES: no such setting")
    assert wrong["inbound"].startswith("TYDZEN_INBOUND_URL: write lmtp://")
    assert wrong["relay"].startswith("TYDZEN_SMTP_URL: ")


def greet(server, greeting):
    connection, _ = server.accept()
    with connection:
        connection.sendall(greeting)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize(
    ("greeting", "why"), [(b"220 weekly LMTP\r\n", None), (b"* OK IMAP\r\n", "no greeting"), (None, "refused")]
)
def test_the_doctor_asks_whether_anybody_takes_mails_to_unsubscribe(tydzen, monkeypatch, host, greeting, why):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if greeting is None:
            server.close()
        else:
            threading.Thread(target=greet, args=(server, greeting), daemon=True).start()
        monkeypatch.setenv("TYDZEN_INBOUND_URL", f"lmtp://{host}:{port}?address=leave@weekly.example.org")
        code, out, _ = tydzen("doctor", "--json")
    found = {one["what"]: one for one in json.loads(out)["checks"]}
    assert found["settings"]["ok"]
    if why is None:
        words = f"mails to leave@weekly.example.org unsubscribe; {host}:{port} takes them"
        assert found["inbound"] == {"what": "inbound", "ok": True, "found": words}
    else:
        assert code == 3
        assert not found["inbound"]["ok"]
        for words in (f"{host}:{port}", why, "start tydzen inbound"):
            assert words in found["inbound"]["found"]


def test_the_doctor_says_of_one_trouble_the_same_wherever_it_meets_it(tydzen):
    _, out, _ = tydzen("doctor", "--json")
    found = {one["what"]: one["found"] for one in json.loads(out)["checks"]}
    assert "start it with: tydzen up" in found["redis"]
    assert found["queues"] == found["redis"]


BROKEN = {
    "relay": ("TYDZEN_SMTP_URL", "smtp://mail..example.org"),
    "redis": ("TYDZEN_REDIS_URL", "redis://valkey..example.org:6379/0"),
    "inbound": ("TYDZEN_INBOUND_URL", "lmtp://mail..example.org:24?address=leave@weekly.example.org"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_doctor_says_of_a_host_whose_name_nobody_can_look_up_what_it_is_of_and_goes_on(tydzen, monkeypatch, what):
    setting, url = BROKEN[what]
    monkeypatch.setenv(setting, url)
    code, out, _ = tydzen("doctor", "--json")
    found = {one["what"]: one for one in json.loads(out)["checks"]}
    assert code == 3
    assert not found[what]["ok"]
    assert "is no name of a host" in found[what]["found"]
    assert setting in found[what]["found"]
    assert "left alone" in found


def test_an_error_that_a_check_of_the_doctors_did_not_foresee_is_a_finding_beside_the_others(tydzen, tmp_path):
    (tmp_path / "var").mkdir(mode=0o700)
    (tmp_path / "var" / "journals").touch()
    code, out, _ = tydzen("doctor", "--json")
    found = {one["what"]: one for one in json.loads(out)["checks"]}
    assert code == 3
    assert not found["journals"]["ok"]
    assert found["journals"]["found"].startswith("NotADirectoryError, which this check did not foresee (")
    assert found["data directory"]["ok"]
    assert found["counts"]["ok"]
    assert "left alone" in found


def test_what_a_driver_repeats_of_an_option_is_in_no_finding(tydzen, monkeypatch):
    monkeypatch.setenv("TYDZEN_DATABASE_URL", "postgresql://me:canary@127.0.0.1:1/x?connect_timeout=canary")
    code, out, err = tydzen("doctor", "--json")
    found = {one["what"]: one for one in json.loads(out)["checks"]}
    assert code == 3
    assert not found["database"]["ok"]
    assert "left alone" in found
    assert "canary" not in out + err


@pytest.mark.parametrize("command", [("db", "upgrade"), ("db", "upgrade", "--dry-run"), ("subscriber", "stats")])
def test_an_option_that_no_postgresql_knows_is_named_at_any_command(tydzen, monkeypatch, command):
    monkeypatch.setenv("TYDZEN_DATABASE_URL", "postgresql://me:canary@127.0.0.1:1/x?sslmode=prefer&conect_timeout=5")
    code, out, err = tydzen(*command)
    assert code == 1
    assert "TYDZEN_DATABASE_URL: PostgreSQL has no option conect_timeout; is connect_timeout meant?" in err
    assert "Traceback" not in err
    assert "canary" not in out + err


def test_what_may_be_a_part_of_a_password_is_named_as_no_option(tydzen, monkeypatch):
    # As whoever does not encode it writes it: p@Xy?Zk3Qw==
    monkeypatch.setenv("TYDZEN_DATABASE_URL", "postgresql://me:p@Xy?Zk3Qw==@127.0.0.1:1/x")
    code, out, err = tydzen("subscriber", "stats")
    assert code == 1
    assert "TYDZEN_DATABASE_URL: PostgreSQL has no option of that name" in err
    assert "Zk3Qw" not in out + err


def test_the_doctor_names_an_option_that_no_postgresql_knows_and_goes_on(tydzen, monkeypatch):
    monkeypatch.setenv("TYDZEN_DATABASE_URL", "postgresql://me:canary@127.0.0.1:1/x?conect_timeout=5")
    code, out, err = tydzen("doctor", "--json")
    found = {one["what"]: one for one in json.loads(out)["checks"]}
    assert code == 3
    assert "PostgreSQL has no option conect_timeout" in found["database"]["found"]
    assert found["settings"]["ok"]
    assert "left alone" in found
    assert "canary" not in out + err


@pytest.mark.slow
def test_a_worker_that_starts_asks_and_tells_other_workers_nothing(made):
    """What it asked it would wait for at each new connection, before it hears a hint."""
    worker = made.start_worker(concurrency=2)
    made.wait_for(lambda: worker.sweeps() and len(worker.children()) == 2, START_SECONDS)
    made.wait_for(lambda: b"BRPOP" in made.valkey.command("CLIENT", "LIST").upper(), START_SECONDS)
    known = made.valkey.command("KEYS", "*")
    assert b"pidbox" not in known
    assert b"celeryev" not in known
    assert made.valkey.command("PUBSUB", "CHANNELS") == b"*0\r\n"


STARTED = """
from types import SimpleNamespace
from tests.modes import heed
heed()
from service import jobs
from service.bootstrap import celery_app
jobs.on_setup(sender="bulk@here", instance=SimpleNamespace(app=celery_app, concurrency=1))
print("goes on")
"""


def start_heeding_modes(made):
    command = [sys.executable, "-c", STARTED]
    return subprocess.run(command, env=made.environment, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["journals/7-1.journal", "journals", "mark", "mark.lock", "begun.log", "host-id"])
def test_a_worker_whose_journals_or_books_are_another_users_does_not_start_and_says_what_to_mend(made, name):
    data = made.folder / "data"
    with Journal(data, sender_id=7) as journal:
        journal.path.rename(journal.path.with_name("7-1.journal"))
    assert start_heeding_modes(made).stdout.endswith("goes on\n")
    path = data / name
    path.touch()
    path.chmod(0o000)
    try:
        told = start_heeding_modes(made)
    finally:
        path.chmod(0o700)
    assert told.returncode == 1
    said = told.stdout + told.stderr
    assert "worker-not-started" in said
    assert f"{path}: " in said
    assert "chown" in said
    assert "goes on" not in said
    assert "Traceback" not in said


FORKED = """
import gc, os
from types import SimpleNamespace
from service import jobs
from service.bootstrap import celery_app
jobs.on_setup(sender="bulk@here", instance=SimpleNamespace(app=celery_app, concurrency=1))
if os.fork() == 0:
    jobs.on_fork()
    print(gc.get_freeze_count(), len(gc.get_objects()), flush=True)
    os._exit(0)
os.wait()
"""


ORPHANED = """
import os, time
from types import SimpleNamespace
from service import jobs
from service.bootstrap import celery_app
if os.fork() == 0:
    jobs.on_setup(sender="bulk@here", instance=SimpleNamespace(app=celery_app, concurrency=1))
    parent = os.getpid()
    if os.fork() == 0:
        while {waits} and os.getppid() == parent:
            time.sleep(0.01)
        jobs.on_fork()
        print("goes on", flush=True)
        os._exit(0)
    {waits} or os.wait()
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize("dies", [True, False])
def test_a_process_whose_worker_died_before_it_was_bound_to_it_does_not_go_on(made, dies):
    command = [sys.executable, "-c", ORPHANED.format(waits=dies)]
    # Until every process that holds its end of the pipe is gone.
    told = subprocess.run(command, env=made.environment, cwd=PROJECT, capture_output=True, text=True, check=True)
    assert ("goes on" in told.stdout) is not dies


def test_what_a_worker_has_loaded_is_not_looked_through_again_while_its_processes_send(made):
    command = [sys.executable, "-c", FORKED]
    told = subprocess.run(command, env=made.environment, cwd=PROJECT, capture_output=True, text=True, check=True)
    loaded, own = map(int, told.stdout.split()[-2:])
    assert 20 * own < loaded
