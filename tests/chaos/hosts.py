"""Hosts of their own on one machine: network namespaces with a cable to this one that can be pulled out."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Host:
    """A namespace; this machine is `gateway` for it, over its own link."""

    name: str
    link: str
    gateway: str

    @property
    def within(self) -> tuple[str, ...]:
        """What a command is run with to be on this host."""
        return ("ip", "netns", "exec", self.name)

    def unplug(self) -> None:
        """Nothing comes through any more, and nobody is told."""
        _ip("link", "set", self.link, "down")

    def plug(self) -> None:
        """The cable is back; addresses of the link stay."""
        _ip("link", "set", self.link, "up")


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def hindrance() -> str | None:
    """Why there can be no hosts here, if so."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip` (iproute2) here"
    probe = f"tz{os.getpid()}p"
    try:
        _ip("netns", "add", probe)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces here: {error.stderr.strip()}"
    _ip("netns", "del", probe)
    return None


@contextlib.contextmanager
def hosts(count: int) -> Iterator[list[Host]]:
    """So many hosts with a link each, removed at the end."""
    made: list[Host] = []
    try:
        for number in range(count):
            mark = f"tz{os.getpid() % 100_000}{'abcdefgh'[number]}"
            net = f"10.{200 + os.getpid() % 50}.{os.getpid() // 50 % 250}"
            host = Host(f"{mark}n", f"{mark}o", f"{net}.{4 * number + 1}")
            _ip("netns", "add", host.name)
            made.append(host)
            _ip("link", "add", host.link, "type", "veth", "peer", "name", f"{mark}i", "netns", host.name)
            _ip("addr", "add", f"{host.gateway}/30", "dev", host.link)
            _ip("link", "set", host.link, "up")
            _ip("-n", host.name, "addr", "add", f"{net}.{4 * number + 2}/30", "dev", f"{mark}i")
            _ip("-n", host.name, "link", "set", f"{mark}i", "up")
            _ip("-n", host.name, "link", "set", "lo", "up")
        yield made
    finally:
        for host in made:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("netns", "del", host.name)
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("link", "del", host.link)
