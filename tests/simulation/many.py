"""Many seeds in a few processes, and the table that sums them up; then orders of events against the tables of states."""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import structlog

from tests.simulation import substitutes
from tests.simulation.facts import Result
from tests.simulation.mutants import MUTANTS, found_after
from tests.simulation.orders import examine
from tests.simulation.seed import PLANS, simulate
from tests.simulation.templates import Shelf

_SHARE = 50
_STEPS = 50
COLUMNS = (
    "workers", "crashes", "lone crashes", "power cuts", "wake-ups", "graceful stops", "hints lost", "hints twice",
    "hints forged", "commits lost", "commits unknown", "database away", "pace away", "goodbyes", "second mailings",
    "corrections", "refused corrections", "cancelled and retried", "sweeps", "letters", "taken", "uncertain",
)  # fmt: skip


def quiet() -> None:
    """Let nothing of the code under test be logged."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


def telling() -> None:
    """Have the code under test log into the story of its seed."""

    def tell(_logger, _name, event):
        world = substitutes.now.world
        who = world.current.name if world.current else "log"
        named = " ".join(f"{key}={value}" for key, value in event.items() if key not in {"event", "part"})
        world.tell(who, f"{event.get('part')}: {event['event']} {named}")
        raise structlog.DropEvent

    structlog.configure(processors=[tell], wrapper_class=structlog.make_filtering_bound_logger(10))


def run_seeds(seeds: Iterable[int], shelf: Shelf) -> Iterator[Result]:
    """The result of each seed, in order."""
    gc.disable()
    try:
        for number, seed in enumerate(seeds):
            yield simulate(seed, shelf)
            if number % _SHARE == _SHARE - 1:
                gc.collect()
    finally:
        gc.enable()


_shelf: Shelf | None = None


def _share(seeds: range) -> tuple[Counter, list[tuple[int, list[str]]]]:
    counts: Counter = Counter()
    failed = []
    for result in run_seeds(seeds, _shelf):
        counts += result.counts
        counts["seeds"] += 1
        if result.violations:
            failed.append((result.seed, result.violations))
    return counts, failed


def _orders(seed: int) -> tuple[int, str | None]:
    """That many orders of events, which the number decides; what was wrong, and how to bring it about."""
    try:
        examine(_shelf, _SHARE, _STEPS, seed)
    except Exception:  # whatever the engine or the oracle raised: `_all` tells it beside its number, and fails
        return seed, traceback.format_exc()
    return seed, None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--orders", type=int, default=5_000, help="orders of events that the tables are held against")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, help="run this one alone and tell its story")
    parser.add_argument(
        "--mutants",
        nargs="*",
        choices=MUTANTS,
        metavar="NAME",
        help="put errors into the engine, all or those that are named, and tell when each is found",
    )
    asked = parser.parse_args()
    global _shelf  # noqa: PLW0603  # what the processes of the pool inherit
    with substitutes.substituted():
        quiet()
        _shelf = Shelf()
        if asked.seed is not None:
            return _one(asked.seed)
        if asked.mutants is not None:
            return _mutants(asked.mutants or list(MUTANTS), min(asked.seeds, 2000))
        for plan in PLANS:
            for planned in (True, False):
                _shelf.template(plan, planned=planned)
        gc.collect()
        gc.freeze()
        shares = [
            range(first, min(first + _SHARE, asked.start + asked.seeds))
            for first in range(asked.start, asked.start + asked.seeds, _SHARE)
        ]
        orders = range(asked.start, asked.start + -(-asked.orders // _SHARE))
        return _all(shares, orders, asked.jobs)


def _one(seed: int) -> int:
    telling()
    result = simulate(seed, _shelf)
    for when, who, what in result.story:
        print(f"{when:12.4f}  {who:10}  {what}")
    for violation in result.violations:
        print("VIOLATION", violation)
    print("seed", seed, "failed" if result.violations else "kept the promise")
    return bool(result.violations)


def _mutants(names: Sequence[str], most: int) -> int:
    missed = 0
    for name in names:
        found = found_after(name, _shelf, most)
        missed += found is None
        print(
            f"{name:24} " + (f"seed {found[0]:>5}: {found[1]}" if found else f"not found in {most} seeds"), flush=True
        )
    return bool(missed)


def _all(shares: list[range], orders: range, jobs: int) -> int:
    counts: Counter = Counter()
    failed: list[tuple[int, list[str]]] = []
    began, shown = time.monotonic(), time.monotonic()
    # A new process now and then: what a seed leaves in memory is not worth hunting for.
    with multiprocessing.get_context("fork").Pool(jobs, _shelf.after_fork, maxtasksperchild=40) as pool:
        for some, wrong in pool.imap_unordered(_share, shares):
            counts += some
            failed += wrong
            for seed, violations in wrong:
                print(f"seed {seed}: {'; '.join(violations)}", flush=True)
            if time.monotonic() - shown > 10:
                shown = time.monotonic()
                print(f"… {counts['seeds']} seeds, {len(failed)} failed", file=sys.stderr, flush=True)
        disordered = [found for found in pool.imap_unordered(_orders, orders) if found[1] is not None]
    for name in ("seeds", *COLUMNS):
        print(f"{name:22} {counts[name]:>12,}")
    print(f"{'violations':22} {len(failed):>12,}")
    print(f"{'orders of events':22} {len(orders) * _SHARE:>12,}")
    print(f"{'seconds':22} {time.monotonic() - began:>12,.0f}")
    for seed, _ in sorted(failed)[:20]:
        print(f"repeat with: python -m tests.simulation --seed {seed}")
    for seed, words in disordered:
        print(f"orders {seed}:\n{words}\nrepeat with: python -m tests.simulation --seeds 0 --orders 1 --start {seed}")
    return bool(failed or disordered)
