"""Valkey answers and takes nothing: no memory, no disk, a copy of another. The workers wait, say so, and go on by themselves."""

from __future__ import annotations

import contextlib
import time

import pytest

from tests.chaos.disks import fill_up, small_disk
from tests.chaos.test_database_network import until
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_scarcity import everybody_has_one
from tests.chaos.test_valkey import keeps_to, most_within
from tests.installation import installed

pytestmark = pytest.mark.slow

RATE = 50
READERS = 280
RESUMED_SECONDS = 30


@contextlib.contextmanager
def no_memory(made, disk):
    valkey = made.valkey
    valkey.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
    valkey.command("CONFIG", "SET", "maxmemory", "1")
    yield b"OOM"
    valkey.command("CONFIG", "SET", "maxmemory", "0")


@contextlib.contextmanager
def read_only(made, disk):
    """As the copy of a server that is gone."""
    made.valkey.command("REPLICAOF", "127.0.0.1", "1")
    yield b"READONLY"
    made.valkey.command("REPLICAOF", "NO", "ONE")


@contextlib.contextmanager
def no_disk(made, disk):
    """It is to save what it holds each second, and there is no room; where there is again it tries anew each five."""
    ballast = fill_up(disk)
    made.valkey.command("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes")
    made.valkey.command("CONFIG", "SET", "save", "1 1")
    made.wait_for(lambda: b"rdb_last_bgsave_status:err" in made.valkey.command("INFO", "persistence"), 30)
    yield b"MISCONF"
    ballast.unlink()
    made.wait_for(lambda: b"rdb_last_bgsave_status:ok" in made.valkey.command("INFO", "persistence"), 30)
    made.valkey.command("CONFIG", "SET", "save", "")


@pytest.mark.parametrize(
    ("refusing", "seconds"),
    [
        (no_memory, 5),
        (no_disk, 5),
        pytest.param(read_only, 5, marks=pytest.mark.long),
        *(pytest.param(deed, 90, marks=pytest.mark.long) for deed in (no_memory, no_disk, read_only)),
    ],
)
def test_while_valkey_refuses_every_write_the_workers_wait_and_say_so(postgresql_database, tmp_path, refusing, seconds):
    folder = tmp_path / "run"
    folder.mkdir()
    with (
        small_disk(folder / "valkey", 8) as disk,
        installed(folder, url_of(postgresql_database), own_process=True, rate=RATE, batch_size=25) as made,
    ):
        made.fill(READERS)
        worker = made.start_worker(concurrency=2)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > RATE, 60)
        with refusing(made, disk) as word:
            assert made.valkey.command("SET", "a", "b").startswith(b"-" + word)
            # What had its tokens goes out within a gate's second or two.
            time.sleep(2)
            taken, spoken = made.taken(), len(worker.log.read_text())
            assert taken < READERS
            time.sleep(seconds - 2)
            assert made.taken() == taken
            assert "pace-away" in worker.log.read_text()[spoken:]
        mended = time.monotonic()
        until(made, 1)
        assert time.monotonic() - mended < RESUMED_SECONDS
        # With nobody's help: hints that were lost meanwhile are found missing by the workers' own sweep.
        made.wait_for(lambda: is_sent(made, mailing), 90)
        everybody_has_one(made, mailing, READERS)
        assert worker.alive
        keeps_to(RATE, made)
        assert most_within(made, 1) <= 2 * RATE
