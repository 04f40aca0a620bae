"""The flag that tells a worker's children to stop."""

import os
import signal
import time

import pytest

from service.delivery.stopping import StopFlag


def fork(work):
    pid = os.fork()
    if not pid:
        try:
            os._exit(work())
        finally:
            os._exit(99)
    return pid


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_children_see_what_their_parent_sets_though_others_died_while_they_looked():
    flag = StopFlag()

    def look_for_ever():
        while True:
            flag.is_set()

    def wait():
        give_up = time.monotonic() + 60
        while not flag.is_set():
            if time.monotonic() > give_up:
                return 1
        return 0

    dying = [fork(look_for_ever) for _ in range(5)]
    time.sleep(0.05)
    for pid in dying:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    waiting = fork(wait)

    flag.set()

    assert os.waitpid(waiting, 0)[1] == 0
    assert flag.is_set()
