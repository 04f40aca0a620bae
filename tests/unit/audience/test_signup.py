"""Signing up and confirming: who is asked, how often, and what a link does and does not do."""

import datetime as dt

import pytest
import sqlalchemy as sa

from service.audience.adding import add
from service.audience.confirming import Outcome, confirm
from service.audience.departures import Nowhere, Reapplied, note, reapply
from service.audience.erasure import erase
from service.audience.importing import import_file
from service.audience.preferences import pause, set_text_only
from service.audience.said import Said
from service.audience.signup import answer, sign_up
from service.audience.suppressing import suppress, unsuppress
from service.audience.unsubscribe import unsubscribe
from service.domain.chains import Chain
from service.domain.errors import NotFoundError
from service.domain.keys import Purpose
from service.domain.signup import TEXT_VERSION
from service.domain.subscriber import LIFTED_BY_CONFIRMATION, SubscriberStatus, SuppressionReason
from service.domain.tokens import ConfirmationSigner, LinkSigner, hour_of
from service.domain.weeks import Week
from service.queue import ANSWER_SIGNUP, SEND_NOTICE
from service.store import audit as audit_log
from service.store import confirmations, signups, subscribers, suppressions
from service.store.departures import DepartureLog, Step
from service.store.tables import audit, notices
from service.store.tables import confirmations as confirmation_table
from service.store.tables import signups as signup_table
from tests.canary import assert_no_trace, canary
from tests.conftest import KEYRING
from tests.factories import save_publication
from tests.fakes import FakeBell
from tests.unit.store.statements import counted

NOW = dt.datetime(2019, 6, 5, 7, 20, tzinfo=dt.UTC)
HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
BE, RU = Chain(("be",)), Chain(("ru",))
LINKS = ConfirmationSigner(KEYRING)
LEAVING = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE)
ADDRESS = "ann@reader.test"


class Form:
    """What readers do with the form and the link, each a transaction of its own."""

    def __init__(self, database, folder):
        self.database = database
        self.bell = FakeBell()
        self.departures = DepartureLog(folder / "departures.log")

    def sign_up(self, address=ADDRESS, chain=BE, now=NOW):
        """The token that is mailed; None where nothing is."""
        with self.database.begin() as session:
            sign_up(session, self.bell, address, chain, now=now)
        with self.database.begin() as session:
            if not answer(session, self.bell, self.bell.heard(ANSWER_SIGNUP)[-1], now=now):
                return None
            mailed = session.execute(sa.select(notices).order_by(notices.c.id.desc())).first()
        row_id, hour = mailed.parameters["links"]["confirm"]
        return LINKS.sign(bytes.fromhex(row_id), hour)

    def confirm(self, token, now=NOW):
        with self.database.begin() as session:
            return confirm(session, self.bell, LINKS, self.departures, token, now=now)

    def reader(self, address=ADDRESS):
        with self.database.read() as session:
            return subscribers.find(session, address)

    def active(self, address=ADDRESS, chain=RU, status=SubscriberStatus.ACTIVE):
        with self.database.begin() as session:
            made, _ = add(session, address, chain, consent="a letter", actor="test", now=NOW)
            subscribers.set_status(session, made.id, status, week=made.joined_week)

    def becomes(self, status, address=ADDRESS):
        with self.database.begin() as session:
            reader = subscribers.find(session, address)
            subscribers.set_status(session, reader.id, status, week=reader.joined_week)

    def choose(self, *, pause, text_only, address=ADDRESS):
        with self.database.begin() as session:
            reader = subscribers.find(session, address)
            subscribers.set_pause(session, reader.id, pause)
            subscribers.set_text_only(session, reader.id, text_only=text_only)

    def suppress(self, reason, address=ADDRESS):
        with self.database.begin() as session:
            suppressions.add(session, session.sealer.address_hash(address), reason, Week(2019, 1))

    def suppression(self, address=ADDRESS):
        with self.database.read() as session:
            return suppressions.find(session, session.sealer.address_hash(address))

    def lapse(self, now):
        with self.database.begin() as session:
            return confirmations.lapse(session, now)

    def rows(self, table):
        with self.database.read() as session:
            return session.execute(sa.select(table)).all()


@pytest.fixture
def form(database, tmp_path):
    return Form(database, tmp_path)


@pytest.fixture
def form_on_sqlite(sqlite_database, tmp_path):
    return Form(sqlite_database, tmp_path)


# Asked


def test_a_new_reader_is_pending_and_gets_one_mail_in_the_first_language(form):
    assert form.sign_up(chain=Chain(("be", "ru")))
    reader = form.reader()
    assert (reader.status, reader.consent) == (SubscriberStatus.PENDING, None)
    (notice,) = form.rows(notices)
    assert (notice.kind, notice.language) == ("confirm", "be")
    assert form.bell.heard(SEND_NOTICE) == [notice.id]
    assert form.rows(signup_table) == []


def test_neither_address_nor_token_can_be_read_in_the_database(form):
    address = canary("signup")
    token = form.sign_up(address)
    with form.database.begin() as session:
        sign_up(session, form.bell, address, BE, now=NOW)
    assert form.rows(signup_table)
    assert_no_trace([address], database=form.database)
    assert token not in repr([form.rows(table) for table in (notices, confirmation_table, signup_table)])
    form.confirm(token)
    assert_no_trace([address], database=form.database)
    assert token not in repr(form.rows(notices))


def test_a_sign_up_is_answered_once(form):
    form.sign_up()
    (signup,) = form.bell.heard(ANSWER_SIGNUP)
    with form.database.begin() as session:
        assert not answer(session, form.bell, signup, now=NOW)
    assert len(form.rows(notices)) == 1


def test_a_sign_up_whose_hint_was_lost_is_rung_after_a_minute(form):
    with form.database.begin() as session:
        sign_up(session, form.bell, ADDRESS, BE, now=NOW)
    (signup,) = form.bell.heard(ANSWER_SIGNUP)
    with form.database.begin() as session:
        assert signups.due(session, NOW + 59 * dt.timedelta(seconds=1)) == []
        assert signups.due(session, NOW + dt.timedelta(minutes=1)) == [signup]
        assert signups.due(session, NOW + dt.timedelta(minutes=1)) == []


def test_an_address_that_does_not_open_costs_its_own_row_and_is_logged(form, capsys):
    with form.database.begin() as session:
        sign_up(session, form.bell, ADDRESS, BE, now=NOW)
        session.execute(signup_table.update().values(sealed=b"\x01" + bytes(40)))
    with form.database.begin() as session:
        assert not answer(session, form.bell, form.bell.heard(ANSWER_SIGNUP)[0], now=NOW)
    assert form.rows(signup_table) == []
    assert "signup-unreadable" in "".join(capsys.readouterr())


def test_one_mail_a_day_and_three_until_one_is_confirmed(form):
    late = NOW.replace(hour=23)
    assert [bool(form.sign_up(now=now)) for now in (NOW, NOW + HOUR, late, NOW + DAY, NOW + 2 * DAY)] == [
        *(True, False, False),
        *(True, True),
    ]
    form.lapse(NOW + 9 * DAY)
    assert not form.sign_up(now=NOW + 9 * DAY)
    assert not form.sign_up(now=NOW + 400 * DAY)
    assert form.sign_up("bob@reader.test", now=NOW)


def test_confirming_lets_the_count_begin_anew(form_on_sqlite):
    form = form_on_sqlite
    tokens = [form.sign_up(now=NOW + number * DAY) for number in range(3)]
    assert form.confirm(tokens[2], NOW + 2 * DAY) is Outcome.CONFIRMED
    assert form.sign_up(now=NOW + 3 * DAY)


@pytest.mark.parametrize("reason", [SuppressionReason.COMPLAINED, SuppressionReason.OPERATOR])
def test_nobody_who_complained_or_is_suppressed_by_an_operator_is_mailed(form, reason):
    form.suppress(reason)
    assert form.sign_up() is None
    assert (form.reader(), form.rows(notices), form.rows(signup_table)) == (None, [], [])


def test_a_reader_who_complained_is_not_mailed_even_without_a_suppression(form_on_sqlite):
    form_on_sqlite.active(status=SubscriberStatus.COMPLAINED)
    assert form_on_sqlite.sign_up() is None


@pytest.mark.parametrize("status", [SubscriberStatus.ACTIVE, SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED])
def test_asking_changes_nothing_of_a_reader_who_is_there(form, status):
    form.active(status=status)
    before = form.reader()
    assert form.sign_up()
    assert form.reader() == before


# Confirmed


def test_confirming_makes_the_reader_active_with_the_evidence_and_to_the_week(form):
    token = form.sign_up(chain=Chain(("be", "ru")))
    assert form.confirm(token, NOW + 30 * HOUR) is Outcome.CONFIRMED
    reader = form.reader()
    assert (reader.status, reader.chain) == (SubscriberStatus.ACTIVE, Chain(("be", "ru")))
    assert reader.consent.startswith(f"web form, text {TEXT_VERSION}, 2019-W23, token sha256:")
    assert token not in reader.consent
    assert reader.joined_week == Week(2019, 23)
    # The row has all the evidence. A line in a log, whatever its time says, would stand between two others.
    assert form.rows(audit) == []


def test_the_audit_log_is_the_same_whenever_a_reader_comes_chooses_and_leaves(form):
    """What an operator does before and after stands beside nothing that readers do."""
    form.active("bob@reader.test")
    form.confirm(form.sign_up())
    form.confirm(form.sign_up(chain=RU, now=NOW + DAY), NOW + DAY)
    with form.database.begin() as session:
        reader = subscribers.find(session, ADDRESS)
        set_text_only(session, reader, text_only=True, actor=None, now=NOW)
        pause(session, reader, NOW.date() + 9 * DAY, actor=None, now=NOW)
    by_link(form)
    with form.database.begin() as session:
        erase(session, form.departures, subscribers.find(session, ADDRESS), actor=None, now=NOW)
    form.active("cid@reader.test")
    assert [(row.actor, row.action) for row in form.rows(audit)] == [("test", "subscriber.add")] * 2
    with form.database.read() as session:
        assert audit_log.first_broken(session) is None


def test_the_welcome_is_mailed_once_however_often_the_link_is_used(form):
    token = form.sign_up()
    outcomes = [form.confirm(token, NOW + hours * HOUR) for hours in (0, 1, 71)]
    assert outcomes == [Outcome.CONFIRMED, Outcome.ALREADY, Outcome.ALREADY]
    assert [(row.kind, row.language) for row in form.rows(notices)] == [("confirm", "be"), ("welcome", "be")]
    assert form.rows(audit) == []


def test_confirming_twice_keeps_the_first_consent(form_on_sqlite):
    form = form_on_sqlite
    form.confirm(form.sign_up())
    first = form.reader()
    form.confirm(form.sign_up(now=NOW + 10 * DAY), NOW + 10 * DAY)
    assert form.reader() == first


def test_a_reader_who_is_active_gets_the_languages_of_the_mail_and_no_second_welcome(form):
    form.active(chain=RU)
    token = form.sign_up(chain=BE)
    assert form.confirm(token) is Outcome.CONFIRMED
    reader = form.reader()
    assert (reader.chain, reader.consent) == (BE, "a letter")
    assert [row.kind for row in form.rows(notices)] == ["confirm"]


def test_a_link_confirms_what_its_own_mail_named_whatever_was_asked_for_since(form):
    token = form.sign_up(chain=BE)
    form.sign_up(chain=RU, now=NOW + HOUR)
    form.sign_up(chain=RU, now=NOW + DAY)
    form.confirm(token, NOW + DAY)
    assert form.reader().chain == BE


def test_an_older_link_changes_nothing_once_a_newer_one_was_used(form):
    older, newer = form.sign_up(chain=BE), form.sign_up(chain=RU, now=NOW + DAY)
    form.confirm(newer, NOW + DAY)
    assert form.confirm(older, NOW + DAY) is Outcome.ALREADY
    assert form.reader().chain == RU


@pytest.mark.parametrize("reason", SuppressionReason)
def test_a_used_link_does_not_say_that_it_was_used_once_its_reader_is_suppressed(form_on_sqlite, reason):
    form = form_on_sqlite
    older, newer = form.sign_up(), form.sign_up(now=NOW + DAY)
    form.confirm(newer, NOW + DAY)
    form.suppress(reason)
    assert form.reader().status is SubscriberStatus.ACTIVE
    assert [form.confirm(token, NOW + DAY) for token in (older, newer)] == [Outcome.STALE] * 2


@pytest.mark.parametrize(("hours", "outcome"), [(72, Outcome.CONFIRMED), (73, Outcome.STALE), (5000, Outcome.STALE)])
def test_a_link_holds_for_72_hours(form_on_sqlite, hours, outcome):
    form = form_on_sqlite
    token = form.sign_up()
    assert form.confirm(token, NOW + hours * HOUR) is outcome
    assert (form.reader().status is SubscriberStatus.ACTIVE) == (outcome is Outcome.CONFIRMED)


def test_an_old_link_brings_nobody_back_who_has_left_since(form):
    token = form.sign_up()
    form.confirm(token)
    with form.database.begin() as session:
        subscribers.set_status(
            session, subscribers.find(session, ADDRESS).id, SubscriberStatus.UNSUBSCRIBED, week=Week(2019, 23)
        )
    assert form.confirm(token, NOW + HOUR) is Outcome.STALE
    assert form.reader().status is SubscriberStatus.UNSUBSCRIBED


def test_an_erased_readers_link_does_nothing(form):
    token = form.sign_up()
    with form.database.begin() as session:
        erase(session, form.departures, subscribers.find(session, ADDRESS), actor="test", now=NOW)
    assert form.confirm(token) is Outcome.STALE
    assert form.reader() is None
    assert form.suppression().reason is SuppressionReason.ERASED


@pytest.mark.parametrize("token", ["", "x" * 48, LINKS.sign(bytes(16), hour_of(NOW)), LINKS.sign(bytes(16), 0)])
def test_what_is_no_link_of_a_mail_does_nothing(form_on_sqlite, token):
    form_on_sqlite.sign_up()
    assert form_on_sqlite.confirm(token) is Outcome.STALE
    assert form_on_sqlite.reader().status is SubscriberStatus.PENDING


# What leaving closes


def by_link(form):
    with form.database.begin() as session:
        token = LEAVING.sign(subscribers.find(session, ADDRESS).id)
        unsubscribe(session, form.bell, LEAVING, form.departures, token, now=NOW)


def by_import(form):
    path = form.departures.path.with_name("left.csv")
    path.write_text(f"email,languages,status\n{ADDRESS},be,unsubscribed\n")
    with form.database.begin() as session:
        save_publication(session)
    import_file(form.database, form.departures, path, languages=None, consent=None, actor="test", now=NOW)


def by_restored_departure(form):
    with form.database.begin() as session:
        note(form.departures, [(session.sealer.address_hash(ADDRESS), Step.UNSUBSCRIBED)], Week(2019, 23))
        reapply(session, form.departures, actor="test", now=NOW)


@pytest.mark.parametrize("leaves", [by_link, by_import, by_restored_departure])
def test_a_question_of_before_leaving_brings_nobody_back(form, leaves):
    form.active()
    asked_by_a_stranger = form.sign_up()
    leaves(form)
    assert form.confirm(asked_by_a_stranger, NOW + HOUR) is Outcome.STALE
    assert form.reader().status is SubscriberStatus.UNSUBSCRIBED
    # Who wants to come back is asked anew, on the same day, too.
    assert form.confirm(form.sign_up(now=NOW + HOUR), NOW + HOUR) is Outcome.CONFIRMED
    # And that it was so is not to be had from the old link.
    assert form.confirm(asked_by_a_stranger, NOW + HOUR) is Outcome.STALE


def test_a_question_of_before_an_erasure_confirms_no_later_sign_up(form):
    form.active()
    older = form.sign_up()
    with form.database.begin() as session:
        erase(session, form.departures, subscribers.find(session, ADDRESS), actor="test", now=NOW)
    newer = form.sign_up(now=NOW + DAY)
    assert form.confirm(older, NOW + DAY) is Outcome.STALE
    assert form.reader().status is SubscriberStatus.PENDING
    assert form.confirm(newer, NOW + DAY) is Outcome.CONFIRMED


@pytest.mark.parametrize("reason", [SuppressionReason.COMPLAINED, SuppressionReason.OPERATOR])
def test_a_question_of_before_a_complaint_is_dead_when_that_is_lifted(form, reason):
    older = form.sign_up()
    with form.database.begin() as session:
        suppress(session, form.departures, ADDRESS, reason, actor="test", now=NOW)
        unsuppress(session, form.departures, ADDRESS, actor="test", now=NOW)
    assert form.confirm(older) is Outcome.STALE
    # Nothing else would forget who is asked no more.
    assert form.reader() is None


@pytest.mark.parametrize("reason", [*SuppressionReason, None])
def test_who_complained_signs_up_anew_once_an_operator_has_lifted_that_and_not_before(form, reason):
    form.active(status=SubscriberStatus.COMPLAINED)
    if reason is not None:
        form.suppress(reason)
    assert form.sign_up() is None

    def lift():
        with form.database.begin() as session:
            return unsuppress(session, form.departures, ADDRESS, actor="test", now=NOW)

    assert lift() is (reason or SuppressionReason.COMPLAINED)
    if reason in LIFTED_BY_CONFIRMATION:
        # What was lifted was another matter.
        assert form.sign_up() is None
        assert lift() is SuppressionReason.COMPLAINED
    # Lifting alone has nobody mailed.
    assert form.reader().status is SubscriberStatus.UNSUBSCRIBED
    assert form.suppression() is None
    assert form.confirm(form.sign_up()) is Outcome.CONFIRMED
    reader = form.reader()
    assert (reader.status, reader.chain) == (SubscriberStatus.ACTIVE, BE)
    assert reader.consent.startswith("web form")
    with pytest.raises(NotFoundError):
        lift()


def test_a_file_that_blocks_an_address_closes_its_question(form_on_sqlite):
    form = form_on_sqlite
    older = form.sign_up()
    path = form.departures.path.with_name("blocked.csv")
    path.write_text(f"email,languages\n{ADDRESS},be\n")
    with form.database.begin() as session:
        save_publication(session)
    options = {"languages": None, "consent": None, "actor": "test", "now": NOW, "standing": Said.BLOCKED}
    import_file(form.database, form.departures, path, **options)
    with form.database.begin() as session:
        unsuppress(session, form.departures, ADDRESS, actor="test", now=NOW)
    assert form.confirm(older) is Outcome.STALE
    assert form.reader() is None


def test_leaving_does_not_let_the_count_of_mails_begin_anew(form_on_sqlite):
    form = form_on_sqlite
    form.active()
    for _ in range(3):
        assert form.sign_up()
        by_link(form)
    assert form.sign_up() is None


def test_a_sign_up_that_waits_while_its_reader_leaves_is_asked_and_not_more(form):
    form.active()
    with form.database.begin() as session:
        sign_up(session, form.bell, ADDRESS, BE, now=NOW)
    by_link(form)
    with form.database.begin() as session:
        assert answer(session, form.bell, form.bell.heard(ANSWER_SIGNUP)[-1], now=NOW)
    assert form.reader().status is SubscriberStatus.UNSUBSCRIBED


def test_leaving_by_one_click_looks_at_the_questions_of_one_address_alone(form_on_sqlite):
    form = form_on_sqlite
    form.active()
    form.sign_up()
    with form.database.begin() as session, counted(form.database) as statements:
        unsubscribe(session, form.bell, LEAVING, form.departures, LEAVING.sign(form_id(session)), now=NOW)
    touching = [one for one in statements if "confirmations" in one]
    assert len(touching) == 1
    with form.database.read() as session:
        plan = session.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {touching[0]}", ("",) * touching[0].count("?"))
        assert not any("SCAN" in row[3] for row in plan)


def form_id(session):
    return subscribers.find(session, ADDRESS).id


# What a confirmation lifts


@pytest.mark.parametrize("reason", [SuppressionReason.ERASED, SuppressionReason.BOUNCED])
def test_confirming_lifts_what_a_new_sign_up_lifts(form, reason):
    form.suppress(reason)
    token = form.sign_up()
    assert form.suppression() is not None
    assert form.confirm(token) is Outcome.CONFIRMED
    assert form.suppression() is None
    assert form.reader().status is SubscriberStatus.ACTIVE


def test_who_was_active_and_suppressed_comes_back_with_a_new_consent(form):
    form.active()
    form.suppress(SuppressionReason.BOUNCED)
    form.choose(pause=NOW.date() + 300 * DAY, text_only=True)
    form.confirm(form.sign_up(chain=BE))
    reader = form.reader()
    assert (reader.status, reader.chain, reader.paused_until) == (SubscriberStatus.ACTIVE, BE, None)
    assert reader.consent.startswith("web form")
    assert form.rows(notices)[-1].kind == "welcome"


@pytest.mark.parametrize("status", [SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED])
def test_who_left_or_bounced_is_a_reader_again(form, status):
    form.active(status=status)
    form.confirm(form.sign_up(chain=BE))
    reader = form.reader()
    assert (reader.status, reader.chain) == (SubscriberStatus.ACTIVE, BE)
    assert reader.consent.startswith("web form")


@pytest.mark.parametrize("status", [SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.BOUNCED])
def test_who_comes_back_gets_the_next_issue_and_begins_anew(form, status):
    form.active()
    form.choose(pause=NOW.date() + 300 * DAY, text_only=True)
    form.becomes(status)
    form.confirm(form.sign_up())
    reader = form.reader()
    assert (reader.status, reader.paused_until, reader.text_only) == (SubscriberStatus.ACTIVE, None, False)


def test_a_reader_who_confirms_anew_ends_the_pause_and_keeps_the_form_of_the_mails(form):
    form.active(chain=BE)
    form.choose(pause=NOW.date() + 300 * DAY, text_only=True)
    form.confirm(form.sign_up(chain=BE))
    reader = form.reader()
    assert (reader.status, reader.paused_until, reader.text_only) == (SubscriberStatus.ACTIVE, None, True)
    assert [row.action for row in form.rows(audit)] == ["subscriber.add"]


@pytest.mark.parametrize("reason", [SuppressionReason.COMPLAINED, SuppressionReason.OPERATOR])
def test_a_complaint_or_an_operators_word_after_the_mail_outlives_the_link(form, reason):
    token = form.sign_up()
    form.suppress(reason)
    assert form.confirm(token) is Outcome.STALE
    assert form.suppression().reason is reason
    assert form.reader().status is SubscriberStatus.PENDING


def test_a_restored_backup_does_not_send_away_who_came_back(form):
    form.active()
    with form.database.begin() as session:
        erase(session, form.departures, subscribers.find(session, ADDRESS), actor="test", now=NOW)
    form.confirm(form.sign_up())
    assert [one.step for one in form.departures.read()] == [Step.ERASED, Step.CONFIRMED]
    with form.database.begin() as session:
        reapply(session, form.departures, actor="test", now=NOW)
    assert form.reader().status is SubscriberStatus.ACTIVE


@pytest.mark.parametrize("step", [Step.UNSUBSCRIBED, Step.BOUNCED, Step.ERASED])
@pytest.mark.parametrize(("weeks", "stays"), [(1, True), (0, False)])
def test_the_log_of_one_host_does_not_send_away_who_came_back_by_another(form, tmp_path, step, weeks, stays):
    form.active()
    elsewhere = DepartureLog(tmp_path / "elsewhere.log")
    left = Week.of(NOW.date())
    with form.database.begin() as session:
        note(elsewhere, [(session.sealer.address_hash(ADDRESS), step)], left)
        reapply(session, elsewhere, actor="test", now=NOW)
    later = NOW + weeks * 7 * DAY
    assert form.confirm(form.sign_up(now=later), later) is Outcome.CONFIRMED
    with form.database.begin() as session:
        done = reapply(session, elsewhere, actor="test", now=later)
    # In the week of the departure itself nobody can say which came first.
    away = Reapplied(int(step is Step.UNSUBSCRIBED), int(step is Step.ERASED), int(step is not Step.UNSUBSCRIBED))
    assert done == (Reapplied(0, 0, 0) if stays else away)
    assert mailed(form) == stays


def mailed(form):
    reader = form.reader()
    return reader is not None and reader.status is SubscriberStatus.ACTIVE and form.suppression() is None


def test_the_logs_of_all_hosts_together_know_who_came_back_in_the_lost_time(form, tmp_path):
    form.active()
    elsewhere = DepartureLog(tmp_path / "elsewhere.log")
    ours = session_hash(form)
    note(elsewhere, [(ours, Step.UNSUBSCRIBED)], Week(2019, 23))
    note(form.departures, [(ours, Step.CONFIRMED)], Week(2019, 24))
    with form.database.begin() as session:
        reapply(session, form.departures, others=[elsewhere], actor="test", now=NOW)
    assert mailed(form)
    # What the database has forgotten, this log alone cannot know.
    with form.database.begin() as session:
        assert reapply(session, elsewhere, actor="test", now=NOW).unsubscribed == 1


def session_hash(form):
    return form.database.sealer.address_hash(ADDRESS)


@pytest.mark.parametrize("reason", [SuppressionReason.COMPLAINED, SuppressionReason.OPERATOR])
def test_no_confirmation_outweighs_a_complaint_or_an_operators_word(form_on_sqlite, reason):
    form = form_on_sqlite
    note(form.departures, [(session_hash(form), Step(reason.value))], Week(2019, 20))
    form.confirm(form.sign_up())
    with form.database.begin() as session:
        assert reapply(session, form.departures, actor="test", now=NOW).suppressed == 1
    assert form.suppression().reason is reason


def test_a_consent_of_another_kind_outweighs_no_departure(form_on_sqlite):
    """A list that was imported while the database knew no better is as young as a confirmation, and is none."""
    form = form_on_sqlite
    form.active()
    note(form.departures, [(session_hash(form), Step.UNSUBSCRIBED)], Week(2019, 10))
    with form.database.begin() as session:
        assert reapply(session, form.departures, actor="test", now=NOW).unsubscribed == 1


def test_a_question_of_after_an_erasure_is_not_taken_back_and_one_of_before_is(form):
    note(form.departures, [(session_hash(form), Step.ERASED)], Week(2019, 22))
    asked = form.sign_up()
    with form.database.begin() as session:
        reapply(session, form.departures, actor="test", now=NOW)
    assert form.suppression().reason is SuppressionReason.ERASED
    assert form.confirm(asked) is Outcome.CONFIRMED
    form.sign_up("bob@reader.test")
    note(form.departures, [(form.database.sealer.address_hash("bob@reader.test"), Step.ERASED)], Week(2019, 23))
    with form.database.begin() as session:
        reapply(session, form.departures, actor="test", now=NOW)
    assert form.reader("bob@reader.test") is None


# Forgotten


def test_who_never_confirms_is_forgotten_after_72_hours_but_for_a_count(form):
    address = canary("never")
    form.sign_up(address)
    assert form.lapse(NOW + 72 * HOUR) == 0
    assert form.reader(address).status is SubscriberStatus.PENDING
    assert form.lapse(NOW + 73 * HOUR) == 1
    assert form.reader(address) is None
    (left,) = form.rows(confirmation_table)
    assert (left.chain, left.day, left.hour) == ("", None, None)
    assert form.lapse(NOW + 99 * DAY) == 0


def test_a_younger_mail_keeps_the_pending_reader(form_on_sqlite):
    form = form_on_sqlite
    form.sign_up()
    younger = form.sign_up(now=NOW + DAY)
    assert form.lapse(NOW + 74 * HOUR) == 1
    assert form.confirm(younger, NOW + 74 * HOUR) is Outcome.CONFIRMED


def test_of_who_confirmed_nothing_is_left_that_tells_the_day(form):
    form.confirm(form.sign_up())
    form.lapse(NOW + 73 * HOUR)
    assert form.rows(confirmation_table) == []
    assert form.reader().status is SubscriberStatus.ACTIVE


def test_a_dry_log_of_departures_keeps_nobody_from_confirming(form_on_sqlite):
    form = form_on_sqlite
    form.departures = Nowhere()
    assert form.confirm(form.sign_up()) is Outcome.CONFIRMED
