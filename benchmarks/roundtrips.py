"""How well a slow line is used: letters per round trip of 20 ms, on one connection and on twenty."""

from __future__ import annotations

import socket
import statistics
import sys
import time

from benchmarks import parts
from benchmarks.sending import fast_sink
from benchmarks.table import Row
from benchmarks.wire import measure_wire, rendition

_MILLISECONDS = 20


def round_trip(port: int) -> float:
    """Seconds between a command and its reply, the median of some: the proxy's clock is not exact."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        file = one.makefile("rwb")
        file.readline()
        taken = []
        for _ in range(50):
            started = time.perf_counter()
            file.write(b"NOOP\r\n")
            file.flush()
            file.readline()
            taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def measure(scale: float, _repeat: int) -> list[Row]:
    """PIPELINING, CHUNKING, and twenty connections."""
    letters = max(100, round(500 * min(scale, 4.0)))
    target, port, frozen = parts.free_port(), parts.free_port(), rendition()
    proxy = [sys.executable, "-m", "benchmarks.proxy", str(port), str(target), str(_MILLISECONDS)]
    with parts.sink([fast_sink(), str(target)], target), parts.sink(proxy, port):
        real = round_trip(port)
        one = measure_wire("", port, letters, frozen, 0, connections=1)
        chunked = measure_wire("", port, letters, frozen, 4, connections=1)
        twenty = measure_wire("", port, letters * 20, frozen, 0, connections=20)
    nominal = f"a round trip of {real * 1000:.1f} ms"
    return [
        Row(f"one connection, PIPELINING, {nominal}", "≥ 0.95 letter a round trip", f"{one.rate * real:.2f}"),
        Row(f"one connection, CHUNKING, {nominal}", "≥ 3 letters a round trip", f"{chunked.rate * real:.2f}"),
        Row(
            f"twenty connections, PIPELINING, {nominal}",
            "≥ 15 × one",
            f"{twenty.rate:.0f}/s against {one.rate:.0f}/s = {twenty.rate / one.rate:.1f} ×",
        ),
    ]
