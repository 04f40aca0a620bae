"""The bad network itself: what each kind of weather does to a plain echo server."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from tests.chaos.proxy import Proxy, Trap


@pytest.fixture
def echo():
    """The port of a server that says everything back, and lets go of who ends."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        with contextlib.suppress(OSError), connection:
            while octets := connection.recv(65536):
                connection.sendall(octets)

    def accept():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


@pytest.fixture
def proxy(echo):
    with Proxy(("127.0.0.1", echo)) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        yield client


def whole(client, length):
    octets = b""
    while len(octets) < length:
        octets += client.recv(65536)
    return octets


def test_fine_weather_passes_everything_on(client):
    client.sendall(b"x" * 300_000)
    assert whole(client, 300_000) == b"x" * 300_000


def test_latency_is_there_both_ways_and_can_be_ended(client, proxy):
    proxy.weather.latency = 0.1
    started = time.monotonic()
    client.sendall(b"hello")
    assert whole(client, 5) == b"hello"
    assert time.monotonic() - started > 0.19


def test_slices_of_one_octet_arrive_whole(client, proxy):
    proxy.weather.slice = 1
    client.sendall(b"hello world")
    assert whole(client, 11) == b"hello world"


def test_a_stall_keeps_what_was_said_until_it_ends(client, proxy):
    proxy.weather.stalled = True
    client.sendall(b"hello")
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.recv(5)
    proxy.weather.stalled = False
    client.settimeout(5)
    assert whole(client, 5) == b"hello"


def test_one_octet_is_wrong(client, proxy):
    proxy.weather.corrupt = 1
    client.sendall(b"hello")
    assert whole(client, 5) == bytes([b"h"[0] ^ 0x55]) + b"ello"


def test_a_reset_breaks_every_connection(client, proxy):
    client.sendall(b"hello")
    assert whole(client, 5)
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(5)


def test_a_trap_springs_before_the_words_are_passed_on_and_is_used_up(client, proxy):
    trap = Trap(b"COMMIT", "reset", skip=1)
    proxy.set_trap(trap)
    client.sendall(b"COMMIT one")
    assert whole(client, 10) == b"COMMIT one"
    client.sendall(b"COMMIT two")
    with pytest.raises(ConnectionResetError):
        client.recv(10)
    with socket.create_connection(("127.0.0.1", proxy.port), 5) as other:
        other.sendall(b"COMMIT three")
        assert whole(other, 12) == b"COMMIT three"
    assert trap.sprung == 1


def test_a_trap_may_keep_the_answer_alone(client, proxy):
    proxy.set_trap(Trap(b"COMMIT", "reset-after"))
    client.sendall(b"COMMIT")
    with pytest.raises(ConnectionResetError):
        client.recv(10)


def test_a_half_closed_server_says_nothing_more(client, proxy):
    proxy.set_trap(Trap(b"DOT", "half-after"))
    client.sendall(b"DOT")
    assert client.recv(10) == b""


def test_where_the_server_is_away_a_connection_is_reset(proxy, echo):
    proxy.weather.refusing = True
    # It may be reset before connecting has returned.
    with pytest.raises(ConnectionResetError), socket.create_connection(("127.0.0.1", proxy.port), 5) as client:
        client.recv(1)
