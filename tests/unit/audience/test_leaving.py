"""Unsubscribe, erase, suppress, and what is made true again after a restored backup."""

import datetime as dt
import os
import stat

import pytest
import sqlalchemy as sa

from service.audience import departures as reapplying
from service.audience.adding import add
from service.audience.departures import Nowhere, Reapplied, reapply
from service.audience.erasure import erase
from service.audience.preferences import set_chain
from service.audience.reader_notices import tell
from service.audience.suppressing import suppress, unsuppress
from service.audience.unsubscribe import Outcome, unsubscribe
from service.domain.chains import Chain
from service.domain.delivery import DeliveryState
from service.domain.errors import InvalidInputError, NotFoundError
from service.domain.keys import Purpose
from service.domain.reader_notices import MOVED
from service.domain.subscriber import SubscriberStatus, SuppressionReason
from service.domain.tokens import LinkSigner
from service.domain.weeks import Week
from service.store import audit as audit_log
from service.store import subscribers, suppressions
from service.store.departures import Departure, DepartureLog, Step
from service.store.tables import audit, notices
from tests.canary import assert_no_trace, canary
from tests.conftest import KEYRING
from tests.fakes import FakeBell
from tests.unit.delivery.parts import Run, accepted

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)
WEEK = Week(2019, 23)
BE = Chain(("be",))
LINKS = LinkSigner(KEYRING, Purpose.UNSUBSCRIBE)
BY = {"actor": "test", "now": NOW}


@pytest.fixture
def departures(tmp_path):
    return DepartureLog(tmp_path / "var" / "departures.log")


def added(session, address="ann@reader.test"):
    return add(session, address, BE, consent="a form", **BY)[0]


def actions(session):
    return [row.action for row in session.execute(sa.select(audit).order_by(audit.c.id))]


def steps(departures):
    return [one.step for one in departures.read()]


def test_unsubscribing_keeps_the_row_and_is_the_same_the_second_time(database, departures):
    with database.begin() as session:
        reader = added(session)
    token = LINKS.sign(reader.id)
    for _ in range(2):
        with database.begin() as session:
            assert unsubscribe(session, FakeBell(), LINKS, departures, token, now=NOW) is Outcome.DONE
    with database.read() as session:
        assert subscribers.get(session, reader.id).status is SubscriberStatus.UNSUBSCRIBED
        assert actions(session) == ["subscriber.add"]
        assert audit_log.first_broken(session) is None
    assert list(departures.read()) == [Departure(WEEK, Step.UNSUBSCRIBED, reader.address_hash)]


def test_a_link_for_nobody_and_for_an_erased_reader_has_the_same_answer(database, departures):
    with database.begin() as session:
        reader = added(session)
        erase(session, departures, reader, **BY)
    for token in (LINKS.sign(reader.id), LINKS.sign(os.urandom(16), 7)):
        with database.begin() as session:
            assert unsubscribe(session, FakeBell(), LINKS, departures, token, now=NOW) is Outcome.DONE


def test_a_link_of_another_epoch_still_lets_leave(sqlite_database, departures):
    with sqlite_database.begin() as session:
        reader = added(session)
        unsubscribe(session, FakeBell(), LINKS, departures, LINKS.sign(reader.id, 5), now=NOW)
        assert subscribers.get(session, reader.id).status is SubscriberStatus.UNSUBSCRIBED


@pytest.mark.parametrize("token", ["", "x" * 48, LinkSigner(KEYRING, Purpose.PREFERENCES).sign(b"r" * 16)])
def test_what_is_no_link_of_ours_does_nothing(sqlite_database, departures, token):
    with sqlite_database.begin() as session:
        assert unsubscribe(session, FakeBell(), LINKS, departures, token, now=NOW) is Outcome.NOT_A_LINK
        assert actions(session) == []


@pytest.mark.parametrize("status", SubscriberStatus)
def test_everybody_can_leave_and_a_complaint_weighs_more(sqlite_database, departures, status):
    with sqlite_database.begin() as session:
        reader = added(session)
        subscribers.set_status(session, reader.id, status, week=WEEK)
        unsubscribe(session, FakeBell(), LINKS, departures, LINKS.sign(reader.id), now=NOW)
        complained = status is SubscriberStatus.COMPLAINED
        expected = SubscriberStatus.COMPLAINED if complained else SubscriberStatus.UNSUBSCRIBED
        assert subscribers.get(session, reader.id).status is expected


def test_a_full_disk_keeps_nobody_from_leaving(sqlite_database, tmp_path, capsys):
    (tmp_path / "file").touch()
    nowhere = DepartureLog(tmp_path / "file" / "departures.log")
    with sqlite_database.begin() as session:
        reader = added(session)
        unsubscribe(session, FakeBell(), LINKS, nowhere, LINKS.sign(reader.id), now=NOW)
    with sqlite_database.read() as session:
        assert subscribers.get(session, reader.id).status is SubscriberStatus.UNSUBSCRIBED
    assert "departure.not_written" in "".join(capsys.readouterr())


def test_erasing_leaves_a_keyed_hash_and_nothing_else(database, departures):
    address = canary("erased")
    with database.begin() as session:
        reader = added(session, address)
        erase(session, departures, reader, **BY)
    with database.read() as session:
        assert subscribers.find(session, address) is None
        assert suppressions.find(session, reader.address_hash).reason is SuppressionReason.ERASED
    assert steps(departures) == [Step.ERASED]
    assert_no_trace([address], paths=[departures.path], database=database)


def test_erasing_takes_no_weight_from_a_complaint(sqlite_database, departures):
    with sqlite_database.begin() as session:
        reader = added(session)
        suppressions.add(session, reader.address_hash, SuppressionReason.COMPLAINED, WEEK)
        erase(session, departures, reader, **BY)
        assert suppressions.find(session, reader.address_hash).reason is SuppressionReason.COMPLAINED


def test_suppressing_and_lifting_brings_back_what_was(database, departures):
    with database.begin() as session:
        reader = added(session)
        assert suppress(session, departures, "Ann@Reader.test", SuppressionReason.OPERATOR, **BY)
        assert not suppress(session, departures, "ann@reader.test", SuppressionReason.OPERATOR, **BY)
        assert suppressions.is_suppressed(session, reader.address_hash)
        assert unsuppress(session, departures, "ann@reader.test", **BY) is SuppressionReason.OPERATOR
        assert subscribers.get(session, reader.id) == reader
        with pytest.raises(NotFoundError, match="not suppressed"):
            unsuppress(session, departures, "ann@reader.test", **BY)
        assert actions(session) == ["subscriber.add", "subscriber.suppress", "subscriber.unsuppress"]
    assert steps(departures) == [Step.OPERATOR, Step.LIFTED]


def test_an_address_that_nobody_has_can_be_suppressed(sqlite_database, departures):
    address = canary("unknown")
    with sqlite_database.begin() as session:
        assert suppress(session, departures, address, SuppressionReason.COMPLAINED, **BY)
        with pytest.raises(InvalidInputError):
            suppress(session, departures, "no address", SuppressionReason.OPERATOR, **BY)
    assert_no_trace([address], paths=[departures.path], database=sqlite_database)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (SubscriberStatus.BOUNCED, SubscriberStatus.ACTIVE),
        (SubscriberStatus.COMPLAINED, SubscriberStatus.COMPLAINED),
        (SubscriberStatus.UNSUBSCRIBED, SubscriberStatus.UNSUBSCRIBED),
    ],
)
def test_lifting_brings_back_who_bounced_and_not_who_left(sqlite_database, departures, before, after):
    with sqlite_database.begin() as session:
        reader = added(session)
        subscribers.set_status(session, reader.id, before, week=WEEK)
        suppressions.add(session, reader.address_hash, SuppressionReason.BOUNCED, WEEK)
        unsuppress(session, departures, "ann@reader.test", **BY)
        assert subscribers.get(session, reader.id).status is after


def test_another_chain_is_audited_and_the_same_one_is_no_change(database):
    with database.begin() as session:
        reader = added(session)
        assert set_chain(session, reader, Chain(("en", "be")), actor="test", now=NOW)
        changed = subscribers.get(session, reader.id)
        assert changed.chain == Chain(("en", "be"))
        assert not set_chain(session, changed, Chain(("en", "be")), actor="test", now=NOW)
        assert actions(session) == ["subscriber.add", "subscriber.set"]


def test_departures_are_written_to_the_disk_for_the_owner_alone(departures, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    departures.record([Departure(WEEK, Step.ERASED, b"h" * 32), Departure(WEEK, Step.LIFTED, b"i" * 32)])
    departures.record([])
    assert len(synced) == 1
    assert stat.S_IMODE(departures.path.stat().st_mode) == 0o600
    assert departures.path.read_text() == f"2019-W23 erased {b'h'.hex() * 32}\n2019-W23 lifted {b'i'.hex() * 32}\n"


def test_a_torn_line_loses_itself_alone(departures):
    departures.record([Departure(WEEK, Step.ERASED, b"h" * 32)])
    with departures.path.open("ab") as file:
        file.write(b"2019-W23 era")
    departures.record([Departure(WEEK, Step.OPERATOR, b"i" * 32)])
    with departures.path.open("ab") as file:
        file.write(b"2019-W23 unheardof " + b"ab" * 32 + b"\n\xff\n")
    assert steps(departures) == [Step.ERASED, Step.OPERATOR]


def test_no_file_yet_is_no_departures(departures):
    assert list(departures.read()) == []
    assert list(Nowhere().read()) == []


def test_a_restored_backup_brings_nobody_back(database, departures, tmp_path):
    with database.begin() as session:
        readers = {
            name: added(session, f"{name}@reader.test") for name in ("left", "erased", "blocked", "lifted", "stays")
        }
    # What happens now, the backup of that moment does not know.
    later = [
        (readers["left"], Step.UNSUBSCRIBED), (readers["erased"], Step.ERASED), (readers["blocked"], Step.COMPLAINED),
        (readers["lifted"], Step.OPERATOR), (readers["lifted"], Step.LIFTED), (readers["stays"], Step.UNSUBSCRIBED),
        (readers["stays"], Step.CONFIRMED),
    ]  # fmt: skip
    reapplying.note(departures, [(reader.address_hash, step) for reader, step in later], WEEK)
    with database.begin() as session:
        assert reapply(session, departures, **BY) == Reapplied(unsubscribed=1, erased=1, suppressed=2)
        assert reapply(session, departures, **BY) == Reapplied(0, 0, 0)
    with database.read() as session:
        found = {name: subscribers.get(session, reader.id) for name, reader in readers.items()}
        assert {name: reader and reader.status.value for name, reader in found.items()} == {
            "left": "unsubscribed", "erased": None, "blocked": "active", "lifted": "active", "stays": "active",
        }  # fmt: skip
        hashes = {reader.address_hash: name for name, reader in readers.items()}
        reasons = suppressions.suppressed_among(session, hashes)
        assert {hashes[known]: reason.value for known, reason in reasons.items()} == {
            "erased": "erased",
            "blocked": "complained",
        }


def test_who_left_before_being_suppressed_has_still_left_when_that_is_lifted(sqlite_database, departures):
    with sqlite_database.begin() as session:
        reader = added(session)
        later = [Step.UNSUBSCRIBED, Step.OPERATOR, Step.LIFTED]
        reapplying.note(departures, [(reader.address_hash, step) for step in later], WEEK)
        assert reapply(session, departures, **BY) == Reapplied(unsubscribed=1, erased=0, suppressed=0)


def test_who_was_erased_is_not_brought_back_by_it_that_the_address_is_allowed_again(sqlite_database, departures):
    with sqlite_database.begin() as session:
        reader = added(session)
        steps = [Step.ERASED, Step.LIFTED]
        reapplying.note(departures, [(reader.address_hash, step) for step in steps], WEEK)
        assert reapply(session, departures, **BY) == Reapplied(unsubscribed=0, erased=1, suppressed=0)


def test_who_is_added_after_an_operator_allowed_the_address_again_stays(sqlite_database, departures):
    with sqlite_database.begin() as session:
        reader = added(session)
        steps = [Step.ERASED, Step.LIFTED]
        reapplying.note(departures, [(reader.address_hash, step) for step in steps], Week(2019, 22))
        assert reapply(session, departures, **BY) == Reapplied(0, 0, 0)
        # But not by any other host's word than that of its log.
        reapplying.note(departures, [(reader.address_hash, Step.ERASED)], Week(2019, 22))
        assert reapply(session, departures, **BY) == Reapplied(unsubscribed=0, erased=1, suppressed=1)


def test_of_who_is_erased_again_no_mail_is_left_that_waits(database, departures):
    with database.begin() as session:
        reader = added(session)
        about = {"about": b"a" * 16, "address": "ann@reader.test", "chain": BE, "links": {}, "reader": reader.id}
        tell(session, FakeBell(), MOVED, now=NOW, **about)
        reapplying.note(departures, [(reader.address_hash, Step.ERASED)], WEEK)
        assert reapply(session, departures, **BY).erased == 1
        (notice,) = session.execute(sa.select(notices)).all()
        assert (notice.state, notice.sealed) == (int(DeliveryState.SKIPPED), b"")


def test_who_is_mailed_though_a_log_says_that_they_left_is_counted(database, departures):
    """What `tydzen doctor` tells; nothing is changed by it, and what it counts is what `reapply` sends away."""
    ways = [Step.UNSUBSCRIBED, Step.ERASED, Step.BOUNCED, Step.OPERATOR]
    with database.begin() as session:
        readers = [added(session, f"{step}@reader.test") for step in ways]
        added(session, "stays@reader.test")
    assert counted_astray(database, departures) == 0
    steps = [(reader.address_hash, step) for reader, step in zip(readers, ways, strict=True)]
    reapplying.note(departures, [*steps, (b"h" * 32, Step.ERASED)], WEEK)
    for _ in range(2):
        assert counted_astray(database, departures) == 4
    with database.begin() as session:
        reapply(session, departures, **BY)
    assert counted_astray(database, departures) == 0


def counted_astray(database, departures):
    with database.read() as session:
        return reapplying.astray(session, departures)


def test_a_mailbox_that_took_a_mail_in_a_later_week_is_not_gone_and_who_left_has_left_all_the_same(
    database, departures
):
    """As after an outage: on one host the mailboxes are gone, and what the sweep of another has lifted is not told."""
    run = Run(database, readers=3)
    reached, unheard, left = sorted(run.gate(run.claim()).recipients, key=lambda one: one.address)
    run.record(accepted(reached), accepted(left))
    hashes = [database.sealer.address_hash(one.address) for one in (reached, unheard, left)]
    week = Week.of(run.now.date())
    steps = [*((known, Step.BOUNCED) for known in hashes), (hashes[2], Step.UNSUBSCRIBED)]
    reapplying.note(departures, steps, week.shifted(-1))
    assert counted_astray(database, departures) == 2
    with database.begin() as session:
        assert reapply(session, departures, **BY) == Reapplied(unsubscribed=1, erased=0, suppressed=1)
        assert list(suppressions.suppressed_among(session, hashes)) == [hashes[1]]
        # It was gone after that mail.
        reapplying.note(departures, [(hashes[0], Step.BOUNCED)], week)
        assert reapply(session, departures, **BY).suppressed == 1
