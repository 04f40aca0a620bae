"""A token bucket shared by all workers, as one instant in Valkey: up to when the tokens are given away.

Losing Valkey's memory never raises a rate: a bucket that is missing starts empty, or in debt.
"""

from __future__ import annotations

from typing import Protocol

import redis
from redis.exceptions import RedisError

from service.domain.errors import UnavailableError

# Tokens of at most this many seconds are kept while nobody takes any, so that a pause between two groups costs no rate.
BURST_SECONDS = 0.5
# Longer than any sensible wait; a bucket nobody uses goes away.
_KEEP_SECONDS = 3600

# The bucket's value is the instant (in seconds) up to which tokens are given away, and at which rate they were. Taking
# n tokens at rate r moves it by n/r; the caller waits until that instant. Where the rate has changed, the tokens that
# are given away but not good yet are counted at the new one. Where there is no value, as many tokens count as given
# away as the caller knows to be (ARGV[5]). Only Valkey's clock counts, so hosts need not agree on the time.
_RESERVE = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local rate, count, burst = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local given = now + tonumber(ARGV[5]) / rate
local stored = redis.call('GET', KEYS[1])
if stored then
  local instant, before = string.match(stored, '^(%S+) (%S+)$')
  given = tonumber(instant)
  if given > now then given = now + (given - now) * tonumber(before) / rate end
end
if given < now - burst then given = now - burst end
given = given + count / rate
redis.call('SET', KEYS[1], string.format('%.6f %.9g', given, rate), 'EX', tonumber(ARGV[4]))
return tostring(given - now)
"""


class PaceAwayError(UnavailableError):
    """Valkey did not answer: nobody knows the rate, so nobody sends until it is back."""


class Pace(Protocol):
    """Gives out the tokens of named buckets."""

    def reserve(self, bucket: str, rate: float, count: int) -> float:
        """Take `count` tokens at `rate` per second; returns the seconds to wait before they may be used (≤ 0: none)."""
        ...


class ValkeyPace:
    """Buckets in Valkey (or Redis), one call a group of letters."""

    def __init__(self, url: str) -> None:
        # A Unix socket knows no keep-alive, and redis-py refuses to be told of one.
        kept = {} if url.startswith("unix:") else {"socket_keepalive": True}
        self._client = redis.Redis.from_url(
            url, socket_timeout=2, socket_connect_timeout=1, health_check_interval=25, **kept
        )
        self._reserve = self._client.register_script(_RESERVE)
        # By bucket, the tokens that were given away, to anybody, and not good yet when one was last asked for here:
        # should Valkey forget them, what others were promised must not be given away a second time.
        self._outstanding: dict[str, float] = {}

    def reserve(self, bucket: str, rate: float, count: int) -> float:
        """As `Pace.reserve`; raises PaceAwayError where Valkey does not answer in two seconds."""
        known = self._outstanding.get(bucket, 0.0)
        arguments = [rate, count, BURST_SECONDS, _KEEP_SECONDS, known]
        try:
            wait = float(self._reserve(keys=[f"tydzen:pace:{bucket}"], args=arguments))
        except (RedisError, OSError) as error:
            raise PaceAwayError(f"Valkey is away ({type(error).__name__}); sending waits until it is back") from None
        self._outstanding[bucket] = max(0.0, wait * rate)
        return wait

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()
