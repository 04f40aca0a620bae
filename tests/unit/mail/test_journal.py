"""The journal of a process that dies: what its reader may conclude, and what not."""

from __future__ import annotations

import contextlib
import datetime as dt
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
import uuid

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from service.domain.errors import InvalidInputError, UnavailableError
from service.domain.replies import Reply, ReplyClass
from service.mail import autopsy
from service.mail.autopsy import Fate
from service.mail.host import boot_id, host_id
from service.mail.journal import HEADER_SIZE, RECORD, Journal, journals_dir
from tests.smtp_sink import Rule

OK = Reply(250, "2.0.0", "ok")
GONE = Reply(550, "5.1.10", "no")


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path, sender_id=7) as made:
        yield made


def test_what_is_written_is_read_back(journal, tmp_path):
    journal.dot(1, 1)
    journal.dot(2, 3)
    journal.reply(2, 3, GONE, ReplyClass.HARD)
    contents = autopsy.read(journal.path)
    assert (contents.sender_id, contents.host_id, contents.boot_id) == (7, host_id(tmp_path), boot_id())
    assert 0 <= time.time() - contents.created < 60
    assert (len(contents.records), contents.torn, contents.damaged) == (3, 0, False)
    verdict = contents.verdict(2, 3)
    assert (verdict.fate, verdict.reply_class, verdict.code, verdict.enhanced) == (
        Fate.REPLIED,
        ReplyClass.HARD,
        550,
        "5.1.10",
    )
    assert contents.verdict(1, 1).fate is Fate.UNCERTAIN
    assert contents.verdict(2, 2).fate is Fate.NOT_SENT
    assert contents.verdict(3, 1).fate is Fate.NOT_SENT


@pytest.mark.parametrize("reply_class", ReplyClass)
def test_every_class_survives(journal, reply_class):
    journal.reply(1, 1, OK, reply_class)
    assert autopsy.read(journal.path).verdict(1, 1).reply_class is reply_class


def test_after_a_reboot_only_a_reply_decides(journal):
    journal.dot(1, 1)
    journal.reply(1, 1, OK, ReplyClass.ACCEPTED)
    journal.dot(2, 1)
    contents = autopsy.read(journal.path, boot=str(uuid.uuid4()))
    assert contents.rebooted
    assert contents.verdict(1, 1).fate is Fate.REPLIED
    assert contents.verdict(2, 1).fate is Fate.UNCERTAIN
    assert contents.verdict(3, 1).fate is Fate.UNCERTAIN


@settings(max_examples=100)
@given(st.integers(1, RECORD.size), st.integers(0, 2))
def test_a_torn_last_record_was_never_acted_upon(tmp_path_factory, length, whole):
    with Journal(tmp_path_factory.mktemp("journal"), sender_id=1) as journal:
        for number in range(whole + 1):
            journal.dot(number + 1, 1)
        path = journal.path
    torn_from = HEADER_SIZE + whole * RECORD.size + RECORD.size - length
    with path.open("r+b") as file:
        file.seek(torn_from)
        # A checksum may end in zeros: then nothing is torn.
        assume(any(file.read(length)))
        file.seek(torn_from)
        file.write(bytes(length))
    contents = autopsy.read(path)
    assert contents.verdict(whole + 1, 1).fate is Fate.NOT_SENT
    assert len(contents.records) == whole
    assert not contents.damaged


@pytest.mark.parametrize("patch", [bytes(RECORD.size), b"\xff", b"\xff" * RECORD.size])
def test_a_hole_in_the_middle_means_that_gaps_prove_nothing(journal, patch):
    for number in range(1, 4):
        journal.dot(number, 1)
    journal.reply(3, 1, OK, ReplyClass.ACCEPTED)
    with journal.path.open("r+b") as file:
        file.seek(HEADER_SIZE + RECORD.size)
        file.write(patch)
    contents = autopsy.read(journal.path)
    assert contents.damaged
    assert contents.verdict(2, 1).fate is Fate.UNCERTAIN
    assert contents.verdict(9, 1).fate is Fate.UNCERTAIN
    assert contents.verdict(3, 1).fate is Fate.REPLIED


@given(st.binary(max_size=600))
def test_any_file_can_be_read_or_refused(tmp_path_factory, octets):
    path = tmp_path_factory.getbasetemp() / "garbage.journal"
    path.write_bytes(octets)
    with pytest.raises(InvalidInputError, match="no readable header"):
        autopsy.read(path)


def test_the_journal_grows(journal):
    for number in range(40_000):
        journal.dot(number, 1)
    contents = autopsy.read(journal.path)
    assert len(contents.records) == journal.records == 40_000
    assert contents.verdict(39_999, 1).fate is Fate.UNCERTAIN


def test_a_full_disk_is_told_before_the_dot_and_replies_still_fit(journal):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(UnavailableError, match="no room"):
            _write_dots(journal, 40_000)
        for number in range(1000):
            journal.reply(number, 1, OK, ReplyClass.ACCEPTED)
        with pytest.raises(UnavailableError):
            journal.prepare(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.prepare(100_000)
    journal.dot(99_999, 1)
    contents = autopsy.read(journal.path)
    assert contents.verdict(7, 1).fate is Fate.REPLIED
    assert contents.verdict(99_999, 1).fate is Fate.UNCERTAIN


def _write_dots(journal, count):
    for number in range(count):
        journal.dot(number, 1)


def test_a_full_disk_at_the_start_leaves_nothing_behind(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 12, hard))
    try:
        with pytest.raises(UnavailableError):
            Journal(tmp_path, sender_id=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(journals_dir(tmp_path).iterdir()) == []


# Life and death


def test_an_owner_lives_as_long_as_its_lock(tmp_path):
    journal = Journal(tmp_path, sender_id=1)
    assert not autopsy.is_dead(journal.path)
    assert list(autopsy.unsettled(tmp_path)) == [journal.path]
    journal.close()
    assert autopsy.is_dead(journal.path)


def test_a_killed_process_leaves_what_it_wrote(tmp_path):
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from service.mail.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), sender_id=1)\n"
        "for number in range(1, 1001): journal.dot(number, 1)\n"
        "print(journal.path, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        path = tmp_path / process.stdout.readline().strip()
        assert not autopsy.is_dead(path)
        process.send_signal(signal.SIGSTOP)
        assert not autopsy.is_dead(path)
        process.kill()
        process.wait()
    assert autopsy.is_dead(path)
    assert len(autopsy.read(path).records) == 1000


@pytest.mark.parametrize(
    ("rule", "fate"),
    [
        (Rule("RCPT", then="hang"), Fate.NOT_SENT),
        (Rule("DATA", then="hang"), Fate.NOT_SENT),
        (Rule("DOT", then="hang"), Fate.UNCERTAIN),
        (Rule("DOT", "250 ok"), Fate.REPLIED),
    ],
    ids=lambda value: f"{value.when}-{value.then}" if isinstance(value, Rule) else value.name,
)
def test_a_worker_killed_in_mid_delivery(sink, tmp_path, rule, fate):
    server = sink(rule, hide=frozenset({"CHUNKING"}))
    process = multiprocessing.get_context("spawn").Process(target=_worker, args=(tmp_path, server.port))
    process.start()
    point = "MAIL" if rule.when == "RCPT" else rule.when
    _wait_for(lambda: any(c.startswith("DATA" if point == "DOT" else point) for c in server.commands))
    if fate is Fate.REPLIED:
        _wait_for(lambda: server.counts["taken"])
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (path,) = autopsy.unsettled(tmp_path)
    assert autopsy.is_dead(path)
    assert autopsy.read(path).verdict(1, 1).fate is fate


def _worker(folder, port):
    import asyncio

    from service.mail.loop import new_event_loop
    from tests.unit.mail.sending import letter, local, using

    async def work(wire, run):
        wire.submit([letter(1)], run.note)
        await asyncio.sleep(60)

    using(new_event_loop(), local(port), folder, work)


def _wait_for(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_settled_journals_are_kept_for_a_while(tmp_path):
    paths = []
    for number in range(4):
        with Journal(tmp_path, sender_id=number) as journal:
            paths.append(journal.path)
    kept, old, young = paths[0], autopsy.settle(paths[1]), autopsy.settle(paths[2])
    alive = Journal(tmp_path, sender_id=9)
    week_ago = dt.datetime.now(dt.UTC) - dt.timedelta(days=7)
    for path in (kept, old):
        os.utime(path, (0, week_ago.timestamp() - 60))
    assert autopsy.prune(tmp_path, older_than=week_ago) == 1
    assert not old.exists()
    assert kept.exists()
    assert young.exists()
    assert set(autopsy.unsettled(tmp_path)) == {kept, paths[3], alive.path}
    alive.close()


@pytest.mark.parametrize("torn", [False, True])
def test_a_settled_journal_keeps_its_records_and_its_time_and_gives_back_its_room(tmp_path, torn):
    with Journal(tmp_path, sender_id=7) as journal:
        journal.dot(1, 1)
        journal.reply(1, 1, GONE, ReplyClass.HARD)
        journal.dot(256, 1)
    if torn:
        with journal.path.open("r+b") as file:
            file.seek(HEADER_SIZE + 3 * RECORD.size + 5)
            file.write(b"x")
    os.utime(journal.path, (1_000_000, 1_000_000.5))
    before = autopsy.read(journal.path)

    settled = autopsy.settle(journal.path)

    after = autopsy.read(settled)
    assert (after.records, after.torn, after.damaged) == (before.records, before.torn, before.damaged)
    assert (len(after.records), after.torn) == (3, int(torn))
    assert settled.stat().st_size == HEADER_SIZE + (3 + torn) * RECORD.size
    assert settled.stat().st_mtime == 1_000_000.5


def test_a_long_journal_is_settled_without_being_held_in_memory(tmp_path):
    with Journal(tmp_path, sender_id=7) as journal:
        for number in range(200_000):
            journal.dot(number, 1)
    size = journal.path.stat().st_size
    tracemalloc.start()
    try:
        settled = autopsy.settle(journal.path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert settled.stat().st_size == HEADER_SIZE + 200_000 * RECORD.size < size
    assert most < size / 10


def test_a_journal_without_a_whole_header_is_settled_as_it_is(tmp_path):
    path = journals_dir(tmp_path) / "7-1.journal"
    path.parent.mkdir()
    path.write_bytes(b"TZ")
    assert autopsy.settle(path).read_bytes() == b"TZ"


def test_a_newborn_is_never_seen_unlocked(tmp_path):
    with contextlib.ExitStack() as stack:
        for number in range(20):
            stack.enter_context(Journal(tmp_path, sender_id=number))
            assert not any(map(autopsy.is_dead, autopsy.unsettled(tmp_path)))


# Host and boot


def test_the_host_keeps_its_name_even_when_two_begin_at_once(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: host_id(tmp_path / "new"), range(16)))) == 1
    assert host_id(tmp_path / "new") != host_id(tmp_path / "other")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["host-id"]


@pytest.mark.parametrize("left", [b"", bytes(37), b"0000"], ids=["empty", "zeros", "torn"])
def test_a_host_id_that_a_power_cut_has_emptied_is_made_anew(tmp_path, left):
    from concurrent.futures import ThreadPoolExecutor

    (tmp_path / "host-id").write_bytes(left)
    with ThreadPoolExecutor() as pool:
        found = set(pool.map(lambda _: host_id(tmp_path), range(16)))
    assert found == {host_id(tmp_path)}


def test_boot_ids_are_uuids():
    assert str(uuid.UUID(boot_id())) == boot_id()
