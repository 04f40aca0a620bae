"""Runs a command that ends with its parent: `python tied.py PARENT_PID COMMAND…`. Standard library only.

It becomes the command (exec), so its process id and exit code are the command's own.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def tied(command: Sequence[str]) -> list[str]:
    """`command` as a child of this process that gets SIGTERM when this process is gone, even by SIGKILL.

    Only Linux knows such a bond; elsewhere the command outlives a parent that was killed. The bond is to the thread
    that starts the child: start it from the main one.
    """
    # Isolated and without site: the launcher needs nothing but the standard library, and starts in 15 ms.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Bind this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        # The parent may have died before the bond was made: then nobody would ever send the signal.
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  # no shell: the command is a list


if __name__ == "__main__":
    main()
