import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.flow.test_proxy import asked
from tests.servers import free_port

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are found through /proc")


class Up:
    """`tydzen up` in a new data directory."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "var"
        self.log = folder / "up.log"
        self.port = free_port()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TYDZEN_")},
            "TYDZEN_DATA_DIR": str(self.data_dir),
            "TYDZEN_WEB_PORT": str(self.port),
            "TYDZEN_INBOX_PORT": str(free_port()),
        }
        self.process = None

    def start(self, *options: str) -> None:
        command = [sys.executable, "-m", "service.cli", "up", "--concurrency", "1", *options]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=self.environment, stderr=log)
        self.wait_for("all is running")

    def said(self) -> str:
        return self.log.read_text()

    def wait_for(self, words: str, seconds: float = 150) -> None:
        give_up = time.monotonic() + seconds
        while words not in self.said():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.said()}"
            assert time.monotonic() < give_up, f'"{words}" was never said:\n{self.said()}'
            time.sleep(0.05)

    def processes(self) -> dict[int, str]:
        """Every process of this data directory, by id, with its command line."""
        mark = f"TYDZEN_DATA_DIR={self.data_dir}\0".encode()
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                # Valkey writes its title over its environment; it works in the data directory.
                if mark in (path / "environ").read_bytes() or (path / "cwd").readlink() == self.data_dir:
                    found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        return found

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


@pytest.fixture
def up(tmp_path):
    made = Up(tmp_path)
    yield made
    for pid in made.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if made.process is not None:
        made.process.wait()


@pytest.mark.slow
def test_it_runs_everything_restarts_what_dies_and_ends_without_a_trace(up):
    up.environment["TYDZEN_INBOUND_URL"] = f"lmtp://127.0.0.1:{free_port()}?address=leave@weekly.example.org"
    up.start()
    up.wait_for("run tydzen inbound beside this")
    with urllib.request.urlopen(f"http://127.0.0.1:{up.port}/readyz", timeout=60) as answer:
        assert answer.status == 200
    running = " ".join(up.processes().values())
    for part in ("valkey-server", "service.embedded.inbox", "service.cli web", "-Q bulk", "-Q notices", "worker beat"):
        assert part in running

    site = next(pid for pid, command in up.processes().items() if "service.cli web" in command)
    os.kill(site, signal.SIGKILL)
    up.wait_for("site was killed (SIGKILL); starting it again")

    assert up.end(signal.SIGTERM) == 0
    assert up.processes() == {}
    assert "by force" not in up.said()
    assert not (up.data_dir / "valkey.sock").exists()
    assert "Traceback" not in up.said()


@pytest.mark.slow
def test_its_site_believes_the_proxies_that_it_was_told_of(up):
    up.start("--proxy", "--proxy-at", "127.0.0.2", "--proxy-at", "127.0.7.0/24")
    assert [asked(up.port, at) for at in ("127.0.0.1", "127.0.0.2", "127.0.7.9")] == [200, 404, 404]
    assert up.end(signal.SIGTERM) == 0


def test_nothing_is_left_when_it_is_killed(up):
    up.start()
    assert len(up.processes()) >= 7
    up.end(signal.SIGKILL)
    give_up = time.monotonic() + 90
    while left := up.processes():
        assert time.monotonic() < give_up, f"still there: {left}"
        time.sleep(0.05)


@pytest.mark.slow
def test_a_second_one_in_the_same_folder_is_refused_with_words(up):
    up.start()
    command = [sys.executable, "-m", "service.cli", "up"]
    second = subprocess.run(command, env=up.environment, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 5
    assert f"process {up.process.pid}" in second.stderr
    assert up.end(signal.SIGINT) == 0


@pytest.mark.parametrize("variable", ["TYDZEN_WEB_PORT", "TYDZEN_INBOX_PORT"])
def test_a_taken_port_is_named_with_its_setting_before_anything_is_started(up, variable):
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", int(up.environment[variable])))
        other.listen()
        command = [sys.executable, "-m", "service.cli", "up"]
        ended = subprocess.run(command, env=up.environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 5
    assert up.environment[variable] in ended.stderr
    assert variable in ended.stderr
    assert not (up.data_dir / "tydzen.sqlite3").exists()
