"""`make bench`: the wire, the whole run, set rates, and the store of subscribers, one after the other."""

from __future__ import annotations

import subprocess
import sys

PARTS = (
    ["benchmarks.wire"],
    ["benchmarks.sending"],
    ["benchmarks.sending", "--rates"],
    ["benchmarks.subscribers"],
)

for part in PARTS:
    print(f"\n=== {' '.join(part)}", flush=True)
    subprocess.run([sys.executable, "-m", *part], check=True)
