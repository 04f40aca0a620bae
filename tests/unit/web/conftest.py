import pytest
from fastapi.testclient import TestClient

from service.domain.mailing import MailingState
from service.store import mailings
from service.web.app import create_app
from tests.unit.web.parts import NOW, WEEK, add_reader, installed, open_to_all, store_issue


@pytest.fixture
def parts(sqlite_template, tmp_path, clock):
    """The parts of an installation with a new database and nothing in it."""
    with installed(sqlite_template, tmp_path, clock) as made:
        yield made


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
    store_issue(parts)

    def move(state: MailingState) -> None:
        with parts.database.begin() as session:
            mailings.create(
                session, str(WEEK), state=state, rate=None, audience="all", actor="test", release_at=None, now=NOW
            )

    return move


@pytest.fixture
def reader(parts, published):
    """The id of an active reader of Belarusian, else Russian."""
    return add_reader(parts)


@pytest.fixture
def open_app(parts, published):
    """A site with an issue, which lets everybody pass."""
    return open_to_all(parts)
