"""A token bucket shared by all workers, as one instant in Valkey: up to when the tokens are given away.

Losing Valkey's memory never raises a rate: a bucket that is missing starts empty, or in debt.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import redis
from redis.exceptions import RedisError

from service.domain.errors import UnavailableError

# Tokens of at most this many seconds are kept while nobody takes any, so that a pause between two groups costs no rate.
BURST_SECONDS = 0.5
# Longer than any sensible wait; a bucket nobody uses goes away.
_KEEP_SECONDS = 3600
FOR_EVER = 1e12  # seconds
_AHEAD_SECONDS = 0.1
_MOST_AHEAD = 1000
_STOCKS = 16

# A bucket's value is the instant (in seconds) up to which tokens are given away, and at which rate they were. Taking
# n tokens at rate r moves it by n/r; the caller waits until that instant. Where the rate has changed, the tokens that
# are given away but not good yet are counted at the new one. Where there is no value, as many tokens count as given
# away as the caller knows to be. Only Valkey's clock counts, so hosts need not agree on the time. Of several buckets
# all give or none does: none where one would make the caller wait for longer than its patience.
# ARGV: tokens, burst, seconds to keep, patience; then for each bucket the rate and the tokens known to be given away.
_RESERVE = """
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local count, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local waits, values, longest = {}, {}, 0
for i, key in ipairs(KEYS) do
  local rate = tonumber(ARGV[3 + 2 * i])
  local given = now + tonumber(ARGV[4 + 2 * i]) / rate
  local stored = redis.call('GET', key)
  if stored then
    local instant, before = string.match(stored, '^(%S+) (%S+)$')
    given = tonumber(instant)
    if given > now then given = now + (given - now) * tonumber(before) / rate end
  end
  if given < now - burst then given = now - burst end
  given = given + count / rate
  values[i] = string.format('%.6f %.9g', given, rate)
  waits[i] = tostring(given - now)
  if given - now > longest then longest = given - now end
end
if longest <= tonumber(ARGV[4]) then
  for i, key in ipairs(KEYS) do redis.call('SET', key, values[i], 'EX', tonumber(ARGV[3])) end
end
return waits
"""


class PaceAwayError(UnavailableError):
    """Valkey did not answer: nobody knows the rate, so nobody sends until it is back."""


class Pace(Protocol):
    """Gives out the tokens of named buckets."""

    def reserve_all(self, rates: Mapping[str, float], count: int, patience: float = FOR_EVER) -> dict[str, float]:
        """Take `count` tokens of each bucket of `rates`, all or none; by bucket, the seconds to wait for its tokens.

        None is taken where one of the waits is longer than `patience`, in seconds.
        """
        ...

    def at_hand(self, rates: Mapping[str, float], count: int) -> dict[str, float] | None:
        """As `reserve_all`, of tokens that were taken ahead, without asking anybody; None where there are too few."""
        ...


@dataclass(slots=True)
class _Stock:
    """Tokens that were taken ahead; the last of them are good at `good_at`, by bucket, and none after `until`."""

    good_at: dict[str, float]
    until: float
    left: int


class ValkeyPace:
    """Buckets in Valkey (or Redis), one call a group of letters.

    At high rates one call takes the tokens of some groups ahead, of at most a tenth of a second: a call costs as much
    processor time as ten letters. Tokens that are not used are lost, which makes the rate no higher. One thread may
    call `reserve_all` while another calls `at_hand`.
    """

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
        self._stocks: dict[tuple[tuple[str, float], ...], _Stock] = {}  # by buckets and their rates
        self._lock = threading.Lock()  # around the stocks

    def reserve_all(self, rates: Mapping[str, float], count: int, patience: float = FOR_EVER) -> dict[str, float]:
        """As `Pace.reserve_all`; raises PaceAwayError where Valkey does not answer in two seconds."""
        if patience < FOR_EVER:
            return self._ask(rates, count, patience)
        at_hand = self.at_hand(rates, count)
        if at_hand is not None:
            return at_hand
        ahead = max(0, min(_MOST_AHEAD, int(min(rates.values()) * _AHEAD_SECONDS)) - count)
        waits = self._ask(rates, count + ahead, patience)
        if not ahead:
            return waits
        # Counted from before the question, tokens would be good too early by as long as that took to arrive.
        now = time.monotonic()
        good_at = {bucket: now + wait for bucket, wait in waits.items()}
        stock = _Stock(good_at, now + BURST_SECONDS, ahead)
        with self._lock:
            if len(self._stocks) >= _STOCKS:
                self._stocks.clear()
            self._stocks[tuple(rates.items())] = stock
        return _waits(stock, rates, ahead, now)

    def at_hand(self, rates: Mapping[str, float], count: int) -> dict[str, float] | None:
        """As `Pace.at_hand`."""
        now = time.monotonic()
        with self._lock:
            stock = self._stocks.get(tuple(rates.items()))
            if stock is None or stock.left < count or now > stock.until:
                return None
            stock.left = left = stock.left - count
        return _waits(stock, rates, left, now)

    def _ask(self, rates: Mapping[str, float], count: int, patience: float) -> dict[str, float]:
        arguments: list[float] = [count, BURST_SECONDS, _KEEP_SECONDS, patience]
        for bucket, rate in rates.items():
            arguments += (rate, self._outstanding.get(bucket, 0.0))
        try:
            said = self._reserve(keys=[f"tydzen:pace:{bucket}" for bucket in rates], args=arguments)
        except (RedisError, OSError) as error:
            raise PaceAwayError(f"Valkey is away ({type(error).__name__}); sending waits until it is back") from None
        waits = dict(zip(rates, map(float, said), strict=True))
        taken = max(waits.values(), default=0.0) <= patience
        for bucket, wait in waits.items():
            self._outstanding[bucket] = max(0.0, wait * rates[bucket] - (0 if taken else count))
        return waits

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()


def _waits(stock: _Stock, rates: Mapping[str, float], left: int, now: float) -> dict[str, float]:
    """By bucket, the seconds until the tokens are good that were taken last, where `left` of the stock come later."""
    return {bucket: stock.good_at[bucket] - left / rate - now for bucket, rate in rates.items()}
