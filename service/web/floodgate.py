"""A brake for sign-ups by the thousand: counted by network and in all, in this process's memory, and never by address.

Whoever is over the limit gets the form back with a stamp, and passes with it half a minute later: no script is needed,
and a machine gets no further in an hour than it has patience for. Networks are known by a hash whose salt goes each
hour with all that was counted.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import ipaddress
import os
from collections import Counter
from threading import Lock

from service.domain.tokens import LinkSigner

# Sign-ups in an hour: of one network (an IPv4 /24 or an IPv6 /48), and of all, after which each must wait.
PER_NETWORK = 20
IN_ALL = 2000
# After so many times that, nobody passes until the hour is over.
HARDEST = 10
YOUNGEST_SECONDS, OLDEST_SECONDS = 20, 3600
_EPOCHS = 1 << 24


class Floodgate:
    """Of one process; several have a count each."""

    def __init__(self, stamps: LinkSigner, *, per_network: int = PER_NETWORK, in_all: int = IN_ALL) -> None:
        self._stamps = stamps
        self._per_network, self._in_all = per_network, in_all
        self._lock = Lock()
        self._begin(0)

    def _begin(self, hour: int) -> None:
        self._hour, self._salt, self._passed = hour, os.urandom(16), 0
        self._networks: Counter[bytes] = Counter()
        self._used: set[bytes] = set()

    def passes(self, host: str | None, stamp: str, now: dt.datetime) -> bool:
        """Whether a sign-up from that machine may pass now; `stamp` is what its form held, if anything."""
        second = int(now.timestamp())
        with self._lock:
            if second // 3600 != self._hour:
                self._begin(second // 3600)
            network = self._network(host)
            if not self._may_pass(network, stamp, second):
                return False
            self._passed += 1
            if network is not None:
                self._networks[network] += 1
            return True

    def _may_pass(self, network: bytes | None, stamp: str, second: int) -> bool:
        if self._passed >= self._in_all * HARDEST:
            return False
        if self._passed < self._in_all and (network is None or self._networks[network] < self._per_network):
            return True
        claim = self._stamps.read(stamp)
        if claim is None or claim.subscriber in self._used:
            return False
        if not YOUNGEST_SECONDS <= (second - claim.epoch) % _EPOCHS <= OLDEST_SECONDS:
            return False
        self._used.add(claim.subscriber)
        return True

    def stamp(self, now: dt.datetime) -> str:
        """A new stamp, good once, from 20 seconds to an hour after `now`."""
        return self._stamps.sign(os.urandom(16), int(now.timestamp()) % _EPOCHS)

    def _network(self, host: str | None) -> bytes | None:
        """The hash of the network; None for this machine: a proxy that tells nothing stands for all the world."""
        try:
            address = ipaddress.ip_address(host or "")
        except ValueError:
            return None
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        if address.is_loopback:
            return None
        prefix = address.packed[: 3 if address.version == 4 else 6]
        return hmac.digest(self._salt, prefix, hashlib.sha256)[:12]
