"""Another database answers: nobody claims in it before every host has looked whether it knows what that one sent."""

import datetime as dt
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import sqlalchemy as sa

from service.delivery import hindrances, resolving, standing
from service.delivery.reconciling import Look, Reconciler, believing
from service.domain.delivery import DeliveryState
from service.domain.errors import ConflictError, NotFoundError
from service.mail.host import host_id
from service.store import engine_tables, hosts, mailings
from service.store.instants import stored
from tests.unit.delivery.parts import Run, books, result

HOUR = dt.timedelta(hours=1)


class Hosts:
    """Some hosts of one installation, each with a process that lives on, and the database that answers them."""

    def __init__(self, database, folder, clock, monkeypatch):
        self.database, self.folder, self.clock, self.monkeypatch = database, folder, clock, monkeypatch
        self.processes = {}

    def come(self, name):
        self.processes[name] = books(self.database, self.folder / name, self.clock)
        self.processes[name].compare(Look.ALL)

    def name(self, name):
        return host_id(self.folder / name)

    def fail_over(self, to):
        """From now on the server says that it is another one; what it holds is the same."""
        statement = str(hosts._POSTGRESQL_SIGHT).replace("|| ' ' ||", f"|| '{to}' ||")
        self.monkeypatch.setattr(hosts, "_POSTGRESQL_SIGHT", sa.text(statement))

    def may_claim(self, name):
        return believing(self.database, self.processes[name], lambda _: True) is True

    def unheard(self):
        with self.database.read() as session:
            return {one.host for one in hosts.unheard(session)}

    def unheard_for(self, name):
        with self.database.read() as session:
            of_it = sa.select(engine_tables.hosts).where(engine_tables.hosts.c.host == self.name(name))
            row = session.execute(of_it).one()
        return dt.timedelta(milliseconds=row.unheard_until - row.unheard_since)

    def database_now(self):
        with self.database.read() as session:
            return session.now()

    def put(self, name, **values):
        with self.database.begin() as session:
            session.execute(
                engine_tables.hosts.update().where(engine_tables.hosts.c.host == self.name(name)).values(**values)
            )

    def go_on_without(self, name):
        with self.database.begin() as session:
            return standing.go_on_without(session, self.name(name)[:8], actor="test", now=self.clock.now())


@pytest.fixture
def two(postgresql_database, tmp_path, clock, monkeypatch):
    made = Hosts(postgresql_database, tmp_path, clock, monkeypatch)
    made.come("one")
    made.come("other")
    assert made.may_claim("one")
    assert made.may_claim("other")
    return made


def test_who_finds_another_database_first_waits_for_the_other_host(two):
    two.fail_over("copy")

    assert not two.may_claim("one")
    assert two.unheard() == {two.name("other")}
    assert not two.may_claim("one")
    assert two.may_claim("other")
    assert two.may_claim("one")
    assert not two.unheard()


def test_an_old_host_that_sees_nothing_of_the_failover_is_waited_for_by_a_new_one(two):
    two.fail_over("copy")
    two.come("new")

    assert not two.may_claim("new")
    assert two.unheard() == {two.name("one"), two.name("other")}
    assert not two.may_claim("one")
    assert two.may_claim("other")
    assert two.may_claim("one")
    assert two.may_claim("new")


def test_it_is_waited_for_so_long_and_no_longer(two):
    two.fail_over("copy")
    assert not two.may_claim("one")

    assert two.unheard_for("other") == HOUR
    two.put("other", unheard_until=stored(two.database_now() + dt.timedelta(minutes=1)))
    assert not two.may_claim("one")
    two.put("other", unheard_until=stored(two.database_now()) - 1)
    assert two.may_claim("one")
    assert not two.unheard()


def test_a_host_that_was_gone_for_long_when_another_database_answered_is_not_waited_for(two):
    two.put("other", seen_at=stored(two.database_now() - dt.timedelta(minutes=11)))
    two.fail_over("copy")
    assert two.may_claim("one")


def test_what_was_long_ago_is_told_by_when_anybody_was_seen_last_and_not_by_the_clock(two):
    # The server was away for a night.
    evening = two.database_now() - dt.timedelta(hours=9)
    two.put("one", seen_at=stored(evening))
    two.put("other", seen_at=stored(evening - dt.timedelta(minutes=2)))
    two.fail_over("copy")
    assert not two.may_claim("one")
    assert two.unheard() == {two.name("other")}


def test_a_host_whose_program_does_not_say_what_it_compared_with_is_not_waited_for(two):
    two.put("other", database=None)
    two.fail_over("copy")
    assert two.may_claim("one")


def test_an_operator_may_go_on_without_it(two):
    two.fail_over("copy")
    assert not two.may_claim("one")
    with pytest.raises(NotFoundError):
        two.go_on_without("one")
    assert two.go_on_without("other") == two.name("other")
    assert two.may_claim("one")


def test_whoever_comes_later_goes_on_without_it_too(two):
    two.come("third")
    two.fail_over("copy")
    assert not two.may_claim("one")
    two.go_on_without("other")

    assert two.may_claim("third")
    assert two.may_claim("one")
    two.come("in its place")
    assert two.may_claim("in its place")
    assert two.may_claim("one")


def test_a_host_that_has_gone_back_to_an_older_program_is_waited_for_until_it_is_seen(two):
    two.fail_over("copy")
    assert not two.may_claim("one")
    # All that an older program says at its next sweep.
    two.put("other", seen_at=stored(two.database_now()) + 1, awaited_since=None)
    assert two.may_claim("one")
    assert not two.unheard()


def test_what_was_compared_with_the_server_before_says_nothing_of_this_one(two, monkeypatch):
    compare, servers = Reconciler._compare_journals, ["copy"]

    def compare_while_another_answers(self, look, found):
        compare(self, look, found)
        if self is two.processes["other"] and servers:
            two.fail_over(servers.pop())
            assert not two.may_claim("one")

    monkeypatch.setattr(Reconciler, "_compare_journals", compare_while_another_answers)
    two.processes["other"].compare()

    assert two.unheard() == {two.name("other")}
    assert not two.may_claim("one")
    assert two.may_claim("other")
    assert two.may_claim("one")


def test_a_clock_that_was_set_back_makes_nobody_wait_nor_be_forgotten(two):
    two.come("retired")
    two.put("retired", seen_at=stored(two.database_now() + 5 * HOUR))
    two.fail_over("copy")
    assert not two.may_claim("one")
    assert two.name("other") in two.unheard()
    # Set back once more, to before that.
    two.put(
        "other", unheard_since=stored(two.database_now() + HOUR), unheard_until=stored(two.database_now() + 2 * HOUR)
    )
    assert two.name("other") not in two.unheard()


def test_nothing_is_planned_or_resumed_or_sent_again_before_it_has_looked(two):
    run = Run(two.database, readers=2, planned=False)
    two.fail_over("copy")
    assert not two.may_claim("one")

    assert not run.planner().plan(run.mailing)
    with two.database.read() as session:
        assert two.name("other")[:8] in mailings.get(session, run.mailing).reason
    run.control("cancel")
    with pytest.raises(ConflictError, match=two.name("other")[:8]):
        run.control("retry")
    assert two.may_claim("other")
    run.control("retry")


def test_a_letter_of_unknown_fate_is_not_sent_again_before_every_host_has_looked(two):
    run = Run(two.database, readers=1)
    (only,) = run.gate(run.claim()).recipients
    run.record(result(only, DeliveryState.UNCERTAIN))
    two.fail_over("copy")
    assert not two.may_claim("one")

    def resent():
        with two.database.begin() as session:
            return resolving.resend_once(session, run.bell, now=run.now)

    assert resent() == 0
    assert two.may_claim("other")
    assert resent() == 1


def test_two_that_wait_for_hosts_which_a_backup_does_not_know_do_not_lock_each_other_out(two):
    turns, at_once = 20, Barrier(2)

    def find(name, other):
        for turn in range(turns):
            with two.database.begin() as session:
                session.execute(engine_tables.hosts.delete())
            at_once.wait(60)
            with two.database.begin() as session:
                hosts.await_all(session, f"{name} {turn}", {f"{other} {turn}": 1})
            at_once.wait(60)

    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(find, "a", "b"), both.submit(find, "b", "a")]:
            done.result(120)


def test_status_tells_which_host_is_waited_for(two):
    run = Run(two.database, readers=1)
    two.fail_over("copy")
    assert not two.may_claim("one")

    with two.database.read() as session:
        found = hindrances.of_mailing(session, run.mailing, now=two.database_now())
    assert [one.host for one in found.hosts_unheard] == [two.name("other")]


def test_two_that_find_another_database_at_once_do_not_wait_for_each_other_for_ever(two):
    turns, at_once = 30, Barrier(2)

    def find(name):
        for turn in range(turns):
            at_once.wait(60)
            with two.database.begin() as session:
                hosts.wait_for_others(session, two.name(name), f"database {turn}", seconds=60)
                hosts.raise_mark(session, two.name(name), turn + 10, f"database {turn}")

    with ThreadPoolExecutor(2) as both:
        for done in [both.submit(find, "one"), both.submit(find, "other")]:
            done.result(120)
    assert not two.unheard()
