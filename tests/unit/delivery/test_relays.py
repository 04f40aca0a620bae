"""A mailing through several relays: in their order, by weights, when one fails, is slow, or has sent enough today."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
import sqlalchemy as sa

from service import faults
from service.delivery import breaking, pacing
from service.delivery.limits import Limits, merged
from service.delivery.recovery import Recovery
from service.delivery.routes import Routes
from service.delivery.sweep import Sweep
from service.domain.limits import INSTALLATION, Limit, midnight_after, relay_scope
from service.pace.bucket import BURST_SECONDS, ValkeyPace
from service.store import batches, breakers, limits, locks, mailings, publication, tables
from service.store.instants import loaded, stored
from tests.factories import MADE_AT, OPERATORS
from tests.installation import miscounted
from tests.smtp_sink import Rule, SmtpSink
from tests.unit.delivery.parts import Run, books, wait_for_a_waiter
from tests.unit.delivery.worker import Clock, Worker
from tests.unit.render import samples


class Relays:
    """Two sinks and a worker that knows both."""

    def __init__(self, folder, stack):
        self.folder = folder
        self.sinks = [stack.enter_context(SmtpSink(folder / f"ledger-{number}")) for number in range(2)]

    def worker(self, run, *options, **more):
        urls = ",".join(
            f"smtp://127.0.0.1:{sink.port}?tls=none&connections=2{option}"
            for sink, option in zip(self.sinks, options or ("", ""), strict=True)
        )
        return Worker(run, self.folder, self.sinks[0], urls=urls, **more)

    def scope(self, number):
        return relay_scope(f"127.0.0.1:{self.sinks[number].port}")

    def taken(self):
        return [len(sink.entries()) for sink in self.sinks]

    def recipients(self):
        return sorted(entry.recipient for sink in self.sinks for entry in sink.entries())


@pytest.fixture
def relays(tmp_path):
    with contextlib.ExitStack() as stack:
        yield Relays(tmp_path, stack)


def complete(run, relays):
    assert relays.recipients() == sorted(run.addresses)
    assert run.counts() == {"accepted": len(run.addresses)}
    assert not miscounted(run.database, run.mailing)


def wait_for(what, seconds=60):
    give_up = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_without_weights_the_second_relay_gets_nothing_while_the_first_is_well(sqlite_database, relays):
    run = Run(sqlite_database, readers=60)
    assert relays.worker(run).send()
    assert relays.taken() == [60, 0]
    complete(run, relays)


def test_a_relay_that_is_down_is_left_for_the_next_and_used_again_when_it_is_back(database, relays):
    run = Run(database, readers=400)
    first, second = relays.sinks
    # The second is slow enough that there is something left when the first comes back.
    second.set_rules(Rule("DOT", delay=0.05))
    first.set_rules(Rule("DOT", delay=0.01))
    counted = []

    def fail_and_return():
        wait_for(lambda: len(first.entries()) > 20)
        first.stop()
        wait_for(lambda: len(second.entries()) > 10, seconds=8)
        counted.append(len(first.entries()))
        first.start()
        wait_for(lambda: len(first.entries()) > counted[0])

    worker = relays.worker(run)
    assert worker.send(meanwhile=fail_and_return)
    while run.state() != "sent" and run.counts().get("pending"):
        worker = relays.worker(run)
        worker.send()
    mailed = Counter(relays.recipients())
    assert max(mailed.values()) == 1
    states = run.counts()
    # Whoever was past the dot on a session that was dropped is uncertain: nobody knows, nobody is mailed twice.
    assert states["accepted"] + states.get("uncertain", 0) + states.get("deferred", 0) == 400
    assert states.get("uncertain", 0) <= 8
    assert not miscounted(run.database, run.mailing)


def test_a_relay_that_takes_nothing_for_five_seconds_is_passed_over_though_it_is_in_no_trouble(sqlite_database, relays):
    run = Run(sqlite_database, readers=300)
    first, second = relays.sinks
    # It lets in, and falls silent at the first reader of each session: far from the five minutes that RCPT has.
    first.set_rules(Rule("RCPT", then="hang"))
    seen = {}

    def look():
        try:
            wait_for(lambda: any(command.startswith("RCPT") for command in list(first.commands)))
            began = time.monotonic()
            wait_for(second.entries, seconds=30)
            seen["after"] = time.monotonic() - began
            # All but what the first one holds.
            wait_for(lambda: len(second.entries()) >= 280)
            seen["told"] = told(run, relays)
        finally:
            # What it holds is given back, and the worker comes to its end.
            first.stop()

    assert relays.worker(run).send(meanwhile=look)
    assert seen["after"] > 4
    assert seen["told"] is None
    assert relays.taken() == [0, 300]
    assert attempts(run) == 0
    complete(run, relays)


def told(run, relays, number=0):
    """What status says of a relay that is in trouble."""
    with run.database.read() as session:
        return breakers.every(session).get(relays.scope(number))


def test_of_a_login_that_one_relay_refuses_operators_hear_once_a_day_though_another_takes_the_mail(
    database, relays, tmp_path
):
    run = Run(database, readers=60, batch_limit=30)
    with database.begin() as session:
        publication.save(session, replace(samples.publication(), operators=OPERATORS), MADE_AT)
    first, second = relays.sinks
    # It was changed at that relay, and not here yet.
    first.settings.users["weekly"] = "new"
    urls = f"smtp://weekly:old@127.0.0.1:{first.port}?tls=none,smtp://127.0.0.1:{second.port}?tls=none"
    for number in run.batch_ids():
        assert Worker(run, tmp_path, first, urls=urls).send(number)
    # The mailing is over within seconds, and nobody tells of the relay any more.
    assert relays.taken() == [0, 60]
    assert told(run, relays).kind == "auth"

    later = breaking.RELAYS_DOWN + dt.timedelta(seconds=10)
    assert swept(run, relays, tmp_path, dt.timedelta(0)) == []
    problems = swept(run, relays, tmp_path, later)
    assert len(problems) == len(OPERATORS)
    assert problems[0].startswith(f"the relay 127.0.0.1:{first.port} has taken no mail since")
    assert "535" in problems[0]
    assert "weekly" not in problems[0]

    # What nobody told of again is forgotten; the trouble begins anew with the next mailing.
    assert told(run, relays) is None
    for ahead in (2 * later, 3 * later):
        tell(run, relays, 0, "auth", dt.datetime.now(dt.UTC) + ahead - later)
        assert swept(run, relays, tmp_path, ahead) == problems
    tomorrow = dt.timedelta(days=1) + later
    tell(run, relays, 0, "auth", dt.datetime.now(dt.UTC) + tomorrow - later)
    assert len(swept(run, relays, tmp_path, tomorrow)) == 2 * len(OPERATORS)


@pytest.mark.parametrize("kinds", [["down"], ["auth", "auth"], []], ids=["one is down", "all of them", "well"])
def test_of_other_trouble_of_one_relay_or_of_all_the_sweep_tells_nobody(sqlite_database, relays, tmp_path, kinds):
    run = Run(sqlite_database, readers=1)
    with sqlite_database.begin() as session:
        publication.save(session, replace(samples.publication(), operators=OPERATORS), MADE_AT)
    for number, kind in enumerate(kinds):
        tell(run, relays, number, kind, dt.datetime.now(dt.UTC))
    with sqlite_database.read() as session:
        assert mailings.last_begun(session).id == run.mailing
    # Where all are in trouble the worker tells, once, whose mailing waits.
    assert swept(run, relays, tmp_path, dt.timedelta(hours=1)) == []


def tell(run, relays, number, kind, now):
    """A worker tells of trouble of that relay."""
    with run.database.begin() as session:
        until = now + dt.timedelta(seconds=60)
        breakers.note_trouble(session, relays.scope(number), kind, "535 5.7.8 no", now=now, until=until)


def swept(run, relays, data_dir, ahead):
    """What operators have been told after a sweep so much later."""
    clock = Clock()
    clock.ahead = ahead
    names = [f"127.0.0.1:{sink.port}" for sink in relays.sinks]
    recovery = Recovery(run.database, data_dir, clock, 3600.0)
    parts = (run.database, run.bell, lambda *_: [], clock, recovery, books(run.database, data_dir))
    with run.database.begin() as session:
        locks.release(session, "sweep")
    assert Sweep(*parts, relays=lambda: names).run()
    with run.database.read() as session:
        rows = session.execute(sa.select(tables.notices.c.parameters).order_by(tables.notices.c.id)).scalars()
        return [row["problem"] for row in rows]


def attempts(run):
    with run.database.read() as session:
        return session.execute(sa.select(sa.func.count()).select_from(tables.attempts)).scalar_one()


@pytest.mark.parametrize(
    ("after", "hide"),
    [(0, set()), (30, set()), (30, {"CHUNKING", "PIPELINING"})],
    ids=["from the start", "in mid-session", "in mid-session, in lockstep"],
)
def test_a_relay_that_wants_a_login_before_it_takes_a_letter_is_left_for_the_next(sqlite_database, relays, hide, after):
    run = Run(sqlite_database, readers=200)
    first, second = relays.sinks
    first.settings.hide = second.settings.hide = frozenset(hide)
    # From then on it wants one of all sessions, and this worker has none.
    first.set_rules(Rule("MAIL", "530 5.7.0 authentication required", skip=after))
    # There is still something left when the first is told of.
    second.set_rules(Rule("DOT", delay=0.02))
    seen = []

    def look():
        wait_for(lambda: told(run, relays))
        seen.append(told(run, relays))

    assert relays.worker(run).send(meanwhile=look)
    assert seen[0].kind == "auth"
    assert "the relay wants a login: 530" in seen[0].reason
    assert relays.taken() == [after, 200 - after]
    assert max(Counter(relays.recipients()).values()) == 1
    assert attempts(run) == 0
    complete(run, relays)


def test_attempts_name_the_relay_by_the_sender_that_gated_them(sqlite_database, relays):
    run = Run(sqlite_database, readers=300)
    assert relays.worker(run, "&weight=1", "&weight=1").send()
    with run.database.read() as session:
        gated = sa.select(tables.senders.c.relay, sa.func.count()).join(
            tables.deliveries, tables.deliveries.c.sender_id == tables.senders.c.id
        )
        by_relay = dict(session.execute(gated.group_by(tables.senders.c.relay)).all())
    assert by_relay == {f"127.0.0.1:{sink.port}": len(sink.entries()) for sink in relays.sinks}


def test_weights_are_kept_roughly(sqlite_database, relays):
    run = Run(sqlite_database, readers=900)
    assert relays.worker(run, "&weight=3", "&weight=1").send()
    first, second = relays.taken()
    # A relay that has no room for a moment leaves its turn to the other, so that nothing stands still.
    assert 1.5 < first / second < 4.5
    complete(run, relays)


def test_a_relay_of_weight_zero_stands_in_when_no_other_can(sqlite_database, relays):
    run = Run(sqlite_database, readers=60, batch_limit=30)
    worker = relays.worker(run, "&weight=0", "&weight=1")
    first, second = run.batch_ids()
    assert worker.send(first)
    assert relays.taken() == [0, 30]
    relays.sinks[1].stop()
    assert relays.worker(run, "&weight=0", "&weight=1").send(second)
    assert relays.taken() == [30, 30]
    complete(run, relays)


def test_with_weights_a_slow_relay_does_not_hold_up_the_other(sqlite_database, relays):
    run = Run(sqlite_database, readers=400)
    slow, _ = relays.sinks
    slow.set_rules(Rule("DOT", delay=1))
    assert relays.worker(run, "&weight=1", "&weight=1").send()
    taken_by_slow, taken_by_fast = relays.taken()
    assert taken_by_fast > 10 * taken_by_slow
    complete(run, relays)


class Sometimes:
    """A relay, its line and its wire in one, that has room for so many letters."""

    trouble = None

    def __init__(self, number, room=0):
        self.relay = f"sink:{number}"
        self.wire, self.room = self, room

    def room_now(self, want):
        return min(want, self.room)

    def limit(self, _connections):
        """It has no sessions."""


class TestTurnsByWeight:
    """Of a relay that is slow beside one that always has room."""

    @pytest.fixture
    def lines(self):
        return Sometimes(25), Sometimes(26, 1000)

    @pytest.fixture
    def look(self, lines):
        weights = {relay_scope(line.relay): Limit(weight=1, connections=1) for line in lines}
        routes = Routes(Limits(weights), Clock().now)

        def look():
            found = routes.room_now(lines, lambda _line: 100, "")
            if found is not None:
                routes.give(lines, *found)
            return found

        return look

    def test_it_keeps_its_turn_for_a_moment_when_it_has_no_room(self, lines, look):
        slow, fast = lines
        slow.room = 100
        assert look() == (slow, 100)
        assert look() == (fast, 100)
        slow.room = 0
        assert look() is None
        time.sleep(0.11)
        assert look() == (fast, 100)

    def test_the_other_waits_no_moment_for_each_letter_that_it_takes(self, lines, look):
        slow, fast = lines
        assert look() is None
        time.sleep(0.11)
        for _ in range(3):
            slow.room = 1
            assert look() == (slow, 1)
            slow.room = 0
            assert [look(), look()] == [(fast, 100)] * 2
        # Once it takes all again it has its turns as before.
        slow.room = 100
        assert look() == (slow, 100)
        slow.room = 0
        assert look() is None


def test_with_weights_a_relay_that_is_limited_leaves_the_rest_to_the_other(sqlite_database, relays):
    run = Run(sqlite_database, readers=300)
    worker = relays.worker(run, "&weight=1&rate=0.5", "&weight=1")
    worker.send()
    first, second = relays.taken()
    # The clock of the buckets stands still, so no further token of the first is ever good.
    assert first <= 1
    assert second >= 299
    complete(run, relays)


class Counted:
    """A pace that counts what is asked of Valkey."""

    def __init__(self, pace):
        self._pace = pace
        self.calls = 0

    def reserve_all(self, *asked):
        self.calls += 1
        return self._pace.reserve_all(*asked)

    def at_hand(self, *asked):
        return self._pace.at_hand(*asked)


class TestRatesOfRelaysWithWeights:
    """With buckets that fill."""

    @pytest.fixture
    def paced(self, relays, valkey):
        pace = ValkeyPace(valkey.url)

        def made(run, *options, **more):
            worker = relays.worker(run, *options, **more)
            worker.dispatcher.pace = Counted(pace)
            return worker

        yield made
        pace.close()

    @pytest.mark.parametrize("weight", [1, 0])
    @pytest.mark.parametrize("rate", [0.5, 1, 3, 8])
    def test_each_gets_what_its_rate_allows_and_the_other_the_rest(self, sqlite_database, relays, paced, rate, weight):
        run = Run(sqlite_database, readers=120)
        # On its two sessions the other takes 25 a second, and nearly always has no room.
        relays.sinks[1].set_rules(Rule("DOT", delay=0.08))
        worker = paced(run, f"&weight=1&rate={rate}", f"&weight={weight}")
        began = time.monotonic()
        assert worker.send()
        seconds = time.monotonic() - began
        limited, other = relays.taken()
        assert 0.6 * rate * seconds - 1 <= limited <= rate * seconds + max(1, BURST_SECONDS * rate)
        assert limited
        assert other > 10 * seconds
        assert worker.dispatcher.pace.calls < 2 + 15 * seconds
        complete(run, relays)

    def test_two_that_are_slow_both_get_what_their_rates_allow(self, sqlite_database, relays, paced):
        run = Run(sqlite_database, readers=24)
        worker = paced(run, "&weight=1&rate=1", "&weight=1&rate=4")
        began = time.monotonic()
        assert worker.send()
        seconds = time.monotonic() - began
        first, second = relays.taken()
        assert 0.6 * seconds - 1 <= first <= seconds + 1
        assert 0.6 * 4 * seconds - 1 <= second <= 4 * seconds + 2
        assert worker.dispatcher.pace.calls < 2 + 15 * seconds
        complete(run, relays)

    @pytest.mark.usefixtures("before_midnight")
    def test_beside_one_whose_day_is_spent_replies_are_recorded_and_a_new_rate_holds_at_once(
        self, sqlite_database, relays, paced
    ):
        run = Run(sqlite_database, readers=40, batch_limit=20)
        worker = paced(run, "&weight=1&rate=0.02", "&weight=1&per_day=5", follow=10.0)
        seen = {}

        def set_rate():
            wait_for(lambda: run.counts().get("accepted") == 5)
            # Longer than a run must have waited for another batch to be taken up beside it.
            time.sleep(3)
            with run.database.begin() as session:
                now = time.time() * 1000
                seen["leases"] = [row.lease_until > now for row in session.execute(sa.select(tables.batches))]
                seen["calls"] = worker.dispatcher.pace.calls
                limits.save(session, relays.scope(0), Limit(rate=1000.0), now_ms=0)
            began = time.monotonic()
            try:
                wait_for(lambda: relays.taken()[0] > 0, seconds=10)
                seen["late"] = time.monotonic() - began
            finally:
                worker.stop = "late" not in seen

        assert worker.send(meanwhile=set_rate)
        # What limits every letter is no time for another batch.
        assert sorted(seen["leases"]) == [False, True]
        assert seen["calls"] < 5
        assert seen["late"] < 2
        assert relays.taken() == [35, 5]
        complete(run, relays)


@pytest.mark.usefixtures("before_midnight")
def test_a_relay_whose_day_is_spent_leaves_the_rest_to_the_next(database, relays):
    run = Run(database, readers=120)
    assert relays.worker(run, "&per_day=50", "").send()
    assert relays.taken() == [50, 70]
    complete(run, relays)


@pytest.mark.usefixtures("before_midnight")
class TestSpentDays:
    """With caps alone: what is left waits for the next day."""

    def spend(self, run, relays, options, **more):
        worker = relays.worker(run, *options, **more)
        worker.send()
        return worker

    def test_what_is_left_waits_until_midnight_and_then_goes_on(self, database, relays):
        run = Run(database, readers=50)
        now = dt.datetime.now(dt.UTC)
        worker = self.spend(run, relays, ("&per_day=10", "&per_day=20"))
        assert relays.taken() == [10, 20]
        assert run.counts() == {"accepted": 30, "pending": 20}
        batch = run.batch(run.batch_ids()[0])
        assert loaded(batch.not_before) == midnight_after(now)
        assert not relays.worker(run, "&per_day=10", "&per_day=20").send()
        assert relays.taken() == [10, 20]

        tomorrow = relays.worker(run, "&per_day=10", "&per_day=20")
        tomorrow.clock.ahead = dt.timedelta(days=1)
        assert tomorrow.send()
        complete(run, relays)
        assert worker.stop is False

    def test_a_first_day_of_warm_up_lets_fifty_out(self, sqlite_database, relays):
        run = Run(sqlite_database, readers=70)
        with run.database.begin() as session:
            today = dt.datetime.now(dt.UTC).date()
            limits.save(session, INSTALLATION, Limit(warm_up_from=today), now_ms=stored(run.now))
        self.spend(run, relays, ("", ""))
        assert sum(relays.taken()) == 50
        with run.database.read() as session:
            assert limits.counted(session, today)[INSTALLATION] == 50

    def test_a_letter_that_was_not_sent_is_given_back_to_the_day(self, sqlite_database, relays):
        run = Run(sqlite_database, readers=30)
        first, _ = relays.sinks
        first.set_rules(Rule("DOT", delay=0.1))

        def break_off():
            wait_for(first.entries)
            first.stop()
            first.start()
            first.set_rules()

        worker = relays.worker(run, "&per_day=20", "&per_day=1")
        worker.send(meanwhile=break_off)
        counts = run.counts()
        assert counts["pending"] == 9
        # One through the second; of the first all that were not given back, whatever became of them.
        assert len(relays.sinks[1].entries()) == 1
        assert sum(counts.values()) - counts["pending"] - 1 == 20
        with run.database.read() as session:
            counted = limits.counted(session, dt.datetime.now(dt.UTC).date())
        assert counted[relays.scope(0)] == 20


@pytest.mark.usefixtures("before_midnight")
def test_two_workers_together_never_exceed_a_cap(database, relays):
    run = Run(database, readers=300, batch_limit=30)

    def worker():
        return relays.worker(run, "&per_day=100", "&per_day=40")

    numbers = run.batch_ids()

    def other():
        for number in numbers[1::2]:
            worker().send(number)

    worker().send(numbers[0], meanwhile=other)
    for number in numbers[2::2]:
        worker().send(number)
    assert relays.taken() == [100, 40]
    assert run.counts() == {"accepted": 140, "pending": 160}


def test_what_is_set_stands_over_the_settings_and_zero_lifts_them():
    settings = {INSTALLATION: Limit(rate=10), "relay:a:25": Limit(rate=5, per_day=100)}
    rows = {INSTALLATION: Limit(rate=0), "relay:a:25": Limit(per_day=50), "provider:gmail": Limit(rate=1)}
    assert merged(settings, rows) == {
        INSTALLATION: Limit(rate=0),
        "relay:a:25": Limit(rate=5, per_day=50),
        "provider:gmail": Limit(rate=1),
    }


@pytest.mark.usefixtures("before_midnight")
def test_status_says_whose_day_is_spent_and_a_raised_cap_lets_the_rest_go(sqlite_database, relays):
    run = Run(sqlite_database, readers=40)
    worker = relays.worker(run, "&per_day=10", "&per_day=10")
    worker.send()
    now = dt.datetime.now(dt.UTC)
    with run.database.begin() as session:
        told = pacing.held_until(session, run.mailing, lambda: worker.limits.defaults, now=now)
        assert f"{relays.scope(0)} (10 a day)" in told
        assert f"{midnight_after(now):%Y-%m-%d} 00:00 UTC" in told
        pacing.change(session, run.bell, relays.scope(0), {"per_day": 0}, actor="test", now=now)
        assert pacing.held_until(session, run.mailing, lambda: worker.limits.defaults, now=now) is None
    assert relays.worker(run, "&per_day=10", "&per_day=10").send()
    assert relays.taken() == [30, 10]
    complete(run, relays)


@pytest.mark.usefixtures("before_midnight")
class TestCapsThatAreRaisedAsTheyAreFoundUsedUp:
    """A batch that is given back in that moment waits for no midnight."""

    def end(self, run, relays, raise_cap):
        worker = relays.worker(run, "&per_day=10", "&per_day=10")

        def at(point):
            if point == "before-give-back":
                faults.arm(None)
                raise_cap(worker)

        faults.arm(at)
        try:
            assert worker.send()
        finally:
            faults.arm(None)
        assert relays.taken() == [10, 10]
        assert run.batch(run.batch_ids()[0]).not_before == 0
        assert relays.worker(run, "&per_day=10", "&per_day=10").send()
        complete(run, relays)

    def change(self, run, relays, session, number=0):
        now = dt.datetime.now(dt.UTC)
        pacing.change(session, run.bell, relays.scope(number), {"per_day": 0}, actor="test", now=now)

    @pytest.mark.parametrize("known", [False, True])
    def test_before_the_run_gives_it_back(self, database, relays, known):
        run = Run(database, readers=40)

        def raise_cap(worker):
            with database.begin() as session:
                if not known:
                    worker.limits.read(session, worker.clock.now())
                for number in range(2):
                    self.change(run, relays, session, number)
                if known:
                    worker.limits.read(session, worker.clock.now())

        self.end(run, relays, raise_cap)

    def test_while_the_run_gives_it_back(self, postgresql_database, relays):
        run, threads, changed = Run(postgresql_database, readers=40), [], threading.Event()

        def change_slowly():
            with postgresql_database.begin() as session:
                self.change(run, relays, session)
                changed.set()
                wait_for_a_waiter(postgresql_database)

        def raise_cap(_worker):
            threads.append(threading.Thread(target=change_slowly))
            threads[0].start()
            assert changed.wait(30)

        self.end(run, relays, raise_cap)
        threads[0].join()

    def test_when_the_run_has_given_it_back_and_not_committed(self, postgresql_database, relays, monkeypatch):
        run, threads, give_back = Run(postgresql_database, readers=40), [], batches.give_back

        def change():
            with postgresql_database.begin() as session:
                self.change(run, relays, session)

        def give_back_slowly(*arguments, **named):
            monkeypatch.setattr(batches, "give_back", give_back)
            threads.append(threading.Thread(target=change))
            threads[0].start()
            wait_for_a_waiter(postgresql_database)
            return give_back(*arguments, **named)

        monkeypatch.setattr(batches, "give_back", give_back_slowly)
        assert relays.worker(run, "&per_day=10", "&per_day=10").send()
        threads[0].join()
        assert run.batch(run.batch_ids()[0]).not_before == 0
