"""A reader's way in, with everything real: the form, the worker, the broker, the relay, the link in the mail."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from service.domain.chains import Chain
from service.domain.keys import Purpose
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import LinkSigner
from service.store import subscribers
from tests.conftest import KEYRING
from tests.factories import JOINED
from tests.flow.conftest import sending_installation
from tests.flow.visitor import Visitor, body, mails
from tests.servers import free_port
from tests.unit.delivery.parts import wait_for_a_waiter

pytestmark = pytest.mark.slow

LANGUAGES = ("en", "be", "ru")
SUBJECTS = {
    "en": ("Please confirm your subscription to", "You are subscribed to"),
    "be": ("Пацвердзіце падпіску на", "Вы падпісаліся на"),
    "ru": ("Подтвердите подписку на", "Вы подписались на"),
}
BUTTONS = {"en": "Yes, subscribe me", "be": "Так, падпісацца", "ru": "Да, подписаться"}
ALREADY = {"en": "Already confirmed", "be": "Ужо пацверджана", "ru": "Уже подтверждено"}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request, tmp_path_factory):
    port = free_port()
    settings = {"web_port": port, "base_url": f"http://127.0.0.1:{port}"}
    with sending_installation(request, request.param, tmp_path_factory.mktemp("signup"), **settings) as made:
        made.start_command("web")
        visitor = Visitor(settings["base_url"])
        made.wait_for(visitor.answered, why="the site does not answer")
        yield made, visitor


def status(made, address):
    with made.database.read() as session:
        found = subscribers.find(session, address)
        return (found.status, str(found.chain)) if found else None


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_reader_comes_in_by_the_form_and_the_link_of_the_mail(house, language):
    made, site = house
    address = f"new-{language}@reader.test"
    other = "ru" if language == "be" else "be"
    code, headers, _ = site.post(f"/{language}/subscribe", address=address, language=[other, language])
    assert (code, headers["Location"]) == (303, f"/{language}/subscribe/sent")
    made.wait_for(lambda: mails(made.sink, address), why="no confirmation came")

    (asked,) = mails(made.sink, address)
    assert asked["Subject"].startswith(SUBJECTS[language][0])
    assert asked["Content-Language"] == language
    assert asked["Auto-Submitted"] == "auto-generated"
    assert not [name for name in asked if name.lower().startswith("list-")]
    (link,) = re.findall(rf"^{re.escape(site.base)}(/c/\S+)$", body(asked, "plain"), re.MULTILINE)
    assert link in body(asked, "html").replace("\n", "")
    assert status(made, address) == (SubscriberStatus.PENDING, f"{language},{other}")

    code, _, page = site.get(link)
    assert code == 200
    assert BUTTONS[language] in page
    assert status(made, address)[0] is SubscriberStatus.PENDING
    (action,) = re.findall(r'<form method="post" action="([^"]+)"', page)
    first = site.post(action)
    again, looked_at = site.post(action), site.get(link)
    assert [answer[0] for answer in (first, again, looked_at)] == [200] * 3
    assert [f"<h1>{ALREADY[language]}</h1>" in answer[2] for answer in (first, again, looked_at)] == [False, True, True]
    assert status(made, address) == (SubscriberStatus.ACTIVE, f"{language},{other}")
    assert address not in page + first[2] + again[2] + looked_at[2]

    made.wait_for(lambda: len(mails(made.sink, address)) == 2, why="no welcome came")
    welcome = mails(made.sink, address)[1]
    assert welcome["Subject"].startswith(SUBJECTS[language][1])
    for letter in "pu":
        (link,) = re.findall(rf"^{re.escape(site.base)}(/{letter}/\S+)$", body(welcome, "plain"), re.MULTILINE)
        assert site.get(link)[0] == 200
    (way_out,) = re.findall(rf"^{re.escape(site.base)}(/u/\S+)$", body(welcome, "plain"), re.MULTILINE)
    assert site.post(way_out)[0] == 200
    assert status(made, address)[0] is SubscriberStatus.UNSUBSCRIBED
    # The old link is in the mail still; it brings nobody back.
    assert site.post(action)[0] == 404
    assert status(made, address)[0] is SubscriberStatus.UNSUBSCRIBED


def test_a_sign_up_while_the_broker_is_away_is_answered_when_it_is_back(house):
    made, site = house
    address = "patient@reader.test"
    made.valkey.kill()
    code, _, _ = site.post("/en/subscribe", address=address, language="en")
    assert code == 303
    assert made.database_rows("SELECT count(*) FROM signups") == 1
    made.valkey.start()
    with made.database.begin() as session:
        session.execute(sa.text("UPDATE signups SET due_at = 0"))

    def came():
        made.sweep()
        return mails(made.sink, address)

    made.wait_for(came, why="no confirmation came")


def link_to_leave(made, address, language):
    """That of a new reader, who is active."""
    with made.database.begin() as session:
        chain, active = Chain((language,)), SubscriberStatus.ACTIVE
        reader = subscribers.add(session, address, chain, status=active, consent="test", week=JOINED)
    return f"/u/{LinkSigner(KEYRING, Purpose.UNSUBSCRIBE).sign(reader.id)}"


def test_one_click_waits_for_a_migration_and_works(house):
    made, site = house
    address = "leaving-meanwhile@reader.test"
    link = link_to_leave(made, address, "be")
    with ThreadPoolExecutor(1) as other:
        with made.database.engine.connect() as migrating, migrating.begin() as transaction:
            migrating.execute(sa.text("ALTER TABLE subscribers ADD COLUMN note VARCHAR(8)"))
            answer = other.submit(site.post, link, **{"List-Unsubscribe": "One-Click"})
            if made.database.postgresql:
                wait_for_a_waiter(made.database)
            else:
                time.sleep(1)
            assert not answer.done()
            transaction.rollback()
        assert answer.result(timeout=60)[0] == 200
    assert status(made, address) == (SubscriberStatus.UNSUBSCRIBED, "be")


def test_one_click_works_while_the_broker_is_away_and_the_goodbye_comes_later(house):
    made, site = house
    address = "leaving@reader.test"
    link = link_to_leave(made, address, "ru")
    made.valkey.kill()
    try:
        answers = [site.post(link, **{"List-Unsubscribe": "One-Click"}) for _ in range(2)]
        assert {(code, page) for code, _, page in answers} == {(200, answers[0][2])}
        assert not {"Set-Cookie", "Location"} & set(answers[0][1])
        assert status(made, address) == (SubscriberStatus.UNSUBSCRIBED, "ru")
    finally:
        made.valkey.start()
    with made.database.begin() as session:
        session.execute(sa.text("UPDATE notices SET due_at = 0, rung_at = 0 WHERE kind = 'goodbye'"))

    def came():
        made.sweep()
        return mails(made.sink, address)

    made.wait_for(came, why="no goodbye came")
    assert mails(made.sink, address)[0]["Subject"].startswith("Вы отписались")
