import os
import signal
import subprocess
import sys
import time

import pytest
import redis

from service.domain.errors import ConfigurationError, UnavailableError
from service.embedded import valkey


def test_it_listens_on_a_private_socket_and_on_no_port(valkey):
    assert valkey.command("PING") == b"+PONG\r\n"
    assert valkey.command("CONFIG", "GET", "port").endswith(b"$1\r\n0\r\n")
    socket = valkey.folder / "valkey.sock"
    assert socket.stat().st_mode & 0o777 == 0o700


def test_it_keeps_nothing_on_disk_and_never_evicts(valkey):
    client = redis.Redis.from_url(valkey.url)
    client.set("k", "v")
    assert client.config_get("save") == {"save": ""}
    assert client.config_get("appendonly") == {"appendonly": "no"}
    assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    client.close()
    valkey.stop()
    assert list(valkey.folder.iterdir()) == []


def test_it_starts_over_the_socket_file_of_one_that_was_killed(valkey):
    valkey.kill()
    assert (valkey.folder / "valkey.sock").exists()
    valkey.start()
    assert valkey.command("PING") == b"+PONG\r\n"


def test_flushall_empties_it(valkey):
    valkey.command("SET", "k", "v")
    valkey.flushall()
    assert valkey.command("DBSIZE") == b":0\r\n"


def test_one_that_runs_already_is_used_and_left_running(tmp_path):
    with valkey.running(tmp_path) as first:
        with valkey.running(tmp_path) as second:
            assert second == first
        assert valkey.answers(valkey.socket_path(tmp_path))
    assert not valkey.answers(valkey.socket_path(tmp_path))


def test_a_long_data_directory_gets_a_short_private_socket(tmp_path):
    deep = tmp_path / ("d" * 90)
    with valkey.running(deep) as url:
        path = valkey.socket_path(deep)
        assert len(os.fsencode(path)) < 100
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert url == f"unix://{path}"
    path.parent.rmdir()


def test_a_short_folder_that_others_may_enter_is_refused(tmp_path):
    deep = tmp_path / ("d" * 90)
    folder = valkey.socket_path(deep).parent
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="TYDZEN_REDIS_URL"):
        valkey.prepare(deep)
    folder.rmdir()


def test_a_server_that_does_not_come_up_says_its_own_last_words(tmp_path):
    with pytest.raises(UnavailableError, match=r"ended at once.*Bad directive"):
        valkey.start(tmp_path, options=["--no-such-option", "1"])


def test_it_ends_with_its_parent_even_when_that_is_killed(tmp_path):
    code = (
        "import sys, time, pathlib; from service.embedded import valkey; "
        "print(valkey.start(pathlib.Path(sys.argv[1])).pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    server = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    give_up = time.monotonic() + 30
    while valkey.answers(valkey.socket_path(tmp_path)):
        assert time.monotonic() < give_up, f"Valkey {server} outlived its parent"
        time.sleep(0.01)
