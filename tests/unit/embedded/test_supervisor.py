import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from service.embedded.supervisor import Program, Supervisor

LIVES = "import time; print('born', flush=True); time.sleep(60)"


def program(name: str, code: str, **options) -> Program:
    return Program(name, [sys.executable, "-S", "-c", textwrap.dedent(code)], **options)


@pytest.fixture
def run(tmp_path):
    """Runs stages until `until(line)` holds for a line that was said or echoed; returns exit code and all lines."""

    def running(*stages, until=lambda line: False, when_ready=lambda: None):
        lines = []

        def hear(line):
            lines.append(line)
            if until(line):
                os.kill(os.getpid(), signal.SIGTERM)

        code = Supervisor(stages, tmp_path / "logs", hear, hear, first_pause=0.01).run(when_ready)
        return code, lines

    return running


def test_a_stage_starts_when_the_one_before_is_ready_and_stops_before_it(run, tmp_path):
    ready, order = tmp_path / "ready", tmp_path / "order"
    leave = f"""
        import signal, sys, time, pathlib
        def end(*_):
            with open({str(order)!r}, "a") as file: file.write(NAME)
            sys.exit()
        signal.signal(signal.SIGTERM, end)
    """
    first = f"NAME = 'first '\n{textwrap.dedent(leave)}\ntime.sleep(0.2); pathlib.Path({str(ready)!r}).touch(); time.sleep(60)"
    second = f"NAME = 'second '\n{textwrap.dedent(leave)}\nprint('ready:', pathlib.Path({str(ready)!r}).exists(), flush=True); time.sleep(60)"
    code, lines = run(
        [program("first", first, ready=ready.exists)], [program("second", second)], until=lambda line: "ready:" in line
    )
    assert code == 0
    assert "second   | ready: True" in lines
    assert order.read_text() == "second first "


def test_one_that_is_killed_is_started_again_and_a_person_is_told(run):
    births = []

    def second_birth(line: str) -> bool:
        if "born" in line:
            births.append(line)
            kill_named(line)
        return len(births) > 1

    born = "import os, time; print('born', os.getpid(), flush=True); time.sleep(60)"
    code, lines = run([program("worker", born)], until=second_birth)
    assert code == 0
    assert any("worker was killed (SIGKILL); starting it again" in line for line in lines)


def kill_named(line: str) -> None:
    os.kill(int(line.rsplit(" ", 1)[1]), signal.SIGKILL)


def test_one_that_dies_at_once_again_and_again_is_given_up_and_its_log_named(run, tmp_path):
    code, lines = run([program("site", LIVES)], [program("worker", "raise SystemExit(3)")])
    assert code == 1
    assert sum("worker ended by itself (exit 3); starting it again" in line for line in lines) == 4
    assert f"giving up. What it said last is in {tmp_path / 'logs' / 'worker.log'}" in lines[-1]


def test_one_that_never_gets_ready_is_named_and_everything_is_stopped(run):
    code, lines = run([program("site", LIVES, ready=lambda: False, ready_seconds=0.3)])
    assert code == 1
    assert lines[-1].startswith("site was not ready within 0 s; its log: ")


def test_one_that_does_not_stop_in_time_is_ended_by_force(run):
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('born', flush=True); time.sleep(60)"
    )
    started = time.monotonic()
    code, lines = run([program("worker", stubborn, stop_seconds=0.3)], until=lambda line: "born" in line)
    assert code == 0
    assert lines[-1] == "worker is ended by force"
    assert time.monotonic() - started < 5


def test_ctrl_c_in_the_terminal_reaches_the_supervisor_alone(run):
    code, lines = run(
        [program("worker", "import os; print('group', os.getpgrp() == os.getpid(), flush=True)\n" + LIVES)],
        until=lambda line: "group" in line,
    )
    assert (code, lines[0]) == (0, "worker   | group True")


def test_logs_are_kept_in_files_that_only_the_owner_reads(run, tmp_path):
    run([program("worker", LIVES)], until=lambda line: "born" in line)
    log = tmp_path / "logs" / "worker.log"
    assert log.read_text() == "born\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_nothing_outlives_a_supervisor_that_is_killed(tmp_path):
    code = textwrap.dedent(
        f"""
        import sys
        from pathlib import Path
        from service.embedded.supervisor import Program, Supervisor
        child = [sys.executable, "-c", "import os, time; print('born', os.getpid(), flush=True); time.sleep(60)"]
        Supervisor([[Program("worker", child)]], Path({str(tmp_path)!r}), print, lambda line: print(line, flush=True)).run()
        """
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = Path("/proc") / supervisor.stdout.readline().rsplit(" ", 1)[1].strip()
    assert child.exists()
    supervisor.kill()
    supervisor.communicate()
    give_up = time.monotonic() + 30
    while child.exists():
        assert time.monotonic() < give_up, "a child outlived its supervisor"
        time.sleep(0.01)
