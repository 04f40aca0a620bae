"""How long an answer takes tells nobody whose address it was."""

import random

import pytest
from fastapi.testclient import TestClient

from service.store import subscribers
from service.web import subscribing
from service.web.app import create_app
from service.web.floodgate import Floodgate
from tests.fakes import FakeBell
from tests.unit.web.test_subscribing import CLASSES, address_of
from tests.unit.web.timing import NOTHING, friedman, measured

ROUNDS = 2000


@pytest.fixture
def fast(parts, published, monkeypatch):
    """A browser at a site that lets everybody pass."""
    monkeypatch.setitem(parts.__dict__, "bell", FakeBell())
    app = create_app(parts)
    app.state.floodgate = Floodgate(parts.form_stamps, per_network=10**9, in_all=10**9)
    with TestClient(app, "http://localhost:8000", follow_redirects=False) as client:
        yield client


def posts(client, parts):
    """For each class of address, a post of the form with one; what it returns is the whole answer."""
    known = {kind: address_of(parts, kind) for kind in CLASSES if kind != "new"}

    def poster(kind):
        def post(number):
            # As long as the others, and never seen before.
            address = known.get(kind) or f"canary-{number:>13}@example.test".replace(" ", "x")
            answer = client.post("/be/subscribe", data={"address": address, "language": "be"})
            return answer.status_code, tuple(answer.headers.raw), answer.content

        return post

    return {kind: poster(kind) for kind in CLASSES}


@pytest.mark.slow
def test_no_class_of_address_is_answered_faster_than_another(fast, parts):
    assert measured(posts(fast, parts), ROUNDS) < NOTHING


@pytest.mark.slow
def test_a_handler_that_looked_whose_address_it_is_would_be_found_out(fast, parts, monkeypatch):
    real = subscribing.sign_up

    def looking(session, bell, address, *rest, **more):
        if subscribers.find(session, address) is None:
            real(session, bell, address, *rest, **more)

    monkeypatch.setattr(subscribing, "sign_up", looking)
    assert measured(posts(fast, parts), ROUNDS // 5) > NOTHING


def test_the_statistic_is_small_for_chance_and_large_for_a_small_difference():
    noise = random.Random(3)
    same = [[noise.expovariate(1) for _ in range(6)] for _ in range(2000)]
    assert friedman(same) < NOTHING
    assert friedman([[one + 0.15 * (place == 2) for place, one in enumerate(times)] for times in same]) > NOTHING
