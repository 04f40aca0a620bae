"""The brake for sign-ups by the thousand: by network and in all, and the way through it without a script."""

import re

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from service.domain.keys import Purpose
from service.domain.tokens import LinkSigner
from service.store.tables import signups
from service.web.app import create_app
from service.web.floodgate import HARDEST, IN_ALL, PER_NETWORK, Floodgate
from tests.conftest import KEYRING
from tests.fakes import FakeBell

STAMPS = LinkSigner(KEYRING, Purpose.FORM)


@pytest.fixture
def gate():
    return Floodgate(STAMPS)


def passed(gate, hosts, now, stamp=""):
    return sum(gate.passes(host, stamp, now) for host in hosts)


@pytest.mark.parametrize(
    "near",
    [
        lambda number: f"192.0.2.{number}",
        lambda number: f"::ffff:192.0.2.{number}",
        lambda number: f"2001:db8:7:{number:x}::{number:x}",
    ],
)
def test_one_network_passes_a_few_times_an_hour_whatever_machine_it_is(gate, clock, near):
    assert passed(gate, map(near, range(1, 100)), clock.now()) == PER_NETWORK
    assert gate.passes("198.51.100.1", "", clock.now())
    clock.advance(hours=1)
    assert gate.passes(near(1), "", clock.now())


def test_in_all_no_more_pass_than_the_ceiling(gate, clock):
    hosts = [f"10.{number // 256}.{number % 256}.1" for number in range(IN_ALL + 500)]
    assert passed(gate, hosts, clock.now()) == IN_ALL


@pytest.mark.parametrize("host", [None, "", "testclient", "127.0.0.1", "::1"])
def test_a_proxy_that_does_not_tell_whose_request_it_is_stands_for_no_network(gate, clock, host):
    assert passed(gate, [host] * 100, clock.now()) == 100


@pytest.mark.parametrize(("seconds", "good"), [(0, False), (19, False), (20, True), (3599, True), (3601, False)])
def test_a_stamp_is_good_after_a_while_and_not_for_ever(gate, clock, seconds, good):
    gate = Floodgate(STAMPS, per_network=0)
    stamp = gate.stamp(clock.now())
    clock.advance(seconds=seconds)
    assert gate.passes("192.0.2.1", stamp, clock.now()) is good


def test_a_stamp_is_good_once(clock):
    gate = Floodgate(STAMPS, per_network=0)
    stamp = gate.stamp(clock.now())
    clock.advance(seconds=30)
    assert [gate.passes("192.0.2.1", stamp, clock.now()) for _ in range(3)] == [True, False, False]


def test_no_other_token_is_a_stamp_and_a_stamp_opens_nothing_else(clock):
    gate = Floodgate(STAMPS, per_network=0)
    stamp = gate.stamp(clock.now())
    for purpose in Purpose:
        if purpose is not Purpose.FORM:
            other = LinkSigner(KEYRING, purpose)
            assert other.read(stamp) is None
            assert not gate.passes("192.0.2.1", other.sign(bytes(16), 1), clock.now())


def test_even_with_stamps_there_is_an_end(clock):
    gate = Floodgate(STAMPS, in_all=5)
    now = clock.now()
    stamps = [gate.stamp(now) for _ in range(100)]
    clock.advance(seconds=30)
    tries = [gate.passes(f"192.{number}.2.1", stamp, clock.now()) for number, stamp in enumerate(stamps)]
    assert sum(tries) == 5 * HARDEST


def test_nothing_is_kept_of_a_network_but_a_hash_that_is_another_one_each_hour(gate, clock):
    seen = []
    for _ in range(2):
        gate.passes("192.0.2.1", "", clock.now())
        (kept,) = gate._networks
        seen.append(kept)
        clock.advance(hours=1)
    assert seen[0] != seen[1]
    assert bytes([192, 0, 2]) not in b"".join(seen)


@pytest.fixture
def crowd(parts, published, monkeypatch):
    """A browser somewhere in the world, at a site that lets nobody pass without waiting."""
    monkeypatch.setitem(parts.__dict__, "bell", FakeBell())
    app = create_app(parts)
    app.state.floodgate = Floodgate(parts.form_stamps, per_network=1)
    with TestClient(app, "http://localhost:8000", follow_redirects=False, client=("192.0.2.1", 40000)) as client:
        yield client


def waiting(parts):
    with parts.database.read() as session:
        return session.scalar(sa.select(sa.func.count()).select_from(signups))


@pytest.mark.parametrize(("language", "words"), [("en", "half a minute"), ("be", "паўхвіліны"), ("ru", "полминуты")])
def test_who_is_braked_keeps_the_form_and_passes_a_little_later(crowd, parts, clock, language, words):
    filled = {"address": "canary@example.test", "language": [language, "en"], "newest": "1"}
    assert crowd.post(f"/{language}/subscribe", data=filled).status_code == 303
    braked = crowd.post(f"/{language}/subscribe", data=filled)
    assert (braked.status_code, braked.headers["retry-after"]) == (429, "30")
    assert braked.headers["cache-control"] == "no-store"
    assert words in braked.text
    assert 'value="canary@example.test"' in braked.text
    assert waiting(parts) == 1
    stamp = re.search(r'name="stamp" value="([\w-]+)"', braked.text)[1]
    assert crowd.post(f"/{language}/subscribe", data=filled | {"stamp": stamp}).status_code == 429
    clock.advance(seconds=30)
    assert crowd.post(f"/{language}/subscribe", data=filled | {"stamp": stamp}).status_code == 303
    assert waiting(parts) == 2
    assert crowd.post(f"/{language}/subscribe", data=filled | {"stamp": stamp}).status_code == 429
