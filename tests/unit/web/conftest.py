import datetime as dt
import logging

import pytest
import structlog
from fastapi.testclient import TestClient

from service import bootstrap, config, log
from service.domain.chains import Chain
from service.domain.mailing import MailingState
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.store import issues, mailings, subscribers
from service.store import publication as publications
from service.web.app import create_app
from tests.conftest import KEYRING
from tests.unit.render import samples

WEEK = Week.parse("2019-W22")
NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
ADDRESS = "canary-reader@example.test"


@pytest.fixture
def parts(sqlite_template, tmp_path, clock):
    """The parts of an installation with a new database and nothing in it."""
    log.configure(json=True)
    settings = config.load(data_dir=tmp_path / "var", base_url="http://localhost:8000")
    settings.data_dir.mkdir()
    (settings.data_dir / "tydzen.sqlite3").write_bytes(sqlite_template.read_bytes())
    bootstrap.write_keyring(settings.keyring_path, KEYRING)
    made = bootstrap.Services(settings, clock)
    yield made
    # Only one that was opened: a test may have taken the file away.
    if "database" in made.__dict__:
        made.database.close()
    # The handlers hold the stderr of this test, which is closed after it.
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    structlog.reset_defaults()


@pytest.fixture
def site(parts):
    """A browser at this machine, which follows no redirect by itself."""
    with TestClient(
        create_app(parts), "http://localhost:8000", follow_redirects=False, client=("127.0.0.1", 40000)
    ) as client:
        yield client


@pytest.fixture
def published(parts):
    """A publication with one issue, which is stored and not yet sent; call it with a state to move it there."""
    with parts.database.begin() as session:
        publications.save(session, samples.publication(), NOW)
        issues.save(session, samples.issue(), NOW)

    def move(state: MailingState) -> None:
        with parts.database.begin() as session:
            mailings.create(
                session, str(WEEK), state=state, rate=None, audience="all", actor="test", release_at=None, now=NOW
            )

    return move


@pytest.fixture
def reader(parts, published):
    """The id of an active reader of Belarusian, else Russian."""
    with parts.database.begin() as session:
        return subscribers.add(
            session, ADDRESS, Chain(("be", "ru")), status=SubscriberStatus.ACTIVE, consent="test", week=Week(2019, 1)
        ).id
