"""That the clock of these tests is what it says, and shows what it is set to in a process that runs already."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tests.chaos.clocks import WallClock, hindrance

SHOWN = """
import datetime, sys, time
for _ in sys.stdin:
    print(time.time(), datetime.datetime.now(datetime.UTC).timestamp(), time.monotonic(), flush=True)
"""


def test_a_wall_clock_is_set_and_stopped_in_a_process_that_runs_and_no_other_clock_is(tmp_path):
    why = hindrance()
    if why:
        pytest.skip(why)
    clock = WallClock(tmp_path)
    command = [*clock.within, sys.executable, "-c", SHOWN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:

        def seen():
            process.stdin.write("\n")
            wall, date, steady = map(float, process.stdout.readline().split())
            assert date == pytest.approx(wall, abs=0.5)
            assert steady == pytest.approx(time.monotonic(), abs=5)
            return wall

        def ahead():
            return seen() - time.time()

        assert ahead() == pytest.approx(0, abs=5)
        clock.step(86_400)
        assert ahead() == pytest.approx(86_400, abs=5)
        clock.step(-2 * 86_400)
        assert ahead() == pytest.approx(-86_400, abs=5)
        clock.stop()
        assert seen() == seen()
        clock.step(30)
        assert seen() < seen()
        clock.set_right()
        assert ahead() == pytest.approx(0, abs=5)
        process.stdin.close()
