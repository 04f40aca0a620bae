"""How long an answer takes tells nobody whose address it was."""

import asyncio
import random
from http import HTTPStatus
from urllib.parse import urlencode

import pytest

from service.store import subscribers
from service.web import subscribing
from tests.unit.web.test_subscribing import CLASSES, address_of
from tests.unit.web.timing import NOTHING, friedman, measured

ROUNDS = 2000


class Straight:
    """Forms handed to the application itself: a client's own work would be half of what is measured."""

    def __init__(self, app):
        self._app = app

    async def post(self, path, form):
        """The whole answer: status, headers, body."""
        body = urlencode(form).encode()
        headers = [
            (b"host", b"localhost:8000"),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"content-length", b"%d" % len(body)),
        ]
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http"}
        scope |= {"path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": headers}
        scope |= {"client": ("127.0.0.1", 40000), "server": ("localhost", 8000), "state": {}}
        said = []

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            said.append(message)

        await self._app(scope, receive, send)
        start, *rest = said
        return start["status"], tuple(start["headers"]), b"".join(part.get("body", b"") for part in rest)


@pytest.fixture
def fast(open_app):
    """Nothing stands between that site and the test."""
    return Straight(open_app)


def posts(site, parts):
    """For each class of address, a post of the form with one; what it returns is the whole answer."""
    known = {kind: address_of(parts, kind) for kind in CLASSES if kind != "new"}

    def poster(kind):
        async def post(address):
            answer = await site.post("/be/subscribe", {"address": address, "language": "be"})
            assert answer[0] == HTTPStatus.SEE_OTHER
            return answer

        def prepared(number):
            # As long as the others, and never seen before.
            return post(known.get(kind) or f"canary-{number:>13}@example.test".replace(" ", "x"))

        return prepared

    return {kind: poster(kind) for kind in CLASSES}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_class_of_address_is_answered_faster_than_another(fast, parts):
    assert asyncio.run(measured(posts(fast, parts), ROUNDS)) < NOTHING


@pytest.mark.slow
def test_a_handler_that_looked_whose_address_it_is_would_be_found_out(fast, parts, monkeypatch):
    real = subscribing.sign_up

    def looking(session, bell, address, *rest, **more):
        if subscribers.find(session, address) is None:
            real(session, bell, address, *rest, **more)

    monkeypatch.setattr(subscribing, "sign_up", looking)
    assert asyncio.run(measured(posts(fast, parts), ROUNDS // 5)) > NOTHING


def test_the_statistic_is_small_for_chance_and_large_for_a_small_difference():
    noise = random.Random(3)
    same = [[noise.expovariate(1) for _ in range(6)] for _ in range(2000)]
    assert friedman(same) < NOTHING
    assert friedman([[one + 0.15 * (place == 2) for place, one in enumerate(times)] for times in same]) > NOTHING
