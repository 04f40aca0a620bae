"""One connection, when what hears its replies fails."""

import asyncio
import socket

import pytest

from service.mail.channel import Channel


class Failing:
    """A listener that has no memory left."""

    def __init__(self):
        self.lost = asyncio.get_running_loop().create_future()

    def on_replies(self, _replies):
        raise MemoryError

    def on_drained(self):
        raise MemoryError

    def on_lost(self, text):
        self.lost.set_result(text)


@pytest.mark.parametrize("at", ["a reply", "a letter"])
def test_a_failure_in_the_middle_of_a_letter_breaks_the_connection_at_once(at):
    async def scenario():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        ours, theirs = socket.socketpair()
        _, channel = await loop.create_connection(Channel, sock=ours)
        listener = Failing()
        channel.listen(listener)
        if at == "a reply":
            theirs.send(b"250 2.0.0 queued\r\n")
        else:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            channel.write([b"x" * 4_000_000])
            assert channel.paused
            theirs.setblocking(False)
            while not listener.lost.done():
                try:
                    theirs.recv(65536)
                except BlockingIOError:
                    await asyncio.sleep(0)
        said = await asyncio.wait_for(listener.lost, 10)
        theirs.close()
        return said, channel.is_closing()

    assert asyncio.run(scenario()) == (f"the worker failed at {at}", True)
