"""The site: requests a second for an issue's page by one process, asked by wrk on lasting connections."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from benchmarks import parts
from benchmarks.parts import Usage
from benchmarks.table import Row
from service import bootstrap
from service.domain.content import Issue, TextStatus
from service.domain.mailing import MailingState
from service.domain.weeks import Week
from service.editorial.issue_folder import read_issue
from service.editorial.publication_file import read_publication
from service.store import issues, mailings, publication

_PROJECT = Path(__file__).resolve().parents[1]
_WEEK = Week.parse("2019-W22")
_CONNECTIONS = 32


def measure(scale: float, repeat: int) -> list[Row]:
    """The page itself, and the answer to who has it already; the run with the median rate."""
    if not shutil.which("wrk"):
        return [Row("site: an issue's page, one process", "≥ 2,000/s", "not measured: wrk is not installed")]
    seconds = max(2, round(10 * min(scale, 3.0)))
    with tempfile.TemporaryDirectory(prefix="tydzen-bench-") as folder:
        port = parts.free_port()
        _fill(Path(folder), port)
        command = [sys.executable, "-m", "service.cli", "web"]
        with (Path(folder) / "log").open("wb") as log, subprocess.Popen(command, cwd=_PROJECT, stderr=log) as server:
            try:
                page = f"http://127.0.0.1:{port}/be/issues/{_WEEK}/"
                octets, tag = _ready(page)
                runs = [_run(server.pid, page, seconds) for _ in range(repeat)]
                known = [_run(server.pid, page, seconds, f"If-None-Match: {tag}") for _ in range(repeat)]
            finally:
                server.terminate()
    return [
        _row(f"site: an issue's page of {octets / 1024:.1f} KiB, one process", "≥ 2,000/s", runs),
        _row("site: the same for who has it already (304)", "–", known),
    ]


def _fill(folder: Path, port: int) -> None:
    """An installation on SQLite with the sample issue, released; the settings of this process point to it."""
    for name in [name for name in os.environ if name.startswith("TYDZEN_")]:
        del os.environ[name]
    base = f"http://127.0.0.1:{port}"
    os.environ.update({"TYDZEN_DATA_DIR": str(folder), "TYDZEN_WEB_PORT": str(port), "TYDZEN_BASE_URL": base})
    services = bootstrap.services()
    services.upgrade_database()
    now, weekly = services.clock.now(), read_publication(_PROJECT / "examples")
    with services.database.begin() as session:
        publication.save(session, weekly, now)
        issues.save(session, _approved(read_issue(_PROJECT / "examples" / "issues" / str(_WEEK), weekly)), now)
        mailings.create(
            session,
            str(_WEEK),
            state=MailingState.SENT,
            now=now,
            rate=None,
            audience="all",
            actor="bench",
            release_at=None,
        )
    services.database.close()


def _approved(issue: Issue) -> Issue:
    articles = tuple(
        dataclasses.replace(
            article,
            texts={code: dataclasses.replace(text, status=TextStatus.APPROVED) for code, text in article.texts.items()},
        )
        for article in issue.articles
    )
    return dataclasses.replace(issue, articles=articles)


def _ready(page: str) -> tuple[int, str]:
    """The size of the page and its tag, when the site has come up."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(page) as answer:
                return len(answer.read()), str(answer.headers["ETag"])
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _run(pid: int, page: str, seconds: int, *headers: str) -> tuple[float, float, Usage]:
    """Requests a second, the CPU of the site per request in µs, its use at the end."""
    wanted = [word for header in headers for word in ("-H", header)]
    before = parts.usage(pid)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", *wanted, page], check=True, capture_output=True, text=True
    )
    after = parts.usage(pid)
    assert "Non-2xx" not in done.stdout, done.stdout
    assert "Socket errors" not in done.stdout, done.stdout
    told = re.search(r"(\d+) requests in .*Requests/sec:\s*([\d.]+)", done.stdout, re.DOTALL)
    assert told, done.stdout
    return float(told[2]), (after.cpu - before.cpu) / int(told[1]) * 1e6, after


def _row(what: str, must: str, runs: list[tuple[float, float, Usage]]) -> Row:
    rate, cpu, used = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
    return Row(what, must, f"{rate:,.0f}/s", f"{cpu:.0f} µs (per request)", f"{used.megabytes:.0f} MB")
