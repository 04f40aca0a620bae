"""What people change while an issue is being sent: readers, texts, templates, languages, the relay, the keys."""

from __future__ import annotations

import dataclasses
import email
import email.policy
import shutil
from collections import Counter

import pytest
import sqlalchemy as sa

from service.audience.adding import add
from service.audience.departures import leave
from service.clock import SystemClock
from service.domain.chains import Chain
from service.domain.delivery import DeliveryState
from service.domain.errors import ConflictError
from service.domain.keys import Keyring, Purpose
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import LinkSigner
from service.domain.weeks import Week
from service.embedded.keyring_file import write_keyring
from service.store import issues, publication, subscribers, tables
from tests.chaos.test_faults import is_sent, url_of
from tests.chaos.test_scarcity import everybody_has_one, sending
from tests.conftest import KEYRING
from tests.factories import MADE_AT
from tests.installation import PROJECT
from tests.smtp_sink import SmtpSink

pytestmark = pytest.mark.long

WEEK = Week.parse("2019-W22")
CHANGED = "NEVER APPROVED"


def edit_everything(made):
    """Other texts, fewer articles, no picture, a language less, straight into the database: every check is passed by."""
    with made.database.begin() as session:
        first, *_ = issues.load(session, WEEK).articles
        texts = {code: dataclasses.replace(text, title=CHANGED, body=CHANGED) for code, text in first.texts.items()}
        issue = issues.load(session, WEEK)
        only = dataclasses.replace(first, texts=texts)
        issues.save(session, dataclasses.replace(issue, articles=(only,), subjects={"en": CHANGED}, assets=()), MADE_AT)
        paper = publication.load(session)
        publication.save(session, dataclasses.replace(paper, languages=("en", "ru")), MADE_AT)


def changed_templates(folder):
    """The same program with another design."""
    for name in ("service", "templates", "migrations"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "worker.py", folder)
    template = folder / "templates" / "edition" / "issue.txt.j2"
    template.write_text(CHANGED + template.read_text())
    return folder


def test_what_is_edited_in_mid_run_changes_no_letter(postgresql_database, tmp_path):
    with sending(tmp_path / "run", url_of(postgresql_database), 300, own_process=False, rate=60) as made:
        first = made.start_worker(concurrency=2)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > 60, 60)
        edit_everything(made)
        made.start_worker(concurrency=2, program=changed_templates(tmp_path / "program"))
        first.end()
        made.wait_for(lambda: is_sent(made, mailing), 60)
        everybody_has_one(made, mailing, 300)
        assert len(made.sink.messages) == 300
        editions = Counter()
        for octets in made.sink.messages:
            message = email.message_from_bytes(octets, policy=email.policy.default)
            assert CHANGED not in message["Subject"]
            text = message.get_body(("plain",)).get_content()
            assert CHANGED not in text
            editions[text.partition("http")[0]] += 1
        with made.database.read() as session:
            found = session.execute(sa.select(tables.renditions.c.revision)).scalars().all()
        # One for each chain, and nobody got anything else.
        assert found == [1] * 5
        assert len(editions) <= 5


def test_who_comes_back_or_is_entered_twice_in_mid_run_gets_one_copy_at_the_most(postgresql_database, tmp_path):
    with sending(tmp_path / "run", url_of(postgresql_database), 200, rate=50) as made:
        now, chain = SystemClock().now(), Chain(("en",))
        with made.database.begin() as session:
            add(session, "fay@пошта.бел", chain, consent=None, actor="test", now=now)
        made.start_worker(concurrency=2)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > 40, 60)
        with made.database.begin() as session:
            # The same mailbox in other letters and forms is the same reader.
            for other in ("FAY@ПОШТА.бел", "Fay@xn--80a1acn3a.XN--90ais", "fay@Пошта.xn--90ais"):
                assert add(session, other, chain, consent=None, actor="test", now=now)[1] is False
            with pytest.raises(ConflictError):
                add(session, "READER3@Example.TEST", Chain(("en", "ru")), consent=None, actor="test", now=now)
            # Who goes and comes back before a worker asks never was away; who is new is of the next issue.
            for number in range(200):
                reader = subscribers.find(session, f"reader{number}@example.test")
                leave(session, reader, WEEK)
                subscribers.set_status(session, reader.id, SubscriberStatus.ACTIVE, week=WEEK)
            add(session, "new@example.test", chain, consent=None, actor="test", now=now)
        made.wait_for(lambda: is_sent(made, mailing), 60)
        everybody_has_one(made, mailing, 201)
        assert "new@example.test" not in {entry.recipient for entry in made.sink.entries()}


def links(message):
    """What stands behind the host of its List-Unsubscribe."""
    return message["List-Unsubscribe"].partition("/u/")[2].rstrip(">")


def test_another_relay_and_another_key_in_mid_run_leave_old_links_alive(postgresql_database, tmp_path):
    keys = Keyring({**KEYRING.secrets, 2: bytes(range(50, 82))})
    with (
        sending(tmp_path / "run", url_of(postgresql_database), 200, own_process=False, rate=50) as made,
        SmtpSink(tmp_path / "second-ledger") as second,
    ):
        old = made.start_worker(concurrency=2)
        mailing = made.send()
        made.wait_for(lambda: made.taken() > 40, 60)
        old.end()
        (tmp_path / "run" / "data" / "secret.key").unlink()
        write_keyring(tmp_path / "run" / "data" / "secret.key", keys)
        made.start_worker(concurrency=2, smtp_url=f"smtp://127.0.0.1:{second.port}?tls=none")
        made.wait_for(lambda: is_sent(made, mailing), 60)

        first, later = made.sink.entries(), second.entries()
        assert len({entry.recipient for entry in (*first, *later)}) == len(first) + len(later) == 200
        assert min(len(first), len(later)) > 20
        assert {state for state, _ in made.states(mailing).values()} == {DeliveryState.ACCEPTED}
        signer = LinkSigner(keys, Purpose.UNSUBSCRIBE)
        for sink in (made.sink, second):
            for octets in sink.messages:
                message = email.message_from_bytes(octets, policy=email.policy.default)
                with made.database.read() as session:
                    reader = subscribers.find(session, message["To"]).id
                assert signer.read(links(message)).subscriber == reader
