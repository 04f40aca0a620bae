"""A whole installation for tests: data directory, database, Valkey, sink, and real workers that may be killed.

with installed(tmp_path, database_url) as made:
    made.fill(readers=300, chains=CHAINS)
    made.start_worker()
    mailing = made.send("2019-W22")
    made.wait_until_sent(mailing)
    audit(made, mailing).complain()
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy as sa
from celery import Celery

from service.delivery import control, progress, release
from service.delivery.correcting import Proofreader
from service.domain.delivery import DeliveryState
from service.domain.tokens import DeliverySigner
from service.embedded.keyring_file import write_keyring
from service.mail.journal import KIND_DOT
from service.queue import CeleryBell, celery_settings
from service.store import Database, Sealer, issues, mailings, publication, subscribers
from service.store.tables import COUNTED, batches, deliveries
from tests.conftest import KEYRING
from tests.factories import CHAINS, MADE_AT, add_readers
from tests.servers import ValkeyServer
from tests.smtp_sink import Certificates, Entry, Rule, SmtpSink, read_ledger
from tests.unit.delivery.parts import PRESS
from tests.unit.render import samples

PROJECT = Path(__file__).resolve().parent.parent
_SIGNER = DeliverySigner(KEYRING)
# What is waited for may take so many times as long while other tests keep the machine busy.
BUSY = 3


@dataclass
class Worker:
    """One `celery worker` of an installation, in a process group of its own."""

    process: subprocess.Popen
    log: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def children(self) -> list[int]:
        """Its pool processes; not the sweep beside it."""
        return [pid for pid in _children(self.pid) if b"sweep" not in _command(pid)]

    def sweeps(self) -> list[int]:
        """The sweep beside it."""
        return [pid for pid in _children(self.pid) if b"sweep" in _command(pid)]

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def end(self, seconds: float = 20) -> int:
        """A warm shutdown, as a supervisor asks for; its exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        """SIGKILL for the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, path.read_text().split())
    return found


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class SinkProcess:
    """The sink as a process of its own, for long runs."""

    def __init__(self, folder: Path, rules: Iterable[Rule] = (), *, hide: Iterable[str] = ()) -> None:
        self.ledger = folder / "ledger"
        self._rules = folder / "rules.json"
        names = [name for name in Rule.__slots__ if not name.startswith("_")]
        self._rules.write_text(json.dumps([{name: getattr(rule, name) for name in names} for rule in rules]))
        hidden = [word for name in hide for word in ("--hide", name)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.smtp_sink", "--ledger", self.ledger, "--rules", self._rules, *hidden],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PROJECT,
        )
        self.port = int(self._process.stdout.readline())

    def entries(self) -> list[Entry]:
        return read_ledger(self.ledger)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()


@dataclass
class Installation:
    """See the module's text. `sink` is in a thread of this process, unless it was asked for as one of its own."""

    folder: Path
    database: Database
    valkey: ValkeyServer
    sink: SmtpSink | SinkProcess
    environment: dict[str, str]
    workers: list[Worker] = field(default_factory=list)
    _others: list[subprocess.Popen] = field(default_factory=list)

    # Content

    def fill(self, readers: int = 0, *, chains: Sequence[str] = CHAINS, week: str = "2019-W22", prefix: str = "reader"):
        """The sample publication, the sample issue as that week's, and so many active readers; their addresses."""
        with self.database.begin() as session:
            if publication.find(session) is None:
                publication.save(session, samples.publication(), MADE_AT)
            issues.save(session, samples.issue(week=samples.Week.parse(week)), MADE_AT)
        return add_readers(self.database, readers, chains=chains, prefix=prefix)

    def fill_domain(self, domain: str, readers: int, *, chains: Sequence[str] = CHAINS):
        """So many more active readers, all at that domain; their addresses."""
        return add_readers(self.database, readers, chains=chains, prefix="at", domain=domain)

    # Commands

    def tydzen(self, *words: object, stdin: str | None = None, wants: int | None = 0) -> subprocess.CompletedProcess:
        """Run a command; `wants` is the exit code that is expected, None any."""
        done = subprocess.run(
            [sys.executable, "-m", "service.cli", *map(str, words)],
            env=self.environment,
            cwd=PROJECT,
            input=stdin,
            text=True,
            capture_output=True,
            timeout=120,
            check=False,
        )
        if wants is not None:
            assert done.returncode == wants, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: object, stdin: str | None = None, wants: int | None = 0) -> dict:
        """What a command prints with --json."""
        return json.loads(self.tydzen(*words, "--json", stdin=stdin, wants=wants).stdout)

    def json_lines(self, *words: object) -> list[dict]:
        return [json.loads(line) for line in self.tydzen(*words, "--json").stdout.splitlines()]

    def start_command(self, *words: object) -> subprocess.Popen:
        """A command that goes on beside the test; ended with the installation."""
        return self.start_module("service.cli", *words)

    def start_module(self, module: str, *words: object, within: Sequence[str] = ()) -> subprocess.Popen:
        """As `start_command`, a module of the tests' own; `within` is a command that runs it."""
        with (self.folder / f"command-{len(self._others)}.log").open("wb") as log:
            process = subprocess.Popen(
                [*within, sys.executable, "-m", module, *map(str, words)],
                env=self.environment,
                cwd=PROJECT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self._others.append(process)
        return process

    def send(self, week: str = "2019-W22", *, readers: Iterable[str] | None = None, rate: float | None = None) -> int:
        """As `tydzen issue send`, in this process, which need not start first; the mailing."""
        with self.database.begin() as session:
            chosen = None if readers is None else [subscribers.find(session, address).id for address in readers]
            now = dt.datetime.now(dt.UTC)
            return release.send(
                session, week, self._bell, lambda *_: [], actor="test", now=now, rate=rate, audience=chosen
            )

    def send_command(self, week: str = "2019-W22", *words: object, readers: Iterable[str] | None = None) -> int:
        """`tydzen issue send`; the mailing."""
        audience = () if readers is None else ("--audience", "-")
        stdin = None if readers is None else "\n".join(readers)
        return self.json("issue", "send", week, "--yes", *audience, *words, stdin=stdin)["mailing"]

    def control(self, verb: str, mailing: int, **more: object) -> object:
        """As `tydzen mailing VERB`, in this process: for what must happen at a moment."""
        with self.database.begin() as session:
            parts = {"resume": (self._bell,), "retry": (self._bell, lambda *_: [])}.get(verb, ())
            if verb in {"resume", "retry"}:
                more["proofs"] = Proofreader(PRESS, lambda *_: [])
            now = dt.datetime.now(dt.UTC)
            done = getattr(control, verb)(session, mailing, *parts, actor="test", now=now, **more)
        return done.again if verb == "retry" else done

    @functools.cached_property
    def _bell(self) -> CeleryBell:
        app = Celery("tydzen", set_as_current=False)
        app.conf.update(celery_settings(self.valkey.url))
        return CeleryBell(app)

    # Workers

    def start_worker(
        self,
        *words: object,
        concurrency: int = 2,
        program: Path = PROJECT,
        app: str = "worker",
        within: Sequence[str] = (),
        **settings: object,
    ) -> Worker:
        """Start `celery worker`; it is up when its pool is, a second or two later. `settings` are TYDZEN_ variables.

        `program` is the folder of another version of the service; `app` the module of the Celery app; `within` a command
        that runs the worker.
        """
        number = len(self.workers)
        path = self.folder / f"worker-{number}.log"
        extra = {f"TYDZEN_{name.upper()}": str(value) for name, value in settings.items()}
        name = f"w{number}-{random.getrandbits(32):08x}@test"
        command = ["celery", "-A", app, "worker", "--concurrency", str(concurrency), "-n", name, *map(str, words)]
        with path.open("wb") as log:
            process = subprocess.Popen(
                [*within, sys.executable, "-m", *command],
                env={**self.environment, **extra, "PYTHONPATH": str(program)},
                cwd=program,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        worker = Worker(process, path)
        self.workers.append(worker)
        return worker

    def start_sweeps(self, every: float = 1) -> subprocess.Popen:
        """A sweep more often than the one beside each worker, so that tests need not wait for that."""
        return self.start_command("sweep", "--every", every)

    def sweep(self) -> None:
        """One sweep, whoever holds its lock."""
        with self.database.begin() as session:
            session.execute(sa.text("DELETE FROM locks WHERE name = 'sweep'"))
        self.tydzen("sweep")

    # Looking

    def status(self, mailing: int) -> progress.Status:
        with self.database.read() as session:
            return progress.status(session, mailing)

    def wait_for(self, what: Callable[[], object], seconds: float = 30, why: str = "") -> None:
        """Until `what` is true, which takes no longer than `seconds` where nothing else keeps the machine busy."""
        give_up = time.monotonic() + BUSY * seconds
        while not what():
            assert time.monotonic() < give_up, f"{why or 'it did not come true'}\n{self.logs()}"
            time.sleep(0.02)

    def wait_until_sent(self, mailing: int, seconds: float = 30) -> progress.Status:
        """Until the mailing has nothing left to do."""
        give_up = time.monotonic() + BUSY * seconds
        while True:
            found = self.status(mailing)
            if found.mailing.state.value == "sent":
                return found
            assert time.monotonic() < give_up, f"{found.mailing.state}: {found.counts}\n{self.logs()}"
            time.sleep(0.05)

    def database_rows(self, count: str) -> int:
        """What a statement counts."""
        with self.database.read() as session:
            return session.scalar(sa.text(count))

    def taken(self) -> int:
        """How many mails the sink has taken."""
        return len(self.sink.entries())

    def logs(self) -> str:
        paths = sorted(self.folder.glob("*.log"))
        return "\n".join(f"== {path.name}\n" + path.read_text("utf-8", "replace")[-3000:] for path in paths)

    def states(self, mailing: int) -> dict[int, tuple[DeliveryState, str | None]]:
        """State and reason by delivery."""
        statement = sa.select(deliveries.c.id, deliveries.c.state, deliveries.c.reason)
        with self.database.read() as session:
            rows = session.execute(statement.where(deliveries.c.mailing_id == mailing)).all()
        return {row.id: (DeliveryState(row.state), row.reason) for row in rows}

    # The end

    def close(self) -> None:
        if "_bell" in vars(self):
            self._bell._forget_connection()
        for process in self._others:
            process.terminate()
        for worker in self.workers:
            worker.signal(signal.SIGCONT)
            worker.kill()
            _kill_session(worker.pid)
        for process in self._others:
            process.wait()
            process.stdout.close()
        self.sink.stop()
        self.valkey.stop()
        self.database.close()


def _kill_session(session: int) -> None:
    """End what is left of a worker's session: children whose parent was killed."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ProcessLookupError, IndexError):
            if int(path.read_text().rpartition(")")[2].split()[3]) == session:
                os.kill(int(path.parent.name), signal.SIGKILL)


@contextlib.contextmanager
def installed(
    folder: Path,
    database_url: str,
    *,
    rules: Iterable[Rule] = (),
    connections: int = 4,
    own_process: bool = False,
    hide: frozenset[str] = frozenset(),
    keep_in_memory: bool = True,
    certificates: Certificates | None = None,
    login: tuple[str, str] | None = None,
    **settings: object,
) -> Iterator[Installation]:
    """An installation on that (migrated) database; `settings` are TYDZEN_ variables, `rules` the sink's.

    With `certificates` letters go by STARTTLS, with a `login` (user, password) after AUTH; a sink of its own process has
    neither.
    """
    assert not (own_process and (certificates or login))
    data = folder / "data"
    data.mkdir(parents=True)
    write_keyring(data / "secret.key", KEYRING)
    valkey = ValkeyServer(folder / "valkey")
    if own_process:
        sink: SmtpSink | SinkProcess = SinkProcess(folder, rules, hide=hide)
    else:
        tls = certificates.server_context() if certificates else None
        users = dict([login]) if login else {}
        sink = SmtpSink(folder / "ledger", rules, hide=hide, keep_in_memory=keep_in_memory, tls=tls, users=users)
        sink.start()
    who = f"{login[0]}:{login[1]}@" if login else ""
    how = f"starttls&ca={certificates.authority}" if certificates else "none"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TYDZEN_")}
    environment |= {
        "PYTHONPATH": str(PROJECT),
        "TYDZEN_DATA_DIR": str(data),
        "TYDZEN_DATABASE_URL": database_url,
        "TYDZEN_REDIS_URL": valkey.url,
        "TYDZEN_SMTP_URL": f"smtp://{who}127.0.0.1:{sink.port}?tls={how}&connections={connections}",
        **{f"TYDZEN_{name.upper()}": str(value) for name, value in settings.items()},
    }
    made = Installation(folder, Database(database_url, Sealer(KEYRING)), valkey, sink, environment)
    try:
        valkey.start()
        yield made
    finally:
        made.close()


@dataclass(frozen=True)
class Audit:
    """The database held against the sink's ledger, which was written before each reply."""

    planned: int
    states: Counter
    taken: int
    twice: list[int]
    lost: list[int]  # accepted by the database, unknown to the sink
    unaccounted: list[int]  # taken by the sink, and neither accepted nor uncertain in the database
    unfinished: list[int]
    strangers: list[str]  # envelope senders in the ledger that are no delivery of this mailing
    miscounted: list[int]  # batches whose counts are not those of their deliveries

    @property
    def uncertain(self) -> int:
        return self.states[DeliveryState.UNCERTAIN]

    def complain(self) -> None:
        """Fail where anything does not add up."""
        assert not self.twice, f"{len(self.twice)} were mailed twice: {self.twice[:5]}"
        assert not self.lost, f"{len(self.lost)} are accepted and never arrived: {self.lost[:5]}"
        assert not self.unaccounted, f"{len(self.unaccounted)} arrived and are not accepted: {self.unaccounted[:5]}"
        assert not self.unfinished, f"{len(self.unfinished)} are not finished: {self.unfinished[:5]}"
        assert not self.strangers, self.strangers[:5]
        assert not self.miscounted, f"batches {self.miscounted} do not count right"
        assert sum(self.states.values()) == self.planned


def audit(made: Installation, mailing: int, *, only: str = "") -> Audit:
    """What the ledger and the database say of a mailing; `only` names the part of the recipients that it went to."""
    states = made.states(mailing)
    entries = [entry for entry in made.sink.entries() if only in entry.recipient]
    named = [_SIGNER.read_envelope(entry.mail_from.partition("@")[0]) for entry in entries]
    copies = Counter(number for number in named if number is not None)
    open_states = {DeliveryState.PENDING, DeliveryState.ATTEMPTING, DeliveryState.DEFERRED}
    arrived = {DeliveryState.ACCEPTED, DeliveryState.UNCERTAIN}
    status = made.status(mailing)
    return Audit(
        planned=status.counts.planned,
        states=Counter(state for state, _ in states.values()),
        taken=len(entries),
        twice=[number for number, times in copies.items() if times > 1],
        lost=[
            number for number, (state, _) in states.items() if state is DeliveryState.ACCEPTED and not copies[number]
        ],
        unaccounted=[number for number in copies if number in states and states[number][0] not in arrived],
        unfinished=[number for number, (state, _) in states.items() if state in open_states],
        strangers=[entry.mail_from for entry, number in zip(entries, named, strict=True) if number not in states],
        miscounted=miscounted(made.database, mailing),
    )


def miscounted(database: Database, mailing: int) -> list[int]:
    """The batches of a mailing whose counts differ from a count of their deliveries."""
    with database.read() as session:
        rows = session.execute(sa.select(batches).where(batches.c.mailing_id == mailing)).all()
        statement = sa.select(deliveries.c.batch_id, deliveries.c.state, sa.func.count().label("readers"))
        grouped = statement.where(deliveries.c.mailing_id == mailing).group_by(
            deliveries.c.batch_id, deliveries.c.state
        )
        counted = {(row.batch_id, DeliveryState(row.state).label): row.readers for row in session.execute(grouped)}
    return [row.id for row in rows if any(getattr(row, name) != counted.get((row.id, name), 0) for name in COUNTED)]


def past_dot(journal: Path) -> int:
    """How many dots of a journal have no reply: the letters whose fate its owner would take to its grave."""
    return len(unanswered(journal))


def unanswered(journal: Path) -> set[int]:
    """The deliveries of these letters, notices below zero; none where there is no such journal."""
    from service.domain.errors import InvalidInputError
    from service.mail import autopsy

    try:
        contents = autopsy.read(journal)
    except (InvalidInputError, FileNotFoundError):
        return set()
    return {record.delivery_id for record in contents._last.values() if record.kind == KIND_DOT}


def mailing_state(made: Installation, mailing: int) -> str:
    with made.database.read() as session:
        return mailings.get(session, mailing).state.value
