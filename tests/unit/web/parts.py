"""What a site is made of in tests: an installation with a new database, an issue in it, a reader, and an open door."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from fastapi import FastAPI

from service import bootstrap, config, log
from service.clock import Clock
from service.domain.chains import Chain
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.embedded.keyring_file import write_keyring
from service.store import issues, subscribers
from service.store import publication as publications
from service.store.tables import metadata
from service.web.app import create_app
from service.web.floodgate import Floodgate
from tests.conftest import KEYRING
from tests.fakes import FakeBell
from tests.unit.render import samples

WEEK = Week.parse("2019-W22")
NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
ADDRESS = "canary-reader@example.test"


@contextmanager
def installed(template: Path, folder: Path, clock: Clock) -> Iterator[bootstrap.Services]:
    """The parts of an installation below `folder`, with a copy of that SQLite database and nothing in it."""
    log.configure(json=True)
    settings = config.load(data_dir=folder / "var", base_url="http://localhost:8000")
    settings.data_dir.mkdir()
    (settings.data_dir / "tydzen.sqlite3").write_bytes(template.read_bytes())
    write_keyring(settings.keyring_path, KEYRING)
    made = bootstrap.Services(settings, clock)
    yield made
    # Only one that was opened: a test may have taken the file away.
    if "database" in made.__dict__:
        made.database.close()


def store_issue(parts: bootstrap.Services) -> None:
    """A publication with one issue, which is stored and not yet sent."""
    with parts.database.begin() as session:
        publications.save(session, samples.publication(), NOW)
        issues.save(session, samples.issue(), NOW)


def add_reader(parts: bootstrap.Services) -> bytes:
    """The id of a new active reader of Belarusian, else Russian."""
    made = {"status": SubscriberStatus.ACTIVE, "consent": "test", "week": Week(2019, 1)}
    with parts.database.begin() as session:
        return subscribers.add(session, ADDRESS, Chain(("be", "ru")), **made).id


def dump(parts: bootstrap.Services) -> dict[str, list[Any]]:
    """Every row of every table, to see whether anything has changed."""
    with parts.database.read() as session:
        return {one.name: session.execute(sa.select(one)).all() for one in metadata.sorted_tables}


def open_to_all(parts: bootstrap.Services) -> FastAPI:
    """A site of these parts that lets everybody pass, and rings no bell that must be there."""
    parts.__dict__["bell"] = FakeBell()
    app = create_app(parts)
    app.state.floodgate = Floodgate(parts.form_stamps, per_network=10**9, in_all=10**9)
    return app
