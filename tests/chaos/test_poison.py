"""Data that no letter can be made of costs its own reader and nobody else; what only looks like code is words."""

from __future__ import annotations

import dataclasses
import email
import email.policy

import pytest

from service.domain.chains import Chain
from service.domain.content import TextStatus
from service.domain.delivery import DeliveryState
from service.domain.subscriber import SubscriberStatus
from service.domain.weeks import Week
from service.store import issues, subscribers, tables
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_scarcity import sending
from tests.factories import JOINED, MADE_AT
from tests.unit.render import samples

pytestmark = pytest.mark.slow

# As a database may hold them that others wrote to; `subscriber add` and the import take none of the second kind.
MAILABLE = (
    "{{7*7}}@example.test",
    "=?utf-8?q?=41?=@example.test",
    '"%s %x ${HOME}"@example.test',
    "'or'1'='1@example.test",
    "жанна@example.test",
    "🦄@example.test",
    "fay@пошта.бел",
)
UNMAILABLE = (
    "nul\0@example.test",
    "canary\r\nRCPT TO:<victim@example.test>@example.test",
    "c" * 10_240 + "@example.test",
    "\u202eyranac@" + "r" * 64 + ".test",
    "two@signs@example.test",
)
SUBJECT = "{{7*7}} ${HOME} %s <mj-raw> 🦄 עברית"
TITLE = f"{SUBJECT} =?utf-8?q?=41?="


def add(database, addresses):
    with database.begin() as session:
        rows = [
            subscribers.prepared(
                session.sealer,
                address,
                Chain(("en",)),
                status=SubscriberStatus.ACTIVE,
                consent="test",
                week=JOINED,
            )
            for address in addresses
        ]
        subscribers.insert(session, rows, week=JOINED)


def spoil(database, address):
    """A page of the database is damaged where this address is."""
    with database.begin() as session:
        reader = subscribers.find(session, address).id
        rows = tables.subscribers
        session.execute(rows.update().where(rows.c.id == reader).values(sealed=b"\x01" + bytes(40)))


def poisoned(week):
    """The sample issue, whose first article and subject hold what machines might take for code."""
    issue = samples.issue(week=week)
    first = issue.articles[0]
    text = dataclasses.replace(
        first.texts["en"], title=TITLE, body=f"{TITLE}\n\n{{% raw %}} {{#", status=TextStatus.APPROVED
    )
    articles = (dataclasses.replace(first, texts={**first.texts, "en": text}), *issue.articles[1:])
    return dataclasses.replace(issue, articles=articles, subjects={"en": SUBJECT})


def test_poison_in_an_address_costs_its_own_reader_and_poison_in_a_text_is_words(postgresql_database, tmp_path):
    with sending(
        tmp_path / "run", url_of(postgresql_database), 60, own_process=False, rules=(), chains=("en",)
    ) as made:
        add(made.database, MAILABLE + UNMAILABLE)
        spoil(made.database, "reader7@example.test")
        with made.database.begin() as session:
            issues.save(session, poisoned(Week.parse("2019-W22")), MADE_AT)
        made.start_worker(concurrency=3)
        mailing = made.send()
        made.wait_for(lambda: is_sent(made, mailing), 60)

        reasons = [reason for state, reason in made.states(mailing).values() if state is DeliveryState.REFUSED]
        assert sorted(reasons) == ["content", *["hard"] * len(UNMAILABLE)]
        mailed = {entry.recipient for entry in made.sink.entries()}
        assert len(made.sink.entries()) == len(mailed) == 59 + len(MAILABLE)
        assert not any("victim" in address for address in mailed)
        with made.database.read() as session:
            # Whoever is damaged in our own database is not sent away for it.
            assert subscribers.find(session, "reader7@example.test").status is SubscriberStatus.ACTIVE
        for octets in made.sink.messages[:: len(mailed) // 5]:
            message = email.message_from_bytes(octets, policy=email.policy.default)
            assert message["Subject"] == SUBJECT
            assert TITLE in message.get_body(("plain",)).get_content()
            assert "{% raw %} {#" in message.get_body(("plain",)).get_content()
