"""What every bell promises, the real one over Valkey and the fake one of the unit tests."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

import pytest
from celery import Celery

from service import log, queue
from service.domain.errors import UnavailableError
from service.queue import (
    BULK,
    NOTICES,
    SEND_BATCH,
    SEND_NOTICE,
    CeleryBell,
    celery_settings,
    ring_after_commit,
    waiting,
)
from tests.chaos.proxy import Proxy, Trap
from tests.fakes import FakeBell
from tests.servers import valkey_server

PROMISED = 0.2  # seconds


@pytest.fixture(params=["fake", "celery"])
def bell(request):
    if request.param == "fake":
        return FakeBell()
    app = Celery("tydzen")
    app.conf.update(celery_settings(request.getfixturevalue("valkey").url))
    return CeleryBell(app)


@pytest.fixture
def broken(bell, request):
    """The same bell, whose broker is gone."""
    if isinstance(bell, FakeBell):
        bell.away = True
    else:
        request.getfixturevalue("valkey").kill()
    return bell


def test_a_ring_that_was_heard_says_so(bell):
    bell = bell.patient()
    assert bell.ring(SEND_NOTICE, 7) is True
    assert bell.ring(SEND_BATCH, 1, 2) is True


@pytest.mark.parametrize("job", [SEND_BATCH, SEND_NOTICE])
def test_it_is_empty_until_something_is_rung(bell, job):
    bell = bell.patient()
    assert bell.empty() is True
    bell.ring(job, 7)
    assert bell.empty() is False


def test_one_that_is_emptied_is_empty(bell, request):
    bell = bell.patient()
    bell.ring(SEND_BATCH, 7)
    if isinstance(bell, FakeBell):
        bell.rung.clear()
    else:
        request.getfixturevalue("valkey").flushall()
    assert bell.empty() is True


def test_whether_one_is_empty_whose_broker_is_gone_cannot_be_known(broken):
    assert broken.empty() is False


def test_a_lost_ring_says_so_raises_nothing_and_takes_no_time(broken):
    started = time.monotonic()
    assert [broken.ring(SEND_NOTICE, number) for number in range(20)] == [False] * 20
    assert time.monotonic() - started < 5


def bells(url, count=20):
    for _ in range(count):
        app = Celery("tydzen")
        app.conf.update(celery_settings(url))
        yield CeleryBell(app)


def quickest(silent):
    """The shortest time that it takes a bell to find that nobody answers: what it waits, however busy the machine."""
    shortest = float("inf")
    for bell in silent:
        started = time.monotonic()
        assert bell.ring(SEND_NOTICE, 7) is False
        shortest = min(shortest, time.monotonic() - started)
        if shortest < PROMISED:
            break
    return shortest


def test_a_ring_waits_no_longer_than_is_promised_and_a_patient_one_much_longer():
    assert queue._RING_SECONDS < PROMISED
    assert queue._PATIENT_SECONDS > 5 * PROMISED


@pytest.mark.parametrize("connected", [True, False], ids=["connected before", "new connection"])
def test_a_broker_that_stands_still_holds_nobody_up_for_longer_than_is_promised(valkey, connected):
    made = list(bells(valkey.url))
    if connected:
        # On a busy machine not all get as far as that.
        made = [bell for bell in made if bell.ring(SEND_NOTICE, 7)]
        assert made
    valkey.freeze()
    try:
        assert quickest(made) < PROMISED
    finally:
        valkey.thaw()


def test_a_broker_to_which_no_packet_comes_through_holds_nobody_up_for_longer_than_is_promised():
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        # Once its queue is full, the kernel drops what knocks, as a firewall does.
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listening.getsockname())
        assert quickest(bells(f"redis://127.0.0.1:{listening.getsockname()[1]}/0")) < PROMISED


@pytest.fixture
def network(valkey):
    """A way to Valkey that may be a bad one."""
    with Proxy(Path(valkey.url.partition("//")[2].partition("?")[0])) as made:
        yield made


def test_a_broker_that_is_far_away_is_reached_by_a_bell_that_is_patient(network):
    (bell,) = bells(f"redis://127.0.0.1:{network.port}/0", 1)
    network.weather.latency = 0.1
    assert bell.ring(SEND_NOTICE, 7) is False
    assert bell.patient().empty() is True
    assert bell.patient().ring(SEND_NOTICE, 7) is True
    assert bell.patient().empty() is False


def test_one_that_is_patient_tries_once_more_where_a_connection_breaks_in_the_midst(network, valkey):
    (bell,) = bells(f"redis://127.0.0.1:{network.port}/0", 1)
    bell = bell.patient()
    for _ in range(3):
        network.set_trap(Trap(b"LPUSH", "reset"))
        assert bell.ring(SEND_NOTICE, 7) is True
    assert valkey.command("LLEN", NOTICES) == b":3\r\n"


def test_ringing_after_commit_survives_a_lost_hint(sqlite_database, broken):
    with sqlite_database.begin() as session:
        ring_after_commit(session, broken, SEND_NOTICE, 7)


@pytest.mark.parametrize(
    ("rung", "found"),
    [
        ((), {NOTICES: 0, BULK: 0}),
        ((SEND_BATCH, SEND_BATCH), {NOTICES: 0, BULK: 2}),
        ((SEND_NOTICE,), {NOTICES: 1, BULK: 0}),
        ((SEND_NOTICE, SEND_BATCH), {NOTICES: 1, BULK: 1}),
    ],
)
def test_hints_that_wait_are_counted_also_where_the_other_queue_is_empty(valkey, rung, found):
    app = Celery("tydzen")
    app.conf.update(celery_settings(valkey.url))
    for job in rung:
        assert CeleryBell(app).patient().ring(job, 7)
    assert waiting(app) == found


@contextlib.contextmanager
def forbidding(folder, *commands):
    """The app of a user whom an ACL forbids these commands, beside one to whom all is allowed."""
    with valkey_server(folder, tcp=True) as server:
        forbidden = [f"-{command}" for command in commands]
        assert (
            server.command("ACL", "SETUSER", "weekly", "on", ">canary", "~*", "&*", "+@all", *forbidden) == b"+OK\r\n"
        )
        apps = []
        for user in ("weekly:canary@", ""):
            app = Celery("tydzen", set_as_current=False)
            app.conf.update(celery_settings(server.url.replace("//", f"//{user}")))
            apps.append(app)
        yield apps


@pytest.mark.parametrize("command", ["llen", "exists"])
def test_where_the_broker_refuses_to_count_nothing_is_raised_and_rings_are_heard_at_once(tmp_path, capsys, command):
    log.configure(json=True)
    with forbidding(tmp_path / "acl", command) as (app, allowed):
        bell = CeleryBell(app).patient()
        for heard in (1, 2):
            assert bell.ring(SEND_BATCH, 7) is True
            assert bell.empty() is False
            assert bell.ring(SEND_NOTICE, 7) is True
            assert waiting(allowed) == {NOTICES: heard, BULK: heard}
        with pytest.raises(
            UnavailableError, match=r"refuses to count .*NoPermissionError.*TYDZEN_REDIS_URL.*LLEN"
        ) as caught:
            waiting(app)
    said = capsys.readouterr().err
    assert said.count("hints-not-counted") == 2
    assert "canary" not in said + str(caught.value)


def test_where_the_broker_refuses_hints_that_is_said_and_nothing_raised(tmp_path, capsys):
    log.configure(json=True)
    with forbidding(tmp_path / "acl", "lpush") as (app, _):
        assert CeleryBell(app).ring(SEND_BATCH, 7) is False
    assert "hint-lost" in capsys.readouterr().err


def test_of_a_broker_whose_name_nobody_can_look_up_nothing_is_known(capsys):
    (bell,) = bells("redis://valkey..example.org:6379/0", 1)
    for one in (bell, bell.patient()):
        assert one.empty() is False
    assert bell.patient().ring(SEND_NOTICE, 7) is False
