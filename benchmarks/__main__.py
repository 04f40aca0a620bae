"""`make bench`: every row of the table in docs/performance.md, in one run, as Markdown at the end.

    python -m benchmarks [--only end-to-end,freeze] [--scale 0.1] [--repeat 3]

`--scale` makes all mailings smaller by that factor, for a trial. What is told of repeated rows is the run with the
median ratio to its peer. Other parts are measured by themselves: `benchmarks.wire` (encodings), `benchmarks.inside`
(threads of one process), `benchmarks.subscribers` (imports).
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import freezing, parts, roundtrips, sending, web
from benchmarks.table import Row, markdown

MEASURES: dict[str, Callable[[float, int], list[Row]]] = {
    "end-to-end": sending.end_to_end,
    "round-trips": roundtrips.measure,
    "freeze": freezing.freeze,
    "million": sending.million,
    "sealed": freezing.sealed,
    "sqlite": sending.sqlite,
    "workers": sending.workers,
    "price": sending.price,
    "growth": sending.growth,
    "rates": sending.rates,
    "web": web.measure,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(MEASURES), help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(MEASURES)
    if unknown:
        parser.error(f"there is no measure named {', '.join(sorted(unknown))}; there are {', '.join(MEASURES)}")
    os.environ["PATH"] += ":/usr/sbin"
    if not Path(parts.SMTP_SOURCE).exists() or not shutil.which("cc"):
        print("smtp-source (Postfix) and a C compiler are needed to compare", file=sys.stderr)
        return 1
    rows: list[Row] = []
    for name in options.only.split(","):
        print(f"\n=== {name}", flush=True)
        found = MEASURES[name](options.scale, options.repeat)
        print("\n".join(row.markdown() for row in found), flush=True)
        rows += found
    command = f"python -m benchmarks {' '.join(sys.argv[1:])}".strip()
    print("\n" + markdown(rows, command))
    return 0


if __name__ == "__main__":
    sys.exit(main())
