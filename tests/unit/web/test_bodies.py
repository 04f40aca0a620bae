"""How much may be posted: as much as a form needs, and a page that says so to who posts more."""

import asyncio
import contextlib
import http.client
import socket
import threading

import pytest
import uvicorn

from service.web.app import create_app
from service.web.bodies import MOST_OCTETS
from service.web.guard import POLICY
from tests.unit.web.test_public import leave_link, preference_link, stored

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
WORDS = {
    "en": "This is more than the form takes. Go back, shorten it and send it again.",
    "be": "Гэта больш, чым прымае форма. Вярніцеся назад, скараціце тэкст і адпраўце яго яшчэ раз.",
    "ru": "Это больше, чем принимает форма. Вернитесь назад, сократите текст и отправьте его ещё раз.",
}


def paths(parts, one):
    return ["/be/subscribe", f"/c/{'A' * 48}", leave_link(parts, one), preference_link(parts, one), "/nowhere"]


@pytest.mark.parametrize("language", WORDS)
def test_a_body_that_says_it_is_too_large_gets_a_page_that_says_so(site, parts, reader, language):
    before = stored(parts, reader)
    for path in paths(parts, reader):
        answer = site.post(f"{path}?lang={language}", content=b"x" * (MOST_OCTETS + 1), headers=FORM)
        assert answer.status_code == 413, path
        assert WORDS[language] in answer.text.replace("\u00a0", " ")
        assert answer.headers["connection"] == "close"
        assert answer.headers["content-security-policy"] == POLICY
    assert stored(parts, reader) == before


def test_a_body_of_just_that_size_is_read(site, parts, reader):
    fields = b"language=en&x="
    body = fields + b"x" * (MOST_OCTETS - len(fields))
    assert site.post(preference_link(parts, reader), content=body, headers=FORM).status_code == 200
    assert stored(parts, reader).chain.languages == ("en",)


def test_a_large_body_that_does_not_say_so_is_not_read_to_its_end(site, parts, reader):
    read = 0

    def pieces():
        nonlocal read
        for _ in range(1000):
            read += 1
            yield b"language=en&" * 100

    before = stored(parts, reader)
    for path in ("/be/subscribe", preference_link(parts, reader)):
        answer = site.post(path, content=pieces(), headers=FORM)
        assert answer.status_code == 413
    assert stored(parts, reader) == before


@pytest.mark.parametrize("length", ["9" * 5000, str(1 << 40), "-1", "x"])
def test_a_length_that_is_none_harms_nobody(served, length):
    with socket.create_connection(("127.0.0.1", served), timeout=10) as connection:
        connection.sendall(f"POST /be/subscribe HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        connection.settimeout(10)
        status = connection.recv(4096).split()[1]
    assert status in (b"413", b"400")
    assert answers(served)


def test_an_endless_body_ends_with_413_over_a_real_connection(served):
    connection = http.client.HTTPConnection("127.0.0.1", served, timeout=10)
    connection.putrequest("POST", "/be/subscribe")
    connection.putheader("Transfer-Encoding", "chunked")
    connection.putheader("Content-Type", FORM["Content-Type"])
    connection.endheaders()
    piece = b"1000\r\n" + b"x" * 4096 + b"\r\n"
    for _ in range(MOST_OCTETS // 4096 + 1):
        connection.send(piece)
    assert connection.getresponse().status == 413
    connection.close()
    assert answers(served)


def answers(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200


@pytest.fixture
def served(parts, published):
    """The site on a port of its own, as it is served to everybody."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(parts), log_config=None))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listening])))
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()
    listening.close()
