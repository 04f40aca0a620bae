"""A sweep in a process that is armed, begun anew at once when it dies. `python -m tests.chaos.sweeper --every 0.3`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time

from service.bootstrap import preload, services
from tests.chaos.arming import arm_by_environment


def sweep(every: float) -> None:
    parts = services()
    while True:
        started = time.monotonic()
        try:
            parts.sweep.run()
        except Exception as error:
            print(f"sweep failed: {type(error).__name__}: {error}", file=sys.stderr)
        time.sleep(max(0.0, every - (time.monotonic() - started)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=float, default=0.3)
    every = parser.parse_args().every
    preload(services())
    arm_by_environment()
    while True:
        child = os.fork()
        if not child:
            sweep(every)
        signal.signal(signal.SIGTERM, lambda *_, child=child: (os.kill(child, signal.SIGKILL), os._exit(0)))
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
