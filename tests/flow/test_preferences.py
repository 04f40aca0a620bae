"""What readers change in the middle of a mailing, with everything real: it holds for what was not written yet."""

from __future__ import annotations

import datetime as dt
import json
import re

import pytest
import sqlalchemy as sa

from service.domain.keys import Purpose
from service.domain.tokens import LinkSigner
from service.store import releases, subscribers
from service.store.tables import deliveries
from tests.conftest import KEYRING
from tests.flow.conftest import sending_installation
from tests.flow.visitor import Visitor, body, mails
from tests.installation import audit, miscounted
from tests.servers import free_port

pytestmark = pytest.mark.slow

PAGES = LinkSigner(KEYRING, Purpose.PREFERENCES)
READERS = 60


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request, tmp_path_factory):
    port = free_port()
    settings = {"web_port": port, "base_url": f"http://127.0.0.1:{port}"}
    with sending_installation(request, request.param, tmp_path_factory.mktemp("preferences"), **settings) as made:
        made.fill(READERS, chains=("en",))
        made.start_command("web")
        visitor = Visitor(settings["base_url"])
        made.wait_for(visitor.answered, why="the site does not answer")
        yield made, visitor


def last_in_line(made, mailing, count):
    """Readers whose turn comes last, with their addresses."""
    statement = sa.select(deliveries.c.subscriber_id).where(deliveries.c.mailing_id == mailing)
    with made.database.read() as session:
        chosen = session.execute(statement.order_by(deliveries.c.id.desc()).limit(count)).scalars().all()
        readers = [subscribers.get(session, row_id) for row_id in chosen]
        return [(PAGES.sign(reader.id, 0), subscribers.address(session, reader)) for reader in readers]


def link(made, site, address, letter, number=0):
    """The link of that kind in the newest mail to an address, once there are more than `number`."""
    made.wait_for(lambda: len(mails(made.sink, address)) > number, why="no mail with a link came")
    found = re.findall(
        rf"^{re.escape(site.base)}(/{letter}/\S+)$", body(mails(made.sink, address)[-1], "plain"), re.MULTILINE
    )
    return found[0]


def test_every_change_holds_for_the_letters_that_were_not_written_yet(house):
    made, site = house
    mailing = made.send(rate=1)
    made.wait_for(lambda: made.status(mailing).mailing.state.value == "sending")
    made.wait_for(lambda: made.taken() >= 1)
    (text, a), (pause, b), (languages, c), (erase, d), (move, e), (data, f) = last_in_line(made, mailing, 6)
    new = "moved@elsewhere.test"

    # Those that take mails first: a notice does not wait for the mailing.
    for token, purpose in ((erase, "erase"), (move, "address"), (data, "data")):
        assert site.post(f"/p/{token}", change="request", purpose=purpose)[0] == 200
    assert site.post(link(made, site, e, "r"), address=new)[0] == 200
    assert site.post(link(made, site, d, "r"))[0] == 200
    assert site.post(link(made, site, new, "c"))[0] == 200
    kept = json.loads(site.post(link(made, site, f, "r"))[2])
    assert (kept["address"], kept["issues"][0]["state"]) == (f, "pending")

    until = dt.datetime.now(dt.UTC).date() + dt.timedelta(days=7)
    assert site.post(f"/p/{text}", change="text", text_only="1")[0] == 200
    assert site.post(f"/p/{pause}", change="pause", until=until.isoformat())[0] == 200
    assert site.post(f"/p/{languages}", change="languages", language=["be", "ru"])[0] == 200
    assert not issues_to(made, a, b, c, d, e, new), "the mailing was faster than the readers"
    made.control("set_rate", mailing, rate=0)
    found = made.wait_until_sent(mailing, 60)

    (plain,) = issues_to(made, a)
    assert plain.get_content_type() == "text/plain"
    assert plain["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    (belarusian,) = issues_to(made, c)
    assert belarusian["Content-Language"] == "be"
    assert len(issues_to(made, new)) == 1
    assert not issues_to(made, b, d, e)
    assert (found.counts.accepted, found.counts.skipped) == (READERS - 2, 2)
    assert sorted(reason for _, reason in made.states(mailing).values() if reason) == ["erased", "paused"]
    assert {"en", "en+text", "be,ru"} <= set(found.editions)
    assert not miscounted(made.database, mailing)
    assert not audit(made, mailing).twice
    # Who moved has links that lead to the page; those of older mails do not.
    (issue,) = issues_to(made, new)
    (page,) = re.findall(rf"^{re.escape(site.base)}(/p/\S+)$", body(issue, "plain"), re.MULTILINE)
    assert site.get(page)[0] == site.get(f"/p/{move}")[0] == 200
    assert 'name="language"' in site.get(page)[2]
    assert 'name="language"' not in site.get(f"/p/{move}")[2]


def issues_to(made, *addresses):
    """The issue mails (they name their list) that the relay took for any of these."""
    return [mail for address in addresses for mail in mails(made.sink, address) if mail["List-Id"]]


def test_who_ticked_the_box_gets_the_newest_issue_at_once_and_can_leave_by_it(house):
    made, site = house
    with made.database.read() as session:
        released = releases.newest(session)
    if released is None:
        made.wait_until_sent(made.send(), 60)
    address = "curious@reader.test"
    assert site.post("/be/subscribe", address=address, language=["be", "ru"], newest="1")[0] == 303
    assert site.post(link(made, site, address, "c"))[0] == 200
    made.wait_for(lambda: len(mails(made.sink, address)) == 3, why="no welcome and issue came")
    (issue,) = issues_to(made, address)
    assert issue["Content-Language"] == "be"
    (way_out,) = re.findall(rf"<{re.escape(site.base)}(/u/[^>]+)>", issue["List-Unsubscribe"])
    assert site.post(way_out, **{"List-Unsubscribe": "One-Click"})[0] == 200
    made.wait_for(lambda: len(mails(made.sink, address)) == 4, why="no goodbye came")
    goodbye = mails(made.sink, address)[-1]
    assert goodbye["Subject"].startswith("Вы адпісаліся")
    assert goodbye["Auto-Submitted"] == "auto-generated"
