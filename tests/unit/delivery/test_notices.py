import asyncio
import datetime as dt
import email
import email.policy
from dataclasses import dataclass, field

import pytest

from service.audience.reader_notices import GOODBYE, MOVE, MOVED, REQUEST, WELCOME, tell
from service.delivery import notices
from service.delivery.limits import Limits
from service.delivery.line import LineKeeper, open_line
from service.delivery.notice_links import NoticeLinks
from service.delivery.offload import Offload
from service.delivery.postman import NoticeSender
from service.delivery.press import Press
from service.delivery.recovery import Recovery
from service.domain.chains import Chain
from service.domain.delivery import DeliveryState
from service.domain.keys import Purpose
from service.domain.limits import INSTALLATION, Limit
from service.domain.replies import ReplyClass
from service.domain.signup import NEWEST_ISSUE
from service.domain.tokens import ConfirmationSigner, DeliverySigner, LinkSigner, RequestSigner
from service.mail import autopsy
from service.mail.autopsy import Fate, Verdict
from service.mail.loop import new_event_loop
from service.mail.relay import Relay, Tls
from service.pace.bucket import PaceAwayError
from service.queue import SEND_NOTICE
from service.render.templates import load_templates
from service.store import DatabaseAwayError
from service.store import notices as store
from service.store.tables import notices as table
from tests.conftest import KEYRING
from tests.factories import OPERATORS, save_publication
from tests.fakes import FakeBell
from tests.smtp_sink import Rule, SmtpSink

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
ADDRESS = "operator-canary@example.org"
MINUTE = dt.timedelta(minutes=1)
PARAMETERS = {"week": "2019-W22", "problem": "the relay refuses everything"}


def enqueue(session, bell=None, *, once="trouble:1", address=ADDRESS, now=NOW, parameters=PARAMETERS):
    return notices.enqueue(
        session,
        bell or FakeBell(),
        notices.MAILING_TROUBLE,
        once=once,
        address=address,
        language="en",
        parameters=parameters,
        now=now,
    )


def made(database, **values):
    with database.begin() as session:
        return enqueue(session, **values)


def row(database, notice):
    with database.read() as session:
        return session.execute(table.select().where(table.c.id == notice)).one()


def state(database, notice):
    return DeliveryState(row(database, notice).state)


# Made once


def test_a_notice_is_rung_once_it_is_committed(database):
    bell = FakeBell()
    with database.begin() as session:
        notice = enqueue(session, bell)
        assert bell.rung == []
    assert bell.rung == [(SEND_NOTICE, notice)]


def test_a_notice_that_is_rolled_back_is_not_rung(database):
    bell = FakeBell()
    with pytest.raises(ZeroDivisionError), database.begin() as session:  # noqa: PT012
        enqueue(session, bell)
        1 / 0  # noqa: B018
    assert bell.rung == []


def test_asking_twice_for_a_notice_makes_one(database):
    bell = FakeBell()
    with database.begin() as session:
        first = enqueue(session, bell)
        assert enqueue(session, bell) is None
        assert enqueue(session, bell, once="trouble:2") not in {None, first}
    assert len(bell.rung) == 2


def test_the_row_holds_no_address_that_can_be_read(database):
    notice = made(database, parameters={"words": [f"ask {ADDRESS}", {"to": ADDRESS}], "count": 2})
    stored = row(database, notice)
    assert "canary" not in repr(tuple(stored))
    assert stored.parameters == {"words": ["ask <address>", {"to": "<address>"}], "count": 2}
    with database.read() as session:
        assert session.sealer.open(stored.seal_id, stored.sealed) == ADDRESS


def test_every_operator_is_told_once_in_the_publications_first_language(database):
    bell = FakeBell()

    def tell():
        with database.begin() as session:
            known = save_publication(session, languages=("be", "ru", "en"))
            return notices.tell_operators(
                session, bell, notices.MAILING_TROUBLE, once="m:1", parameters=PARAMETERS, publication=known, now=NOW
            )

    assert (tell(), tell()) == (len(OPERATORS), 0)
    with database.read() as session:
        rows = session.execute(table.select()).all()
    assert {stored.language for stored in rows} == {"be"}
    assert all("@" not in stored.once for stored in rows)
    assert len(bell.rung) == len(OPERATORS)


# Claimed by one


def test_one_of_two_workers_gets_a_notice(database):
    notice = made(database)
    with database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        assert store.claim(session, notice, sender=2, lease_seconds=60) is None
    assert (held.id, held.kind, held.attempts) == (notice, notices.MAILING_TROUBLE, 0)


def test_a_worker_whose_lease_ended_passes_no_gate(database):
    notice = made(database)
    with database.begin() as session:
        slow = store.claim(session, notice, sender=1, lease_seconds=0)
        quick = store.claim(session, notice, sender=2, lease_seconds=60)
        assert store.pass_gate(session, slow, sender=1) is None
        gated = store.pass_gate(session, quick, sender=1)
        assert (gated.attempt, gated.address) == (1, ADDRESS)
        assert store.pass_gate(session, quick, sender=1) is None
        assert not store.still_open(session, slow, 1)
        assert store.still_open(session, quick, 1)
        store.take_back(session, slow, due_at=NOW)
    assert state(database, notice) is DeliveryState.ATTEMPTING


def test_an_address_shows_in_no_representation(database):
    notice = made(database)
    with database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        gated = store.pass_gate(session, held, sender=1)
    assert "canary" not in repr((held, gated))


# Rung again


def test_a_lost_hint_costs_a_minute(database):
    notice = made(database)
    bell = FakeBell()

    def sweep(now):
        with database.begin() as session:
            return notices.ring_due(session, bell, now=now)

    assert sweep(NOW + 0.9 * MINUTE) == 0
    assert sweep(NOW + MINUTE) == 1
    assert bell.heard(SEND_NOTICE) == [notice]
    assert sweep(NOW + 1.5 * MINUTE) == 0
    assert sweep(NOW + 2 * MINUTE) == 1


def test_a_notice_in_somebodys_hands_is_not_rung(database):
    notice = made(database)
    with database.begin() as session:
        store.claim(session, notice, sender=1, lease_seconds=3600)
        assert store.due(session, NOW + 2 * MINUTE) == []


def test_a_deferred_notice_is_rung_when_it_is_due(database):
    notice = made(database)
    with database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        store.pass_gate(session, held, sender=1)
        assert store.record(session, notice, 1, DeliveryState.DEFERRED, due_at=NOW + 30 * MINUTE, reason="4.7.1")
        assert store.claim(session, notice, sender=1, lease_seconds=60) is None
        assert store.due(session, NOW + 29 * MINUTE) == []
        assert store.due(session, NOW + 30 * MINUTE) == [notice]
        assert store.claim(session, notice, sender=1, lease_seconds=60) is not None


READER = bytes(range(16))
DAY_MS = 24 * 3600 * 1000


def told(database, kind, about=b"a" * 16, reader=READER):
    """What the reader is told, as use-cases tell it; the id of the notice."""
    bell = FakeBell()
    with database.begin() as session:
        links = {"preferences": [reader.hex(), 0]}
        tell(
            session,
            bell,
            kind,
            about=about,
            address=ADDRESS,
            chain=Chain(("be",)),
            links=links,
            reader=reader,
            now=NOW,
        )
    return next(iter(bell.heard(SEND_NOTICE)), None)


def attempted(database, notice, state=None):
    """The notice is being written; with a `state` it was, and that came of it."""
    with database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        store.pass_gate(session, held, sender=1)
        if state is not None:
            assert store.record(session, notice, 1, state, due_at=NOW + MINUTE)


@pytest.mark.parametrize("state", [DeliveryState.ACCEPTED, DeliveryState.REFUSED, DeliveryState.EXPIRED])
@pytest.mark.parametrize("kind", [WELCOME, GOODBYE, REQUEST, MOVE, MOVED, NEWEST_ISSUE])
def test_of_a_notice_that_is_settled_neither_reader_nor_hour_is_left_and_none_comes_twice(database, kind, state):
    notice = told(database, kind)
    attempted(database, notice, state)
    stored = row(database, notice)
    assert READER.hex() not in repr(stored)
    assert repr(READER) not in repr(stored)
    assert (stored.made_at % DAY_MS, stored.due_at % DAY_MS) == (0, 0)
    assert 0 <= int(NOW.timestamp() * 1000) - stored.made_at < DAY_MS
    assert told(database, kind) is None
    assert told(database, kind, about=b"b" * 16) is not None


@pytest.mark.parametrize("state", ["pending", "attempting", "deferred", "uncertain"])
def test_whatever_waits_for_a_reader_who_is_erased_goes_and_what_is_heard_of_it_counts_no_more(database, state):
    notice, others = told(database, WELCOME), told(database, WELCOME, about=b"c" * 16, reader=b"o" * 16)
    if state != "pending":
        attempted(database, notice, None if state == "attempting" else DeliveryState[state.upper()])
    with database.begin() as session:
        store.forget(session, READER)
        assert not store.record(session, notice, 1, DeliveryState.DEFERRED, due_at=NOW + MINUTE)
    stored = row(database, notice)
    assert (DeliveryState(stored.state), stored.sealed, stored.made_at % DAY_MS) == (DeliveryState.SKIPPED, b"", 0)
    assert READER.hex() not in repr(stored)
    assert DeliveryState(row(database, others).state) is DeliveryState.PENDING
    with database.begin() as session:
        assert store.due(session, NOW + 60 * MINUTE) == [others]


def test_only_final_notices_are_forgotten(database):
    kept, done = made(database), made(database, once="trouble:2")
    with database.begin() as session:
        held = store.claim(session, done, sender=1, lease_seconds=60)
        store.pass_gate(session, held, sender=1)
        store.record(session, done, 1, DeliveryState.ACCEPTED, due_at=NOW)
        # Of a final one, the day is known.
        today = NOW.replace(hour=0)
        assert store.prune(session, today) == 0
        assert store.prune(session, today + MINUTE) == 1
    with database.read() as session:
        assert [stored.id for stored in session.execute(table.select())] == [kept]


# Recovered


@dataclass
class Contents:
    """A journal as read back, as far as notices look into it."""

    sender_id: int = 1
    verdicts: dict = field(default_factory=dict)

    def verdict(self, number, attempt):
        return self.verdicts.get((number, attempt), Verdict(Fate.NOT_SENT))


def left_open(database):
    notice = made(database)
    with database.begin() as session:
        store.pass_gate(session, store.claim(session, notice, sender=1, lease_seconds=3600), sender=1)
    return notice


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (Verdict(Fate.NOT_SENT), DeliveryState.PENDING),
        (Verdict(Fate.UNCERTAIN), DeliveryState.UNCERTAIN),
        (Verdict(Fate.REPLIED, ReplyClass.ACCEPTED, 250), DeliveryState.ACCEPTED),
        (Verdict(Fate.REPLIED, ReplyClass.TRANSIENT, 451), DeliveryState.DEFERRED),
        (Verdict(Fate.REPLIED, ReplyClass.HARD, 550, "5.1.1"), DeliveryState.REFUSED),
    ],
)
def test_the_journal_of_a_dead_worker_decides(database, verdict, expected):
    notice = left_open(database)
    contents = Contents(verdicts={(-notice, 1): verdict})
    with database.begin() as session:
        assert notices.settle_journal(session, contents, now=NOW) == 1
    assert state(database, notice) is expected
    wiped = expected in {DeliveryState.ACCEPTED, DeliveryState.REFUSED}
    assert (row(database, notice).sealed == b"") is wiped


def test_the_journal_of_another_sender_decides_nothing(database):
    notice = left_open(database)
    with database.begin() as session:
        assert notices.settle_journal(session, Contents(sender_id=2), now=NOW) == 0
    assert state(database, notice) is DeliveryState.ATTEMPTING


def test_a_host_that_stays_away_leaves_notices_uncertain_until_it_returns(database):
    notice = left_open(database)
    with database.begin() as session:
        assert notices.give_up(session, 1, now=NOW) == 1
        assert notices.give_up(session, 1, now=NOW) == 0
    assert state(database, notice) is DeliveryState.UNCERTAIN
    contents = Contents(verdicts={(-notice, 1): Verdict(Fate.REPLIED, ReplyClass.ACCEPTED, 250)})
    with database.begin() as session:
        notices.settle_journal(session, contents, now=NOW)
    assert state(database, notice) is DeliveryState.ACCEPTED


# Sent


class FakePace:
    def __init__(self):
        self.taken = []
        self.away = False

    def reserve_all(self, rates, count):
        if self.away:
            raise PaceAwayError("Valkey is away")
        self.taken += [(bucket, rate, count) for bucket, rate in rates.items()]
        return dict.fromkeys(rates, 60.0)


class Post:
    """A notice sender of one process over a real relay, each `send` on its own loop's time."""

    def __init__(self, database, clock, folder, sink):
        self.database, self.folder, self.sink = database, folder, sink
        self.stopping = False
        self.pace = FakePace()
        self.loop = new_event_loop()
        self.offload = Offload()
        self.lines = LineKeeper(database, [self.open_line])
        self.sender = NoticeSender(
            database=database,
            offload=self.offload,
            pace=self.pace,
            press=Press(load_templates().catalogues, None),
            delivery_ids=DeliverySigner(KEYRING),
            links=NoticeLinks(
                ConfirmationSigner(KEYRING),
                LinkSigner(KEYRING, Purpose.PREFERENCES),
                LinkSigner(KEYRING, Purpose.UNSUBSCRIBE),
                RequestSigner(KEYRING),
            ),
            clock=clock,
            lines=self.lines,
            stopping=lambda: self.stopping,
            limits=Limits({INSTALLATION: Limit(rate=2.0)}),
        )

    def open_line(self):
        relay = Relay("127.0.0.1", self.sink.port, Tls.NONE, connections=2)
        return open_line(self.database, self.folder, relay, helo_name="weekly.example.org")

    def send(self, notice):
        return self.loop.run_until_complete(asyncio.wait_for(self.sender.send(notice), 60))

    def close_lines(self):
        self.loop.run_until_complete(self.lines.close())

    def close(self):
        self.close_lines()
        self.offload.close()
        self.loop.close()


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
