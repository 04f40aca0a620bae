"""Notices that are sent over a real relay, and what becomes of them."""

import datetime as dt
import email
import email.policy
import threading
import time
from contextlib import contextmanager

import pytest

from service.delivery.postman import NoticeSender
from service.delivery.reconciling import Look
from service.delivery.recovery import Recovery
from service.domain.chains import Chain
from service.domain.content import TextStatus
from service.domain.delivery import DeliveryState
from service.domain.keys import Keyring
from service.domain.mailing import MailingState
from service.domain.signup import NEWEST_ISSUE, WELCOME
from service.domain.subscriber import SubscriberStatus
from service.domain.tokens import DeliverySigner
from service.mail import autopsy
from service.mail.autopsy import Fate
from service.store import DatabaseAwayError, Sealer, mailings, subscribers
from service.store import notices as store
from service.store.instants import stored
from service.store.tables import notices as table
from tests.conftest import KEYRING
from tests.factories import JOINED, save_issue, save_publication
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import Time, books, replaced_in_silence
from tests.unit.delivery.post import ADDRESS, MINUTE, NOW, Post, made, row, state


@pytest.fixture
def sink(tmp_path):
    with SmtpSink(tmp_path / "ledger") as running:
        yield running


@pytest.fixture
def post(database, clock, tmp_path, sink):
    with database.begin() as session:
        save_publication(session)
    made_post = Post(database, clock, tmp_path, sink)
    yield made_post
    made_post.close()


def test_a_notice_reaches_its_address_and_says_that_no_person_wrote_it(database, post, sink):
    notice = made(database)
    assert post.send(notice)
    (entry,) = sink.entries()
    assert entry.recipient == ADDRESS
    message = email.message_from_bytes(sink.messages[0], policy=email.policy.default)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["To"] == ADDRESS
    assert message["Subject"] == "Sending issue 2019-W22 needs your attention"
    assert not [name for name in message if name.lower().startswith("list-")]
    assert message["Message-ID"].endswith("@example.org>")
    assert "the relay refuses everything" in message.get_body(("plain",)).get_content()
    assert entry.mail_from.startswith("b-")
    number = DeliverySigner(KEYRING).read_envelope(entry.mail_from.partition("@")[0])
    assert number == 2**63 + notice


def test_a_notice_of_a_sender_with_an_international_domain_has_a_header_in_ascii(database, post, sink):
    with database.begin() as session:
        save_publication(session, sender="editors@тыдзень.бел")
    notice = made(database)
    assert post.send(notice)
    header = sink.messages[0].partition(b"\r\n\r\n")[0]
    assert header.isascii()
    message = email.message_from_bytes(sink.messages[0], policy=email.policy.default)
    assert message["From"].addresses[0].addr_spec == "editors@xn--d1acfzv8cl.xn--90ais"
    assert message["Message-ID"].endswith("@xn--d1acfzv8cl.xn--90ais>")
    assert sink.entries()[0].mail_from.endswith("@xn--d1acfzv8cl.xn--90ais")


def test_a_notice_that_was_taken_is_not_sent_again_and_its_address_is_gone(database, post, sink):
    notice = made(database)
    post.send(notice)
    assert not post.send(notice)
    assert len(sink.entries()) == 1
    stored = row(database, notice)
    assert (DeliveryState(stored.state), stored.sealed, stored.parameters) == (DeliveryState.ACCEPTED, b"", {})


def test_a_hint_about_no_notice_does_nothing(post, sink):
    assert not post.send(4711)
    assert sink.entries() == []


def test_a_deferred_notice_goes_out_later_with_the_same_ids(database, post, sink, clock):
    sink.set_rules(Rule("DOT", "451 4.7.1 come back later", times=1, take=True))
    notice = made(database)
    assert not post.send(notice)
    stored = row(database, notice)
    assert DeliveryState(stored.state) is DeliveryState.DEFERRED
    assert "451 4.7.1" in stored.reason
    wait = stored.due_at - int(clock.now().timestamp() * 1000)
    assert 4 * 60_000 <= wait <= 6 * 60_000
    clock.advance(minutes=7)
    with database.begin() as session:
        assert store.due(session, clock.now()) == [notice]
    assert post.send(notice)
    first, second = sink.entries()
    assert (first.message_id, first.mail_from) == (second.message_id, second.mail_from)
    assert row(database, notice).attempts == 2


def sealed_anew(database, notice, seal):
    """Its address, as `seal` makes it of the id and the octets that are there."""
    stored = row(database, notice)
    with database.begin() as session:
        session.execute(table.update().where(table.c.id == notice).values(sealed=seal(stored.seal_id, stored.sealed)))


def under_a_new_key(seal_id, _sealed):
    return Sealer(Keyring({**KEYRING.secrets, 2: bytes(range(1, 33))})).seal(seal_id, ADDRESS)


def damaged(_seal_id, sealed):
    return sealed[:-1] + bytes((sealed[-1] ^ 1,))


def test_a_notice_whose_key_is_missing_waits_for_it_by_itself(database, post, sink, clock, tmp_path):
    waiting, other = made(database), made(database, once="another")
    sealed_anew(database, waiting, under_a_new_key)

    for _ in range(3):
        assert not post.send(waiting)
        found = row(database, waiting)
        assert DeliveryState(found.state) is DeliveryState.DEFERRED
        assert (found.attempts, found.reason) == (0, "its key is not in the keyring")
        clock.advance(minutes=5)
        with database.begin() as session:
            assert waiting in store.due(session, clock.now())
    assert post.send(other)
    assert len(sink.entries()) == 1
    # All by one journal: each is a megabyte.
    assert len(list((tmp_path / "journals").iterdir())) == 1

    clock.advance(hours=48)
    assert not post.send(waiting)
    assert state(database, waiting) is DeliveryState.EXPIRED
    assert row(database, waiting).sealed == b""


def test_a_notice_whose_address_is_damaged_is_refused_at_once(database, post, sink, tmp_path):
    notice, other = made(database), made(database, once="another")
    sealed_anew(database, notice, damaged)

    assert not post.send(notice)

    found = row(database, notice)
    assert DeliveryState(found.state) is DeliveryState.REFUSED
    assert (found.attempts, found.sealed) == (0, b"")
    assert found.reason.startswith("content: a sealed address does not open")
    assert post.send(other)
    assert len(sink.entries()) == 1
    assert len(list((tmp_path / "journals").iterdir())) == 1


def test_a_notice_is_given_up_after_two_days(database, post, sink, clock):
    sink.set_rules(Rule("RCPT", "451 4.7.1 not now"))
    notice = made(database)
    clock.advance(hours=48)
    assert not post.send(notice)
    assert state(database, notice) is DeliveryState.EXPIRED
    assert row(database, notice).sealed == b""


def test_a_refused_address_is_refused_for_good(database, post, sink):
    sink.set_rules(Rule("RCPT", f"550 5.1.1 <{ADDRESS}> is nobody"))
    notice = made(database)
    assert not post.send(notice)
    stored = row(database, notice)
    assert DeliveryState(stored.state) is DeliveryState.REFUSED
    assert "5.1.1" in stored.reason
    assert "canary" not in stored.reason


def test_what_is_no_address_is_refused_without_asking_the_relay(database, post, sink):
    notice = made(database, address="no address at all")
    assert not post.send(notice)
    assert state(database, notice) is DeliveryState.REFUSED
    assert sink.entries() == []


def test_a_connection_lost_after_the_dot_leaves_the_notice_uncertain(database, post, sink):
    sink.set_rules(Rule("DOT", then="drop"))
    notice = made(database)
    assert not post.send(notice)
    assert state(database, notice) is DeliveryState.UNCERTAIN
    with database.begin() as session:
        assert store.due(session, NOW + 60 * MINUTE) == []


def test_a_relay_that_is_away_costs_no_attempt(database, post, sink, monkeypatch):
    monkeypatch.setattr("service.delivery.postman._ROOM_SECONDS", 0.3)
    sink.stop()
    notice = made(database)
    assert not post.send(notice)
    stored = row(database, notice)
    assert (DeliveryState(stored.state), stored.attempts) == (DeliveryState.PENDING, 0)
    assert stored.reason
    sink.start()


def test_tokens_are_taken_without_waiting_for_them(database, post):
    assert post.send(made(database))
    assert post.pace.taken == [("installation", 2.0, 1)]


def test_without_the_pace_a_notice_waits(database, post, sink):
    post.pace.away = True
    notice = made(database)
    assert not post.send(notice)
    assert state(database, notice) is DeliveryState.PENDING
    post.pace.away = False
    assert post.send(notice)


def test_a_worker_that_must_stop_begins_nothing(database, post, sink):
    notice = made(database)
    post.stopping = True
    assert not post.send(notice)
    assert state(database, notice) is DeliveryState.PENDING


def test_a_notice_that_cannot_be_rendered_waits_for_a_mend(database, post, sink, clock):
    notice = made(database, parameters={"week": "2019-W22"})
    assert not post.send(notice)
    stored = row(database, notice)
    assert DeliveryState(stored.state) is DeliveryState.DEFERRED
    assert "problem" in stored.reason
    clock.advance(hours=50)
    with database.begin() as session:
        store.due(session, clock.now())
    assert not post.send(notice)
    assert state(database, notice) is DeliveryState.EXPIRED


def of_a_new_reader(database, kind, **parameters):
    """A notice as confirming makes it, of a reader who gets the English edition of the newest issue."""
    with database.begin() as session:
        reader = subscribers.find(session, ADDRESS).id
        links = {"preferences": [reader.hex(), 0], "unsubscribe": [reader.hex(), 0]}
        values = {"chain": ["en"], "links": links, "week": "2019-W22", **parameters}
        return store.add(
            session, kind, once=kind, address=ADDRESS, language="en", parameters=values, now=NOW, reader=reader
        )


@pytest.fixture
def released(database, post):
    """The newest issue, which has an approved text in English, and its reader; call it to change that text's status."""

    def store_text(status):
        with database.begin() as session:
            save_issue(session, "2019-W22", status)

    store_text(TextStatus.APPROVED)
    with database.begin() as session:
        values = {"rate": None, "audience": "all", "actor": "test", "release_at": None, "now": NOW}
        mailings.create(session, "2019-W22", state=MailingState.SENT, **values)
        new = {"status": SubscriberStatus.ACTIVE, "consent": "test", "week": JOINED}
        subscribers.add(session, ADDRESS, Chain(("en",)), **new)
    return store_text


def plain(octets):
    return email.message_from_bytes(octets, policy=email.policy.default).get_body(("plain",)).get_content()


def test_the_newest_issue_and_the_welcome_that_leads_to_it_go_out(database, post, sink, released):
    assert post.send(of_a_new_reader(database, NEWEST_ISSUE, text_only=False))
    assert post.send(of_a_new_reader(database, WELCOME))
    assert [entry.recipient for entry in sink.entries()] == [ADDRESS] * 2
    assert "A body." in plain(sink.messages[0])
    assert "/en/issues/2019-W22/" in plain(sink.messages[1])


@pytest.mark.parametrize("status", [TextStatus.READY, TextStatus.DRAFT])
def test_an_issue_whose_texts_were_taken_back_is_settled_at_once_and_the_welcome_goes_out(
    database, post, sink, clock, released, status
):
    issue, welcome = of_a_new_reader(database, NEWEST_ISSUE, text_only=False), of_a_new_reader(database, WELCOME)
    released(status)
    assert not post.send(issue)
    settled = row(database, issue)
    assert (DeliveryState(settled.state), settled.reason) == (DeliveryState.SKIPPED, "no edition")
    # Nothing names its reader any more.
    assert (settled.sealed, settled.parameters) == (b"", {})
    assert post.send(welcome)
    (entry,) = sink.entries()
    assert entry.recipient == ADDRESS
    assert "/issues/" not in plain(sink.messages[0])
    assert "/u/" in plain(sink.messages[0])
    # Approved again, it is an issue like any other: nobody waits for it here.
    released(TextStatus.APPROVED)
    clock.advance(hours=1)
    with database.begin() as session:
        assert store.due(session, clock.now()) == []
    assert not post.send(issue)
    assert len(sink.entries()) == 1


def test_an_issue_that_cannot_be_printed_though_its_texts_are_there_waits_for_a_mend(
    database, post, sink, clock, released
):
    notice = of_a_new_reader(database, NEWEST_ISSUE, text_only=False)
    with database.begin() as session:
        save_publication(session, subjects={})
    assert not post.send(notice)
    stored = row(database, notice)
    assert DeliveryState(stored.state) is DeliveryState.DEFERRED
    assert "subject" in stored.reason
    clock.advance(hours=1)
    with database.begin() as session:
        save_publication(session)
        assert store.due(session, clock.now()) == [notice]
    assert post.send(notice)


def test_a_gate_of_which_nobody_knows_whether_it_was_committed_is_taken_back(database, post, sink, monkeypatch):
    notice = made(database)
    untouched = NoticeSender._transaction
    lost = []

    async def losing_the_answer(self, work):
        value = await untouched(self, work)
        if state(database, notice) is DeliveryState.ATTEMPTING and not lost:
            lost.append(True)
            raise DatabaseAwayError("the answer to the commit was lost")
        return value

    monkeypatch.setattr(NoticeSender, "_transaction", losing_the_answer)
    assert not post.send(notice)
    assert (lost, state(database, notice), sink.entries()) == ([True], DeliveryState.PENDING, [])
    assert post.send(notice)


@pytest.mark.parametrize(
    ("lost", "left", "mailed"),
    [("take_back", DeliveryState.PENDING, 0), ("record", DeliveryState.ACCEPTED, 1)],
    ids=["gated", "spoken"],
)
def test_a_worker_that_must_stop_while_the_database_is_away_leaves_the_rest_to_its_journal(
    database, post, sink, clock, monkeypatch, lost, left, mailed
):
    monkeypatch.setattr("service.delivery.patience._STOP_SECONDS", 0.0)
    notice = made(database)
    untouched = NoticeSender._transaction

    async def losing_the_answer(self, work):
        value = await untouched(self, work)
        if lost == "take_back" and state(database, notice) is DeliveryState.ATTEMPTING:
            raise DatabaseAwayError("the answer to the commit was lost")
        return value

    def away(*_args, **_more):
        post.stopping = True
        raise DatabaseAwayError("the database is away")

    with monkeypatch.context() as without:
        without.setattr(NoticeSender, "_transaction", losing_the_answer)
        without.setattr(store, lost, away)
        with pytest.raises(DatabaseAwayError):
            post.send(notice)
    assert state(database, notice) is DeliveryState.ATTEMPTING
    post.close_lines()

    Recovery(database, post.folder, clock, 3600.0).settle_journals()

    assert (state(database, notice), len(sink.entries())) == (left, mailed)


def test_the_journal_knows_a_notice_by_a_number_no_delivery_has(database, post, tmp_path):
    notice = made(database)
    post.send(notice)
    (journal,) = autopsy.unsettled(tmp_path)
    contents = autopsy.read(journal)
    assert {record.delivery_id for record in contents.records} == {-notice}
    assert contents.verdict(-notice, 1).fate is Fate.REPLIED


def test_sending_logs_no_address(database, post, capfd):
    post.send(made(database))
    captured = capfd.readouterr()
    assert "canary" not in captured.out + captured.err


@contextmanager
def careful_post(database, clock, folder, sink):
    """A notice sender that holds the journals of its host against the database before it claims."""
    with database.begin() as session:
        save_publication(session)
    compared = books(database, folder, clock)
    compared.compare(Look.ALL)
    post = Post(database, clock, folder, sink, compared)
    yield post
    post.close()


@pytest.fixture
def careful(database, clock, tmp_path, sink):
    with careful_post(database, clock, tmp_path, sink) as post:
        yield post


def sent_and_lost(post, database, *, swept):
    """A notice that the relay took, and of which the database, set back since, knows nothing."""
    notice, time = made(database), Time(database)
    post.ready()
    time.keep()
    if swept:
        post.sender.books.compare()
    assert post.send(notice)
    time.go_back()
    assert state(database, notice) is DeliveryState.PENDING
    return notice


def test_a_notice_of_a_lost_time_is_not_sent_again(database, careful, sink):
    notice = sent_and_lost(careful, database, swept=True)
    assert not careful.send(notice)
    assert (state(database, notice), len(sink.entries())) == (DeliveryState.UNCERTAIN, 1)


@pytest.fixture(params=[dt.timedelta(days=2), -dt.timedelta(days=2)], ids=["ahead", "behind"])
def wrong(request, careful, clock, monkeypatch):
    """Its host, whose clock is wrong: it dates the journal."""

    class Wrong:
        def now(self):
            return clock.now() + request.param

    careful.sender.books.machine = Wrong()
    monkeypatch.setattr("service.mail.journal._time", lambda: Wrong().now().timestamp())
    return careful


def test_a_notice_of_a_lost_time_is_known_whatever_the_hosts_clock_says(database, wrong, sink):
    notice = sent_and_lost(wrong, database, swept=True)
    assert not wrong.send(notice)
    assert (state(database, notice), len(sink.entries())) == (DeliveryState.UNCERTAIN, 1)


def test_a_later_notice_that_bears_the_number_of_a_lost_one_is_sent(database, wrong, sink, clock):
    notice = sent_and_lost(wrong, database, swept=True)
    clock.advance(hours=1)
    with database.begin() as session:
        session.execute(table.update().values(made_at=stored(clock.now())))
    assert wrong.send(notice)
    assert len(sink.entries()) == 2


def test_a_copy_that_answers_in_place_of_the_server_gives_out_no_notice_twice(
    postgresql_database, clock, tmp_path, sink, monkeypatch
):
    with careful_post(postgresql_database, clock, tmp_path, sink) as post:
        notice = sent_and_lost(post, postgresql_database, swept=False)
        replaced_in_silence(postgresql_database, monkeypatch)
        assert not post.send(notice)
        assert (state(postgresql_database, notice), len(sink.entries())) == (DeliveryState.UNCERTAIN, 1)


def test_a_worker_that_must_stop_does_not_wait_for_a_relay_that_is_away(database, post, sink):
    notice = made(database)
    sink.stop()
    threading.Timer(0.5, lambda: setattr(post, "stopping", True)).start()
    began = time.monotonic()

    post.send(notice)

    assert time.monotonic() - began < 15
    assert state(database, notice) is DeliveryState.PENDING
