"""`tydzen web` and `tydzen up` behind a reverse proxy: for whom it asks is believed of that proxy alone."""

import http.client
import os
import subprocess
import sys

import pytest

from service.embedded.programs import PROJECT
from tests.servers import free_port, wait_for_port

READER = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}


@pytest.fixture
def site(tmp_path, sqlite_template):
    """Starts `tydzen web` with options; what asks it from an address of this machine, in the name of a reader."""
    from service.embedded.keyring_file import write_keyring
    from tests.conftest import KEYRING, sqlite_copy

    write_keyring(tmp_path / "secret.key", KEYRING)
    running = []

    def start(*options):
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TYDZEN_")}
        settings = {"DATA_DIR": tmp_path, "DATABASE_URL": sqlite_copy(sqlite_template, tmp_path), "WEB_PORT": port}
        environment |= {f"TYDZEN_{name}": str(value) for name, value in settings.items()}
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "service.cli", "web", *options],
                env={**environment, "PYTHONPATH": str(PROJECT)},
                cwd=tmp_path,
                stderr=subprocess.DEVNULL,
            )
        )
        wait_for_port(port, running[-1])
        return lambda address: asked(port, address)

    yield start
    for process in running:
        process.terminate()
        process.wait(60)


def asked(port, address):
    """The inbox is open to this machine alone, so its answer tells who the site takes for the one who asks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(address, 0))
    connection.request("GET", "/inbox/", headers=READER)
    status = connection.getresponse().status
    connection.close()
    return status


def test_a_proxy_is_believed_where_it_is_said_to_be_and_nobody_else(site):
    without, here, there = site(), site("--proxy"), site("--proxy-at", "127.0.0.2", "--proxy-at", "127.0.7.0/24")
    assert (without("127.0.0.1"), without("127.0.0.2")) == (200, 200)
    assert (here("127.0.0.1"), here("127.0.0.2")) == (404, 200)
    assert (there("127.0.0.1"), there("127.0.0.2"), there("127.0.7.9")) == (200, 404, 404)


@pytest.mark.parametrize("command", ["web", "up"])
@pytest.mark.parametrize("wrong", ["*", "proxy.example.org", "10.0.0.1/8"])
def test_a_proxy_that_is_no_address_and_no_network_is_refused(tmp_path, command, wrong):
    ended = subprocess.run(
        [sys.executable, "-m", "service.cli", command, "--proxy-at", wrong],
        env={**os.environ, "TYDZEN_DATA_DIR": str(tmp_path / "var")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert wrong in ended.stderr
    assert "172.16.0.0/12" in ended.stderr
    assert not (tmp_path / "var").exists()
