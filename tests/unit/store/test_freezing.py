"""How an audience is cut: by chain and provider, nobody left out, nobody twice."""

import datetime as dt
from collections import Counter

import pytest
import sqlalchemy as sa

from service.delivery import progress
from service.domain.batching import slice_bounds
from service.domain.subscriber import SubscriberStatus
from service.mail.segments import Rendition
from service.store import batches, freezing
from service.store.instants import stored
from service.store.tables import batches as batch_table
from service.store.tables import deliveries, mailings, renditions, subscribers
from tests.factories import add_readers
from tests.installation import miscounted
from tests.unit.delivery.parts import Run


@pytest.fixture
def run(database):
    made = Run(database, readers=30, chains=("en", "be,ru"), batch_limit=40, planned=False)
    for domain, count in (("gmail.com", 130), ("googlemail.com", 10), ("mail.ru", 100), ("yandex.ru", 20)):
        add_readers(database, count, chains=("en", "be,ru"), domain=domain, prefix="r-" + domain)
    with database.begin() as session:
        session.execute(sa.text("DELETE FROM mailing_audience"))
    assert made.planner().plan(made.mailing)
    return made


def rows(run, statement):
    with run.database.read() as session:
        return session.execute(statement).all()


def test_a_known_provider_with_enough_readers_has_batches_of_its_own(run):
    found = rows(run, sa.select(batch_table.c.chain, batch_table.c.provider, batch_table.c.pending))
    by_provider = Counter()
    for row in found:
        assert row.pending <= 40
        by_provider[row.chain, row.provider] += row.pending
    # 65 and 5 of one provider; 50; and the rest, with the ten of a provider that is too small.
    assert by_provider == {
        (chain, provider): count
        for chain in ("en", "be,ru")
        for provider, count in (("gmail", 70), ("mail.ru", 50), ("", 25))
    }


def test_every_reader_is_in_one_batch_of_the_right_chain_and_provider(run):
    joined = (
        sa.select(subscribers.c.id, subscribers.c.chain, subscribers.c.provider, batch_table.c.chain.label("cut"),
                  batch_table.c.provider.label("part"))
        .join(deliveries, deliveries.c.subscriber_id == subscribers.c.id)
        .join(batch_table, batch_table.c.id == deliveries.c.batch_id)
    )  # fmt: skip
    found = rows(run, joined)
    assert len(found) == len({row.id for row in found}) == 290
    assert all(row.chain == row.cut for row in found)
    assert all(row.part in {"", row.provider} for row in found)


def test_the_counts_of_the_batches_are_those_of_their_deliveries(run):
    counted = rows(run, sa.select(deliveries.c.batch_id, sa.func.count()).group_by(deliveries.c.batch_id))
    assert sorted(map(tuple, counted)) == sorted(
        map(tuple, rows(run, sa.select(batch_table.c.id, batch_table.c.pending)))
    )


def freeze(session, run, taken, renditions):
    cut = freezing.number_batches(session, run.mailing, taken, renditions, batch_size=2, beside=False)
    freezing.insert_deliveries(session, run.mailing, cut, run.now)
    freezing.insert_batches(session, run.mailing, taken, cut)


def test_who_leaves_after_a_slice_was_looked_at_is_planned_as_it_was_seen_and_counted_once(database):
    run = Run(database, readers=6, chains=("en", "ru"), planned=False)
    add_readers(database, 2, prefix="new", status=SubscriberStatus.PENDING)
    with database.begin() as session:
        taken = freezing.take_slice(session, run.mailing, *slice_bounds(0, 1), restricted=False, now=run.now)
        assert taken.mailable == {"en": {"": 3}, "ru": {"": 3}}
        assert taken.excluded == {"pending": 2}
        session.execute(subscribers.update().values(status="unsubscribed", chain="be,ru"))
        freeze(session, run, taken, {"en": None, "ru": None})
    with database.read() as session:
        found = progress.status(session, run.mailing)
    assert (found.candidates, found.counts.skipped, dict(found.mailing.excluded)) == (8, 6, {"pending": 2})
    assert not miscounted(database, run.mailing)


def test_two_hundred_and_fifty_readers_of_a_provider_are_enough_however_large_batches_may_be(run):
    taken = freezing.Slice({"en": {"gmail": 250, "mail.ru": 249, "": 5000}}, {})
    with run.database.begin() as session:
        cut = freezing.number_batches(session, run.mailing, taken, {"en": 1}, batch_size=4000, beside=False)
    assert [(part.provider, part.readers) for part in cut.parts] == [("gmail", 250), ("", 5249)]
    assert taken.readers == 5499


def test_a_slice_of_which_nobody_is_mailed_is_counted_and_makes_no_batch(database):
    run = Run(database, readers=0, planned=False)
    add_readers(database, 2, status=SubscriberStatus.UNSUBSCRIBED)
    for _ in range(2):
        with database.begin() as session:
            taken = freezing.take_slice(session, run.mailing, *slice_bounds(0, 1), restricted=False, now=run.now)
            freeze(session, run, taken, {})
    with database.read() as session:
        assert dict(progress.status(session, run.mailing).mailing.excluded) == {"unsubscribed": 4}
    assert run.batch_ids() == []


def test_batches_are_rung_in_an_order_that_mixes_providers(run):
    with run.database.begin() as session:
        session.execute(batch_table.update().values(rung_at=0))
        rung = batches.to_ring(session, now_ms=stored(run.now), quiet_seconds=0, limit=5)
    provider = {row.id: row.provider for row in rows(run, sa.select(batch_table.c.id, batch_table.c.provider))}
    assert len({provider[one] for one in rung}) == 3


def test_who_pauses_is_left_out_and_counted_and_text_alone_is_an_edition_of_its_own(database):
    run = Run(database, readers=8, chains=("en",), batch_limit=40, planned=False)
    tomorrow = (run.now.date() + dt.timedelta(days=1)).isoformat()
    for number, values in {1: {"paused_until": tomorrow}, 2: {"text_only": True}, 3: {"text_only": True}}.items():
        run.change_reader(number, **values)
    run.change_reader(4, paused_until=run.now.date().isoformat())
    with database.begin() as session:
        session.execute(sa.text("DELETE FROM mailing_audience"))
    assert run.planner().plan(run.mailing)
    found = rows(run, sa.select(batch_table.c.chain, batch_table.c.pending).order_by(batch_table.c.chain))
    assert [tuple(row) for row in found] == [("en", 5), ("en+text", 2)]
    (excluded,) = rows(run, sa.select(mailings.c.excluded))
    assert excluded[0] == {"paused": 1}
    kinds = {
        row.chain: Rendition.from_bytes(row.content, digest=row.digest)
        for row in rows(run, sa.select(renditions.c.chain, renditions.c.content, renditions.c.digest))
    }
    assert set(kinds) == {"en", "en+text"}
