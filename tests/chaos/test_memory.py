"""The group itself: the kernel kills in it, and nobody beside it, until its bound is lifted."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.chaos.memory import group, hindrance

MEGABYTE = 1 << 20
GREEDY = f"import sys; sys.stdin.read(1); kept = b'x' * {32 * MEGABYTE}"


@pytest.mark.parametrize("bounded", [True, False])
def test_who_wants_more_than_its_group_may_have_is_killed(bounded):
    why = hindrance()
    if why:
        pytest.skip(why)
    with group() as made, subprocess.Popen([sys.executable, "-ISc", GREEDY], stdin=subprocess.PIPE) as process:
        made.bound(8 * MEGABYTE)
        made.take_in([process.pid])
        assert made.members() == [process.pid]
        if not bounded:
            made.lift()
        process.communicate(b"x", timeout=60)
        assert process.returncode == (-signal.SIGKILL if bounded else 0)
        assert made.kills == bounded
