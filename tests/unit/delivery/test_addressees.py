"""Notices that wait: what was asked when one was made is asked anew at its gate, of the reader as the reader is then."""

import pytest

from service.audience.adding import add
from service.audience.confirming import confirm
from service.audience.erasure import erase
from service.audience.importing import import_file
from service.audience.reminding import remind
from service.audience.requesting import request
from service.audience.signup import answer, sign_up
from service.audience.suppressing import suppress, unsuppress
from service.audience.unsubscribe import unsubscribe
from service.domain.chains import Chain
from service.domain.delivery import DeliveryState, SkipReason
from service.domain.mailing import MailingState
from service.domain.reader_notices import CONFIRM, GOODBYE, MOVE, MOVED, REMINDER, REQUEST
from service.domain.signup import NEWEST_ISSUE, WELCOME
from service.domain.subscriber import RequestPurpose, SubscriberStatus, SuppressionReason
from service.domain.weeks import Week
from service.queue import ANSWER_SIGNUP, SEND_NOTICE
from service.store import confirmations, mailings, requests, subscribers, suppressions
from service.store import notices as store
from service.store.departures import DepartureLog
from service.store.tables import mailings as mailing_table
from service.store.tables import notices as table
from tests.factories import save_issue, save_publication
from tests.fakes import FakeBell
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.audience.test_signup import DAY, HOUR, LEAVING, LINKS
from tests.unit.delivery.post import NOW, Post, row

ADDRESS, NEW = "ann@reader.test", "ann-new@reader.test"
EN = Chain(("en",))
BY = {"actor": "test", "now": NOW}
WEEK = Week.of(NOW.date())


class House:
    """What readers and operators do, each a transaction of its own, while no worker runs."""

    def __init__(self, database, folder):
        self.database, self.folder = database, folder
        self.bell = FakeBell()
        self.departures = DepartureLog(folder / "departures.log")
        with database.begin() as session:
            save_publication(session)
            save_issue(session, "2019-W22")
            values = {"rate": None, "audience": "all", "actor": "test", "release_at": None, "now": NOW}
            mailings.create(session, "2019-W22", state=MailingState.SENT, **values)
            session.execute(mailing_table.update().values(slices=1, planned_slices=1))

    def do(self, work, *arguments, **values):
        with self.database.begin() as session:
            return work(session, *arguments, **values)

    def reader(self, address=ADDRESS):
        return self.do(subscribers.find, address)

    def sign_up(self, address=ADDRESS, now=NOW, mover=None):
        """The id of the confirmation that is asked for."""
        self.do(sign_up, self.bell, address, EN, now=now, newest=True, mover=mover)
        assert self.do(answer, self.bell, self.bell.heard(ANSWER_SIGNUP)[-1], now=now)
        return bytes.fromhex(self.newest().parameters["links"]["confirm"][0])

    def confirm(self, confirmation, now=NOW):
        hour = self.do(confirmations.hour_signed, confirmation)
        return self.do(confirm, self.bell, LINKS, self.departures, LINKS.sign(confirmation, hour), now=now)

    def leave(self, address=ADDRESS):
        token = LEAVING.sign(self.reader(address).id)
        self.do(unsubscribe, self.bell, LEAVING, self.departures, token, now=NOW)

    def suppress(self, address=ADDRESS, reason=SuppressionReason.OPERATOR):
        assert self.do(suppress, self.departures, address, reason, **BY)

    def unsuppress(self, address=ADDRESS):
        self.do(unsuppress, self.departures, address, **BY)

    def erase(self, address=ADDRESS):
        self.do(erase, self.departures, self.reader(address), **BY)

    def bounced(self, address=ADDRESS):
        """As the outcome of a delivery leaves a mailbox that is gone."""
        reader = self.reader(address)
        self.do(subscribers.set_status, reader.id, SubscriberStatus.BOUNCED, week=WEEK)
        self.do(suppressions.add, reader.address_hash, SuppressionReason.BOUNCED, WEEK)

    def complained(self, address=ADDRESS):
        """As a file of a former system says."""
        path = self.folder / "list.csv"
        path.write_text(f"email,languages,status\n{address},en,complained\n")
        import_file(self.database, self.departures, path, languages=None, consent=None, **BY)
        assert self.do(suppressions.find, self.reader(address).address_hash).reason is SuppressionReason.COMPLAINED

    def newest(self):
        with self.database.read() as session:
            return session.execute(table.select().order_by(table.c.id.desc())).first()

    def waiting(self, kind):
        """The id of the notice of that kind that was made last."""
        with self.database.read() as session:
            return session.scalar(table.select().where(table.c.kind == kind).order_by(table.c.id.desc()))

    def passes(self, notice, now=NOW):
        """What the gate says, as a worker asks it."""
        with self.database.begin() as session:
            held = store.claim(session, notice, sender=1, lease_seconds=60)
            return store.pass_gate(session, held, sender=1, now=now)

    def expect(self, notice, reason, now=NOW):
        """The gate settles the notice for that reason, and nothing tells whose it was; with None it lets it through."""
        verdict = self.passes(notice, now)
        settled = row(self.database, notice)
        if reason is None:
            assert verdict.attempt == settled.attempts == 1
            assert DeliveryState(settled.state) is DeliveryState.ATTEMPTING
            return
        assert (verdict, settled.reason) == (reason, reason.value)
        assert (DeliveryState(settled.state), settled.attempts, settled.lease_until) == (DeliveryState.SKIPPED, 0, 0)
        assert (settled.sealed, settled.parameters) == (b"", {})
        assert (settled.made_at % DAY_MS, settled.due_at % DAY_MS) == (0, 0)
        with self.database.begin() as session:
            assert notice not in store.due(session, NOW + 30 * DAY)


DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def house(database, tmp_path):
    return House(database, tmp_path)


@pytest.fixture
def sink(tmp_path):
    with SmtpSink(tmp_path / "ledger") as running:
        yield running


@pytest.fixture
def post(house, clock, tmp_path, sink):
    made = Post(house.database, clock, tmp_path, sink)
    yield made
    made.close()


# What a confirmed sign-up brings


def test_who_has_left_before_the_workers_started_gets_the_goodbye_alone(house, post, sink):
    house.confirm(house.sign_up())
    house.leave()
    for notice in house.bell.heard(SEND_NOTICE):
        post.send(notice)
    kinds = [row(house.database, notice) for notice in house.bell.heard(SEND_NOTICE)]
    assert {one.kind: (DeliveryState(one.state).label, one.reason) for one in kinds} == {
        CONFIRM: ("skipped", "cancelled"),
        NEWEST_ISSUE: ("skipped", "unsubscribed"),
        WELCOME: ("skipped", "unsubscribed"),
        GOODBYE: ("accepted", None),
    }
    assert len(sink.entries()) == 1


def test_who_leaves_while_the_relay_says_later_is_mailed_no_welcome_when_it_takes_letters(house, post, sink, clock):
    house.confirm(house.sign_up())
    welcome = house.waiting(WELCOME)
    sink.set_rules(Rule("RCPT", "451 4.7.1 come back later", times=1))
    assert not post.send(welcome)
    assert DeliveryState(row(house.database, welcome).state) is DeliveryState.DEFERRED
    house.leave()
    clock.advance(hours=1)
    assert welcome in house.do(store.due, clock.now())
    assert not post.send(welcome)
    assert (row(house.database, welcome).reason, sink.entries()) == ("unsubscribed", [])


def test_who_leaves_between_the_gate_and_the_wire_is_stopped_when_the_gate_grew_old(house):
    house.confirm(house.sign_up())
    with house.database.begin() as session:
        held = store.claim(session, house.waiting(WELCOME), sender=1, lease_seconds=60)
        gated = store.pass_gate(session, held, sender=1, now=NOW)
        assert store.still_open(session, held, gated.attempt, now=NOW)
    house.leave()
    assert not house.do(store.still_open, held, gated.attempt, now=NOW)


@pytest.mark.parametrize("kind", [WELCOME, NEWEST_ISSUE])
@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (None, None),
        (House.leave, SkipReason.UNSUBSCRIBED),
        (House.suppress, SkipReason.SUPPRESSED),
        (House.bounced, SkipReason.SUPPRESSED),
        (House.complained, SkipReason.SUPPRESSED),
    ],
)
def test_a_new_reader_is_mailed_only_while_active_and_not_suppressed(house, kind, deed, reason):
    house.confirm(house.sign_up())
    notice = house.waiting(kind)
    if deed:
        deed(house)
    house.expect(notice, reason)


@pytest.mark.parametrize("kind", [WELCOME, NEWEST_ISSUE])
def test_a_suppression_that_was_lifted_again_holds_nothing_up(house, kind):
    house.confirm(house.sign_up())
    house.suppress()
    house.unsuppress()
    house.expect(house.waiting(kind), None)


def test_who_bounced_and_whose_suppression_is_gone_is_still_not_active(house):
    house.confirm(house.sign_up())
    reader = house.reader()
    house.do(subscribers.set_status, reader.id, SubscriberStatus.BOUNCED, week=WEEK)
    house.expect(house.waiting(WELCOME), SkipReason.INACTIVE)


def test_who_has_moved_gets_no_welcome_at_the_address_that_was_left(house):
    house.confirm(house.sign_up())
    welcome, newest, reader = house.waiting(WELCOME), house.waiting(NEWEST_ISSUE), house.reader()
    house.confirm(house.sign_up(NEW, mover=(reader.id, reader.epoch)))
    assert house.reader(NEW).id == reader.id
    house.expect(welcome, SkipReason.ERASED)
    # Somebody else may live there since.
    house.confirm(house.sign_up(now=NOW + DAY), now=NOW + DAY)
    house.expect(newest, SkipReason.ERASED)
    house.expect(house.waiting(WELCOME), None)


# Questions to an address


def ask(house):
    house.sign_up()
    return house.waiting(CONFIRM)


def remind_of(house):
    confirmation = house.sign_up()
    assert house.do(remind, house.bell, confirmation, now=NOW + 25 * HOUR)
    return house.waiting(REMINDER)


@pytest.mark.parametrize("made", [ask, remind_of])
@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (None, None),
        (House.suppress, SkipReason.SUPPRESSED),
        (House.complained, SkipReason.SUPPRESSED),
        (House.leave, SkipReason.CANCELLED),
    ],
)
def test_a_question_is_not_put_where_it_was_withdrawn_or_may_not_be_put(house, made, deed, reason):
    notice = made(house)
    if deed:
        deed(house)
    house.expect(notice, reason)


def test_nobody_is_asked_on_behalf_of_who_was_erased(house):
    asked = ask(house)
    house.erase()
    house.expect(asked, SkipReason.CANCELLED)


def test_a_question_that_lapsed_is_not_put(house):
    asked = ask(house)
    house.do(confirmations.lapse, NOW + 4 * DAY)
    house.expect(asked, SkipReason.CANCELLED)


def test_who_has_confirmed_by_another_mail_is_neither_asked_nor_reminded(house):
    reminder, asked = remind_of(house), house.waiting(CONFIRM)
    house.confirm(house.sign_up(now=NOW + 2 * DAY), now=NOW + 2 * DAY)
    house.expect(reminder, SkipReason.CANCELLED)
    house.expect(asked, SkipReason.CANCELLED)


def test_who_was_added_by_an_operator_meanwhile_is_not_reminded(house):
    reminder = remind_of(house)
    house.do(subscribers.set_status, house.reader().id, SubscriberStatus.ACTIVE, week=WEEK)
    house.expect(reminder, SkipReason.CANCELLED)


@pytest.mark.parametrize("deed", [House.leave, House.erase, House.bounced])
def test_who_left_was_erased_or_bounced_and_signs_up_anew_is_asked(house, deed):
    house.do(add, ADDRESS, EN, consent="a form", **BY)
    deed(house)
    house.expect(ask(house), None)


# Moves


@pytest.fixture
def moving(house):
    """A reader who asked for another address; the notice to it."""
    reader, _ = house.do(add, ADDRESS, EN, consent="a form", **BY)
    house.sign_up(NEW, mover=(reader.id, reader.epoch))
    return house.waiting(MOVE)


def moves_elsewhere(house, old=ADDRESS, new="ann-third@reader.test"):
    reader = house.reader(old)
    house.confirm(house.sign_up(new, mover=(reader.id, reader.epoch)))


def moves_there_and_back(house):
    moves_elsewhere(house)
    moves_elsewhere(house, "ann-third@reader.test", ADDRESS)
    assert house.reader().epoch == 2


def bounces_after_asking(house):
    house.do(subscribers.set_status, house.reader().id, SubscriberStatus.BOUNCED, week=WEEK)


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (None, None),
        (lambda house: house.suppress(NEW), SkipReason.SUPPRESSED),
        (House.suppress, SkipReason.SUPPRESSED),
        (House.leave, SkipReason.CANCELLED),
        (House.erase, SkipReason.ERASED),
        (bounces_after_asking, SkipReason.INACTIVE),
        (moves_elsewhere, SkipReason.CANCELLED),
        (moves_there_and_back, SkipReason.CANCELLED),
        (lambda house: house.do(add, NEW, EN, consent="a form", **BY), SkipReason.CANCELLED),
    ],
    ids=[
        "stays",
        "suppressed",
        "old one suppressed",
        "leaves",
        "erased",
        "bounces",
        "moves elsewhere",
        "and back",
        "taken",
    ],
)
def test_a_new_address_is_asked_only_while_its_reader_may_move_there(house, moving, deed, reason):
    if deed:
        deed(house)
    if reason is SkipReason.ERASED:
        # Forgotten at once, with the reader.
        assert row(house.database, moving).reason == reason.value
    else:
        house.expect(moving, reason)


@pytest.mark.parametrize("reason", [SuppressionReason.ERASED, SuppressionReason.BOUNCED])
def test_a_new_address_that_a_confirmation_frees_is_asked(house, moving, reason):
    house.do(lambda session: suppressions.add(session, session.sealer.address_hash(NEW), reason, WEEK))
    house.expect(moving, None)


@pytest.mark.parametrize(
    ("deed", "reason"), [(None, None), (House.suppress, SkipReason.SUPPRESSED)], ids=["moved", "suppressed"]
)
def test_the_address_that_was_left_is_told_though_nothing_else_is_mailed_there(house, deed, reason):
    reader, _ = house.do(add, ADDRESS, EN, consent="a form", **BY)
    house.confirm(house.sign_up(NEW, mover=(reader.id, reader.epoch)))
    if deed:
        deed(house)
    house.expect(house.waiting(MOVED), reason)


# Requests


def requested(house, purpose):
    house.do(add, ADDRESS, EN, consent="a form", **BY)
    house.do(request, house.bell, house.reader(), purpose, now=NOW)
    return house.waiting(REQUEST)


def use_up(house):
    """As pressing the button of a link does whose mail was taken, though its worker never heard so."""
    row_id = bytes.fromhex(house.newest().parameters["links"]["request"][0])
    assert house.do(requests.use, row_id)


@pytest.mark.parametrize(
    ("purpose", "deed", "reason"),
    [
        (RequestPurpose.DATA, None, None),
        (RequestPurpose.ADDRESS, None, None),
        (RequestPurpose.ADDRESS, House.leave, SkipReason.UNSUBSCRIBED),
        (RequestPurpose.DATA, House.leave, None),
        (RequestPurpose.ERASE, House.leave, None),
        (RequestPurpose.ERASE, House.suppress, SkipReason.SUPPRESSED),
        (RequestPurpose.ERASE, House.bounced, SkipReason.SUPPRESSED),
        (RequestPurpose.ERASE, bounces_after_asking, SkipReason.INACTIVE),
        (RequestPurpose.DATA, moves_elsewhere, SkipReason.SUPPRESSED),
        (RequestPurpose.DATA, moves_there_and_back, SkipReason.CANCELLED),
        (RequestPurpose.DATA, use_up, SkipReason.CANCELLED),
        (RequestPurpose.DATA, lambda house: house.do(requests.prune, NOW + 2 * DAY), SkipReason.CANCELLED),
    ],
)
def test_a_link_is_mailed_only_while_its_request_stands(house, purpose, deed, reason):
    notice = requested(house, purpose)
    if deed:
        deed(house)
    house.expect(notice, reason)


# Links that hold no more: a mail with one helps nobody, however long it waited for a worker or a relay


@pytest.mark.parametrize(
    ("made", "hours"),
    [
        (ask, 72),
        (remind_of, 72),
        (lambda house: requested(house, RequestPurpose.ERASE), 24),
    ],
    ids=["confirm", "reminder", "request"],
)
@pytest.mark.parametrize("late", [False, True])
def test_no_link_is_mailed_that_works_no_more(house, made, hours, late):
    notice = made(house)
    house.expect(notice, SkipReason.CANCELLED if late else None, NOW + (hours + late) * HOUR)


@pytest.mark.parametrize("late", [False, True])
def test_no_link_to_move_is_mailed_that_works_no_more(house, moving, late):
    house.expect(moving, SkipReason.CANCELLED if late else None, NOW + (72 + late) * HOUR)


def test_a_link_that_ends_between_the_gate_and_the_wire_is_not_written(house):
    notice = requested(house, RequestPurpose.DATA)
    with house.database.begin() as session:
        held = store.claim(session, notice, sender=1, lease_seconds=60)
        gated = store.pass_gate(session, held, sender=1, now=NOW)
    for hours, still in ((24, True), (25, False)):
        assert house.do(store.still_open, held, gated.attempt, now=NOW + hours * HOUR) is still


# Goodbyes


@pytest.mark.parametrize(
    ("deed", "reason"),
    [
        (None, None),
        (House.suppress, SkipReason.SUPPRESSED),
        (House.complained, SkipReason.SUPPRESSED),
        (lambda house: house.confirm(house.sign_up()), None),
    ],
    ids=["left", "suppressed", "complained", "came back"],
)
def test_a_goodbye_goes_out_but_to_no_address_that_an_operator_or_a_complaint_closed(house, deed, reason):
    house.do(add, ADDRESS, EN, consent="a form", **BY)
    house.leave()
    if deed:
        deed(house)
    house.expect(house.waiting(GOODBYE), reason)
