"""docker-compose.yml, held to its promises; and each service's own command and environment run against real servers."""

import contextlib
import json
import os
import re
import signal
import smtplib
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import pytest
import yaml

from benchmarks import parts
from service.config import Settings, load
from service.embedded.programs import PROJECT
from tests.imap_server import imap_server
from tests.servers import free_port, inbox_server, valkey_server, wait_for_port

SET = {"POSTGRES_PASSWORD": "secret", "TYDZEN_SMTP_URL": "smtp://relay.example.org:587"}
OURS = ("migrate", "web", "inbound", "worker", "notices", "beat")
# What is not for `.env` to say: compose.yml says where these are, and the local inbox is for trying things out.
FIXED = {"DATA_DIR", "DATABASE_URL", "REDIS_URL", "INBOX_PORT", "WEB_HOST", "WEB_PORT"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolated(text: str, values: dict[str, str]) -> str:
    """As compose does it: `${A:-default}`, `${A:?message}`."""

    def value(match: re.Match) -> str:
        name, kind, rest = match.groups()
        if values.get(name):
            return values[name]
        assert kind != "?", f"{name}: {rest}"
        return rest or ""

    return _VARIABLE.sub(value, text)


def compose(**values: str) -> dict:
    """The file as compose reads it: parsed first, then filled in."""

    def filled(node):
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [filled(value) for value in node]
        return interpolated(node, {**SET, **values}) if isinstance(node, str) else node

    return filled(yaml.safe_load((PROJECT / "docker-compose.yml").read_text()))


@pytest.fixture(scope="module")
def services():
    return compose()["services"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_no_rights_and_write_to_nothing_but_the_volume(services, name):
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["volumes"] == ["data:/data", "./keys:/keys:ro"]
    assert service["tmpfs"] == ["/tmp"]


def test_the_image_runs_as_a_user_without_rights_and_holds_no_tools_to_build():
    stages = (PROJECT / "Dockerfile").read_text().split("\nFROM ")
    final = stages[-1]
    assert "\nUSER tydzen" in final
    # The image that it is made from brings pip.
    assert "\nRUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3.13/site-packages/pip*" in final
    assert "pip install" not in final
    assert "apt" not in final
    assert "--require-hashes" in stages[-2]


@pytest.mark.parametrize("name", ["worker", "notices"])
def test_a_worker_has_the_time_that_a_reply_to_the_final_dot_may_take(services, name):
    assert services[name]["stop_grace_period"] == "640s"
    assert services[name]["init"] is True


def test_more_workers_can_be_added(services):
    assert "container_name" not in services["worker"]
    assert "ports" not in services["worker"]
    assert services["worker"]["command"][-3:] == ["-Q", "bulk", "--concurrency=2"]
    assert "notices" in services["notices"]["command"]


def test_valkey_forgets_nothing_it_needs_and_keeps_nothing_on_disk(services):
    command = services["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert (options["--save"], options["--appendonly"]) == ("", "no")
    assert "volumes" not in services["valkey"]


def test_database_and_broker_are_reached_from_inside_only():
    found = compose()
    assert found["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "valkey"):
        assert found["services"][name]["networks"] == ["inside"]
        assert "ports" not in found["services"][name]
        assert "healthcheck" in found["services"][name]
    assert found["services"]["web"]["ports"] == ["127.0.0.1:8000:8000"]
    assert set(found["volumes"]) == {"database", "data"}


def test_no_secret_stands_in_the_file_and_a_missing_one_is_asked_for():
    assert "secret" not in (PROJECT / "docker-compose.yml").read_text().lower().replace("secret_key", "")
    with pytest.raises(AssertionError, match="POSTGRES_PASSWORD"):
        compose(POSTGRES_PASSWORD="")


def test_every_setting_of_the_env_file_reaches_our_containers():
    fields = {name.upper() for name in Settings.model_fields} - FIXED
    values = {f"TYDZEN_{name}": f"value of {name}" for name in fields}
    made = compose(**values)["services"]
    for name in OURS:
        assert values.items() <= made[name]["environment"].items(), name


def test_what_is_not_set_has_its_default(services, monkeypatch):
    for name, value in services["worker"]["environment"].items():
        monkeypatch.setenv(name, value)
    found = load()
    assert found.model_fields_set == {"database_url", "redis_url", "smtp_url", "log_json", "data_dir"}


def test_postgresql_is_waited_for_until_it_takes_connections_of_others(services):
    # When it is new, it first listens on its Unix socket alone.
    assert "--host=127.0.0.1" in services["postgres"]["healthcheck"]["test"]


def test_postgresql_has_the_memory_that_the_benchmarks_give_it_or_what_the_env_file_says(services):
    assert services["postgres"]["command"] == ["postgres", "-c", f"shared_buffers={parts.SHARED_BUFFERS}"]
    assert "shared_buffers=2GB" in compose(POSTGRES_SHARED_BUFFERS="2GB")["services"]["postgres"]["command"]


def test_everything_waits_for_the_schema(services):
    for name in set(OURS) - {"migrate"}:
        assert services[name]["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
    assert services["migrate"]["restart"] == "no"


class Installation:
    """The services' own commands and environments, with hosts, ports and the volume put in place of compose's."""

    def __init__(self, folder: Path, database_url: str, redis_url: str, smtp_url: str) -> None:
        self.services = compose(TYDZEN_SMTP_URL=smtp_url)["services"]
        self.folder, self.web_port = folder, free_port()
        self._places = {
            "postgresql+psycopg://tydzen:secret@postgres:5432/tydzen": database_url,
            "redis://valkey:6379/0": redis_url,
            "/data": str(folder),
            "0.0.0.0": "127.0.0.1",
            "8000": str(self.web_port),
        }
        self.running: dict[str, subprocess.Popen] = {}

    def environment(self, service: str) -> dict[str, str]:
        own = {name: self._places.get(value, value) for name, value in self.services[service]["environment"].items()}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TYDZEN_")}
        return {**kept, "PYTHONPATH": str(PROJECT), "TYDZEN_DATA_DIR": str(self.folder), **own}

    def command(self, words: list[str]) -> list[str]:
        program = {"tydzen": [sys.executable, "-m", "service.cli"], "celery": [sys.executable, "-m", "celery"]}
        words = [word.replace("127.0.0.1:8000", f"127.0.0.1:{self.web_port}") for word in words]
        return [*program.get(words[0], [sys.executable]), *words[1:]]

    def run(self, service: str, words: list[str]) -> subprocess.CompletedProcess:
        """As `docker compose run SERVICE WORDS`."""
        ended = subprocess.run(
            self.command(words),
            env=self.environment(service),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ended.returncode == 0, f"{words}: {ended.stderr}"
        return ended

    def up(self, service: str, number: int = 1) -> None:
        with (self.folder / f"{service}-{number}.log").open("wb") as log:
            self.running[f"{service}-{number}"] = subprocess.Popen(
                self.command(self.services[service]["command"]),
                env=self.environment(service),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture
def installation(tmp_path, postgresql):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    name = f"compose_{uuid.uuid4().hex[:12]}"
    with inbox_server(tmp_path / "inbox") as inbox, valkey_server(tmp_path / "valkey", tcp=True) as valkey:
        made = Installation(folder, postgresql.create(name, "template1"), valkey.url, inbox.url)
        made.inbox = inbox
        yield made
        for process in made.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    postgresql.drop(name)


@pytest.mark.slow
def test_its_own_commands_send_an_issue_with_two_workers_on_postgresql(installation):
    installation.run("migrate", installation.services["migrate"]["command"])
    for service, number in (("web", 1), ("worker", 1), ("worker", 2), ("notices", 1), ("beat", 1)):
        installation.up(service, number)
    wait_for_port(installation.web_port, installation.running["web-1"], 60)
    check = installation.services["web"]["healthcheck"]["test"]
    installation.run("web", check[1:])

    readers = installation.folder / "readers.csv"
    chains = ("be", "be,ru", "ru", "en,be", "en")
    readers.write_text("email,languages\n" + "".join(f'r{n}@example.test,"{chains[n % 5]}"\n' for n in range(60)))
    for words in (
        ["publication", "import", str(PROJECT / "examples")],
        ["issue", "import", str(PROJECT / "examples" / "issues" / "2019-W22")],
        ["issue", "approve", "2019-W22"],
        ["subscriber", "import", str(readers)],
    ):
        installation.run("worker", ["tydzen", *words])
    made = json.loads(installation.run("worker", ["tydzen", "issue", "send", "2019-W22", "--yes", "--json"]).stdout)
    found = watched(installation, made["mailing"])

    assert (found["state"], found["planned"], found["accepted"]) == ("sent", 60, 60)
    assert len(installation.inbox.mails()) == 60
    with urllib.request.urlopen(f"http://127.0.0.1:{installation.web_port}/be/issues/2019-W22/", timeout=60) as page:
        assert page.status == 200
    installation.run("worker", ["tydzen", "doctor"])
    ended(installation)


LEAVE = f"leave+{'A' * 48}@weekly.example.org"


def taken_over_lmtp(port: int) -> bool:
    with contextlib.suppress(OSError), smtplib.LMTP("127.0.0.1", port) as client:
        return client.sendmail("", LEAVE, b"Subject: unsubscribe\r\n\r\n") == {}
    return False


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lmtp", "imap"])
def test_its_own_command_takes_mails_to_unsubscribe_by_either_way(installation, kind):
    installation.run("migrate", installation.services["migrate"]["command"])
    with contextlib.ExitStack() as after:
        if kind == "lmtp":
            port = free_port()
            url = f"lmtp://127.0.0.1:{port}?address=leave@weekly.example.org"
        else:
            server = after.enter_context(imap_server())
            server.deliver(f"To: {LEAVE}\r\n\r\n".encode())
            url = server.url("leave@weekly.example.org")
        installation.services["inbound"] = compose(TYDZEN_INBOUND_URL=url)["services"]["inbound"]
        installation.up("inbound")
        give_up = time.monotonic() + 60
        while not (taken_over_lmtp(port) if kind == "lmtp" else server.count() == 0):
            assert time.monotonic() < give_up, installation.log("inbound-1")
            time.sleep(0.1)
        ended(installation)


def watched(installation: Installation, mailing: int) -> dict:
    give_up = time.monotonic() + 120
    while True:
        status = installation.run("worker", ["tydzen", "mailing", "status", str(mailing), "--json"])
        found = json.loads(status.stdout)
        if found["state"] == "sent":
            return found
        assert time.monotonic() < give_up, f"{found}\n{installation.log('worker-1')}"


def ended(installation: Installation) -> None:
    """SIGTERM, as `docker compose stop` sends it: each ends by itself and without a traceback."""
    for process in installation.running.values():
        process.send_signal(signal.SIGTERM)
    for name, process in installation.running.items():
        # Python and beat end by the signal itself or with 0; what counts is that nobody had to be killed.
        assert process.wait(60) in {0, -signal.SIGTERM}, f"{name}: {installation.log(name)}"
        assert "Traceback" not in installation.log(name), name
