"""Planning a large mailing without any worker, and opening sealed addresses."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path

import sqlalchemy as sa

from benchmarks import parts
from benchmarks.installation import installation
from benchmarks.table import Row
from service.delivery import progress
from service.embedded import valkey
from service.store.tables import subscribers


def freeze(scale: float, _repeat: int) -> list[Row]:
    """A million readers into deliveries and batches: seconds by the clock, and the memory of those who do it."""
    readers = max(10_000, round(1_000_000 * scale))
    with installation("postgresql", parts.free_port()) as made:
        made.fill(readers)
        with valkey.running(made.folder):
            number = made.release()
            assert made.server is not None
            Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
            before, busy = parts.usage(os.getpid()).megabytes, time.process_time()
            server_busy = parts.usage_of_all(made.server).cpu
            started = time.perf_counter()
            with parts.largest(made.server) as largest:
                assert made.services.planner.plan(number)
                seconds = time.perf_counter() - started
                server = largest()
            busy = time.process_time() - busy
            server_busy = parts.usage_of_all(made.server).cpu - server_busy
            after = parts.usage(os.getpid()).megabytes
        with made.services.database.look() as session:
            query_started = time.perf_counter()
            assert progress.status(session, number).counts.pending == readers
            asked = time.perf_counter() - query_started
    memory = f"planner {after:.0f} MB ({after - before:+.0f}), one of PostgreSQL {server:.0f} MB of its own"
    used = f"CPU: planner {busy:.1f} s, PostgreSQL {server_busy:.1f} s"
    measured = f"{seconds:.1f} s ({used}); the query behind `mailing status` then {asked * 1000:.1f} ms"
    return [Row(f"freeze {readers} readers (PostgreSQL)", "≤ 10 s, memory flat", measured, "", memory)]


def sealed(scale: float, repeat: int) -> list[Row]:
    """CPU per address to open; all of them once, the median of the repetitions."""
    readers = max(3_000, round(100_000 * min(scale, 1.0)))
    with installation("sqlite", parts.free_port()) as made:
        made.fill(readers)
        with made.services.database.read() as session:
            found = session.execute(sa.select(subscribers.c.id, subscribers.c.sealed))
            rows = [(row.id, row.sealed) for row in found]
        unseal = made.services.sealer.open
        taken = []
        for _ in range(repeat):
            started = time.process_time()
            for row_id, blob in rows:
                unseal(row_id, blob)
            taken.append((time.process_time() - started) / len(rows) * 1e6)
    return [Row(f"opening a sealed address, {readers} of them", "≤ 5 µs", f"{statistics.median(taken):.2f} µs")]
