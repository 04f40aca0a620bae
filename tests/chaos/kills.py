"""A thousand SIGKILLs: mailing after mailing, small ones, while children, parents and whole workers are killed at random.

python -m tests.chaos.kills --kills 1000

Every mailing has a database, a Valkey and workers of its own; every second one is on SQLite. Each is judged as
`tests.chaos.run` judges its one; it ends with an exit code other than 0 where anybody is lost, mailed twice, or
uncertain without having been past the dot at a kill.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from service.store import Sealer
from tests.chaos import run as chaos
from tests.chaos.run import Plan, Report, Supervisor, kill_one
from tests.conftest import KEYRING
from tests.installation import Installation
from tests.servers import PostgresqlServer, postgresql_server

# Of so many kills one takes all workers at once, as the end of their host does.
_WHOLE = 10


@dataclass
class Tally:
    """What became of all mailings together."""

    mailings: int = 0
    readers: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    taken: int = 0
    lost: int = 0
    twice: int = 0
    uncertain: int = 0
    at_risk: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def add(self, report: Report, name: str) -> None:
        """Count this mailing; what is wrong with it is kept under its name."""
        found = report.result
        assert found is not None
        self.mailings += 1
        self.readers += report.plan.readers
        self.kills.update(report.kills)
        self.taken += found.taken
        self.lost += len(found.lost) + len(found.unfinished) + len(found.unaccounted)
        self.twice += len(found.twice)
        self.uncertain += found.uncertain
        self.at_risk += report.at_risk
        self.seconds += report.seconds
        try:
            report.complain()
        except AssertionError as error:
            self.wrong.append(f"{name}: {error}")

    def table(self) -> str:
        rows = {
            "mailings": self.mailings,
            "readers": self.readers,
            "kills": f"{self.kills.total()} ({', '.join(f'{n} {what}' for what, n in sorted(self.kills.items()))})",
            "taken by the sink": self.taken,
            "lost": self.lost,
            "twice": self.twice,
            "uncertain": f"{self.uncertain} of {self.at_risk} past the dot at a kill",
            "seconds": f"{self.seconds:.0f}",
        }
        return "\n".join([*(f"{name:20} {value}" for name, value in rows.items()), *self.wrong])


@dataclass
class Killer:
    """A child or a parent, as `tests.chaos.run` kills it; each tenth time all processes of all workers in one moment."""

    kills: int = 0

    def __call__(self, made: Installation, supervisor: Supervisor, chance: random.Random) -> tuple[str, int]:
        self.kills += 1
        if self.kills % _WHOLE == _WHOLE // 2:
            return "everything", chaos.kill_everything(supervisor)
        return kill_one(made, supervisor, chance)


# Gives a new, migrated database: its URL, by the number of the mailing.
Databases = Callable[[int], str]


@contextmanager
def databases(folder: Path) -> Iterator[Databases]:
    """New databases of one PostgreSQL server, and SQLite files in turn."""

    class Folders:
        def getbasetemp(self) -> Path:
            return folder

    def made(number: int, server: PostgresqlServer) -> str:
        if number % 2:
            return server.create(f"kills{number}")
        with chaos.database_url(folder / f"sqlite{number}", "sqlite") as url:
            return url

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with postgresql_server(Folders(), Sealer(KEYRING)) as server:
        yield lambda number: made(number, server)


def run(folder: Path, new_database: Databases, plan: Plan, kills: int, said: Callable[[str], object]) -> Tally:
    """Mailings by that plan until so many processes were killed; one that does not end counts as wrong."""
    tally, number, killer = Tally(), 0, Killer()
    while tally.kills.total() < kills:
        number += 1
        name = f"mailing {number}, seed {plan.seed + number}"
        left = min(plan.kills, kills - tally.kills.total())
        this = dataclasses.replace(plan, seed=plan.seed + number, kills=left)
        began = time.monotonic()
        try:
            with chaos.arena(folder / f"{number}", new_database(number), this) as made:
                tally.add(chaos.run(made, this, killer), name)
        except AssertionError as error:
            tally.wrong.append(f"{name}: {str(error)[:2000]}")
            tally.kills["of a mailing that did not end"] += this.kills
        said(f"{name}: {tally.kills.total()} kills, {time.monotonic() - began:.0f} s")
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--each", type=int, default=20, help="kills in one mailing")
    parser.add_argument("--readers", type=int, default=600, help="of one mailing")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    words = parser.parse_args()
    plan = Plan(readers=words.readers, kills=words.each, hurry=True, seed=words.seed)
    with tempfile.TemporaryDirectory(prefix="tydzen-kills-") as place:
        folder = Path(place)
        with databases(folder / "databases") as new_database:
            tally = run(folder, new_database, plan, words.kills, lambda line: print(line, file=sys.stderr, flush=True))
    print(tally.table())
    sys.exit(bool(tally.wrong or tally.lost or tally.twice))


if __name__ == "__main__":
    main()
