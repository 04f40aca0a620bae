"""What the tests of the readers' pages share: a browser, a site to read, and an installation that answers and sends."""

import pytest

from tests.browser.pictures import browser
from tests.browser.reading import served
from tests.flow.conftest import sending_installation
from tests.flow.visitor import Visitor
from tests.servers import free_port


@pytest.fixture(scope="module")
def running():
    with browser() as made:
        yield made


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with served(tmp_path_factory.mktemp("site"), earlier=24) as made:
        yield made


@pytest.fixture(scope="module")
def house(request, tmp_path_factory):
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    folder = tmp_path_factory.mktemp("signup")
    with sending_installation(request, "sqlite", folder, web_port=port, base_url=base) as made:
        made.start_command("web")
        made.wait_for(Visitor(base).answered, why="the site does not answer")
        made.base = base
        yield made
