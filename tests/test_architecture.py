"""The house itself: sizes, names, floors, and that what the documents promise is what the tools do."""

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from service import queue
from service.render.notice import notice_kinds

PROJECT = Path(__file__).resolve().parents[1]
SERVICE = sorted((PROJECT / "service").rglob("*.py"))
LONGEST = 400
# Named after a role and not after a thing, a file has no reason to stop growing.
ROLES = {"utils", "util", "helpers", "helper", "manager", "service", "common", "misc", "base"}


def name(path):
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", SERVICE, ids=name)
def test_a_file_stays_within_its_room(path):
    assert len(path.read_text().splitlines()) <= LONGEST


@pytest.mark.parametrize("path", SERVICE, ids=name)
def test_a_file_is_named_after_a_thing(path):
    assert path.stem not in ROLES


@pytest.mark.parametrize("path", [path for path in SERVICE if path.read_text().strip()], ids=name)
def test_a_module_says_what_it_is_for(path):
    opener = ast.get_docstring(ast.parse(path.read_text()))
    assert opener, "no opener"
    assert len(opener.splitlines()) <= 12


def test_no_floor_is_broken():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports")], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_every_job_name_has_a_task_and_every_task_a_name():
    tree = ast.parse((PROJECT / "service" / "jobs.py").read_text())
    tasks = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and getattr(decorator.func, "id", "") == "shared_task":
                    (keyword,) = decorator.keywords
                    tasks.add(getattr(queue, keyword.value.attr))
                    length = node.end_lineno - node.lineno
                    assert length <= 15, f"task {node.name} holds logic"
    assert tasks == set(queue.JOB_NAMES)


def test_every_notice_has_its_three_files():
    for kind in notice_kinds():
        folder = PROJECT / "templates" / "notices" / kind
        assert {path.name for path in folder.iterdir()} == {"subject.txt", "body.mjml.j2", "body.txt.j2"}


def test_every_notice_that_is_sent_has_a_template():
    sources = "\n".join(path.read_text() for path in (PROJECT / "service" / "delivery").glob("*.py"))
    sent = set(re.findall(r'^(?:ISSUE_BLOCKED|SLOT_MISSED|MAILING_TROUBLE) = "([a-z-]+)"', sources, re.MULTILINE))
    assert len(sent) == 3
    readers = (PROJECT / "service" / "domain" / "reader_notices.py").read_text()
    sent |= set(re.findall(r'^[A-Z]+ = "([a-z-]+)"', readers, re.MULTILINE))
    signup = (PROJECT / "service" / "domain" / "signup.py").read_text()
    sent |= set(re.findall(r'^WELCOME = "([a-z-]+)"', signup, re.MULTILINE))
    assert len(sent) == 10
    assert sent <= set(notice_kinds())


def make_targets():
    text = (PROJECT / "Makefile").read_text()
    return {found: line for line in text.splitlines() for found in re.findall(r"^([a-z]+):", line)}


def fenced(document):
    text = (PROJECT / document).read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.split("#")[0].strip()]


def test_the_readmes_make_commands_are_the_makefiles():
    used = {line.split()[1] for line in fenced("README.md") if line.startswith("make ")}
    assert {"demo", "test"} <= used
    assert used <= set(make_targets())


@pytest.mark.parametrize("document", ["README.md", "docs/operations.md"])
def test_every_tydzen_command_of_the_documents_exists(document):
    text = (PROJECT / document).read_text()
    lines = fenced(document) + re.findall(r"`(tydzen [^`]*)`", text)
    commands = [line.partition("tydzen ")[2] for line in lines if re.match(r"(\.venv/bin/)?tydzen ", line)]
    assert commands
    known = command_tree()
    for command in commands:
        words = [word for word in shlex.split(command.replace("…", "")) if re.fullmatch(r"[a-z]+", word)]
        if not words:
            continue
        assert words[0] in known, command
        if known[words[0]]:
            assert words[1] in known[words[0]], command


def test_every_test_that_the_list_of_faults_names_exists():
    named = re.findall(r"`(tests/[a-z0-9_/]+\.py)::(test_[a-z0-9_]+)`", (PROJECT / "docs/faults.md").read_text())
    assert len(named) > 40
    for path, name in named:
        assert f"def {name}(" in (PROJECT / path).read_text(), f"{path}::{name}"


def command_tree():
    import typer.main

    from service.cli.app import app

    root = typer.main.get_command(app)
    return {name: set(getattr(command, "commands", ())) for name, command in root.commands.items()}


def test_the_commands_of_the_interface_are_all_there():
    tree = command_tree()
    promised = {
        "db": {"upgrade"},
        "publication": {"import"},
        "issue": {"import", "export", "list", "show", "check", "preview", "approve", "test", "send"},
        "mailing": {
            "reconcile",
            "status",
            "pause",
            "resume",
            "cancel",
            "retry",
            "rate",
            "list",
            "ledger",
            "uncertain",
            "resolve",
        },
        "subscriber": {"import", "export", "add", "show", "set", "erase", "suppress", "stats"},
        "schedule": {"show", "set", "skip"},
        "config": {"show"},
    }
    for noun, verbs in promised.items():
        assert verbs <= tree[noun], noun
    assert {"explain", "up", "doctor"} <= set(tree)


def test_ci_runs_the_readmes_test_command():
    run = (PROJECT / ".ci" / "run").read_text().splitlines()
    assert {"make test", "make slow", "make check"} <= set(run)


def test_locks_are_hashed_and_name_no_index():
    for path in (PROJECT / "requirements").glob("*.txt"):
        text = path.read_text()
        assert "--hash=sha256:" in text
        assert "index-url" not in text
        assert "://" not in text


def test_the_locks_hold_every_dependency_of_the_project():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    service = (PROJECT / "requirements" / "service.txt").read_text().lower()
    test = (PROJECT / "requirements" / "test.txt").read_text().lower()
    for lock, wanted in ((service, project["dependencies"]), (test, project["optional-dependencies"]["test"])):
        for requirement in wanted:
            package = re.match(r"[A-Za-z0-9_.-]+", requirement)[0].lower()
            assert re.search(rf"^{re.escape(package)}(\[[a-z]+\])?==", lock, re.MULTILINE), package


def test_no_path_of_one_machine_is_in_the_project():
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True)
    for listed in done.stdout.splitlines():
        path = PROJECT / listed
        if path.suffix in {".png", ".txt"} or not path.exists() or path == Path(__file__):
            continue
        text = path.read_text(errors="replace")
        assert not re.search(r"(?<![\w.])/(work|root)/", text), listed
