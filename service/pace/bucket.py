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

# Tokens of at most this many seconds are kept while nobody takes any, or one, so that a pause between two groups costs
# no rate, and one who does not wait for a slow rate gets a letter's token some time.
BURST_SECONDS = 0.5
# Longer than any sensible wait; a bucket nobody uses goes away.
_KEEP_SECONDS = 3600
FOR_EVER = 1e12  # seconds
_AHEAD_SECONDS = 0.1
_OWN_SECONDS = BURST_SECONDS / 2  # of what this process itself uses; none are good for longer than the whole
_MOST_AHEAD = 1000
_STOCKS = 16

# A bucket's value is the instant (in seconds) up to which tokens are given away, and at which rate they were. Taking
# n tokens at rate r moves it by n/r; the caller waits until that instant. Where the rate has changed, the tokens that
# are given away but not good yet are counted at the new one; not so where it is lower and they are good within ten
# seconds, for who has them uses them when they were promised, or, once the change is known, not at all: a group of the
# old rate would stop all for minutes. Who takes none leaves the rate as it is: it may be one of which he has not heard.
# Only Valkey's clock counts, so hosts need not agree on the time. Of several buckets all give or none does: none where
# one would make the caller wait for longer than its patience. A bucket that is new begins to fill even so. Fewer than
# no tokens are given back, at most as many as are not good yet: time that went by unused is no credit.
# Beside it stands what guards it: the instant of the last question, the one at which the bucket was made, up to when
# tokens count that were given away before that, and how often some were given back. Workers of an older release know
# of the first value alone, so it keeps its form. Where the clock was set back since that question, the bucket goes back
# with it. A caller tells what it knows to be given away. Of a bucket that is gone this is all that is left: what was
# promised beyond its end is added to the new one once, by whoever knows of it, and who makes the new one counts as much
# as there was when it last asked, for others have asked since. Of the same bucket, as long as nothing was given back,
# it shows that the clock was set forward, if by more than a question may have been on its way.
# KEYS: the buckets, then what guards each. ARGV: tokens, burst, seconds to keep, patience; then for each bucket the
# rate; what the caller knows: for how many seconds tokens are given away, how many those were when it asked, at which
# rate, and of which bucket (when it was made, how often some were given back).
_RESERVE = """
local function counted(left, before, rate)
  local anew = left * before / rate
  if left <= 0 or (anew > left and left <= 10) then return left end
  return anew
end
local now = redis.call('TIME')
now = tonumber(now[1]) + tonumber(now[2]) / 1000000
local count, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local buckets = #KEYS / 2
local values, unused, guards, answer, longest = {}, {}, {}, {}, 0
for i = 1, buckets do
  local at = 6 * i - 1
  local rate, left, before = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 3])
  local stored, guard = redis.call('GET', KEYS[i]), redis.call('GET', KEYS[buckets + i])
  local given, made, promised, returned = now, string.format('%.6f', now), now, 0
  local back, step = 0, count / rate
  if stored and guard then
    local last
    last, made, promised, returned = string.match(guard, '^(%S+) (%S+) (%S+) (%S+)$')
    back = math.max(0, tonumber(last) - now)
    promised, returned = tonumber(promised) - back, tonumber(returned)
  elseif not stored then
    left = math.max(left, tonumber(ARGV[at + 2]))
  end
  if stored then
    local instant, its = string.match(stored, '^(%S+) (%S+)$')
    its = tonumber(its)
    if count <= 0 then
      step = count / math.max(rate, its)
      rate = its
    end
    given = now + counted(tonumber(instant) - back - now, its, rate)
    if not guard then promised = given end
  end
  local told = now + counted(left, before, rate)
  if made == ARGV[at + 4] then
    if returned == tonumber(ARGV[at + 5]) and told - given > 2.5 then given = told end
  elseif told > promised then
    given = given + told - promised
    promised = told
  end
  given = math.max(given, now - math.max(burst, 1 / rate))
  unused[i] = string.format('%.6f %.9g', given, rate)
  given = math.max(given + step, math.min(given, now))
  if count < 0 then returned = returned + 1 end
  values[i] = string.format('%.6f %.9g', given, rate)
  guards[i] = string.format('%.6f %s %.6f %d', now, made, promised, returned)
  answer[i] = {tostring(given - now), tostring(rate), made, returned}
  if given - now > longest then longest = given - now end
end
if longest > tonumber(ARGV[4]) then values = unused end
for i = 1, buckets do
  local keep = tonumber(ARGV[3]) + math.ceil(1 / tonumber(ARGV[6 * i - 1]))
  redis.call('SET', KEYS[i], values[i], 'EX', keep)
  redis.call('SET', KEYS[buckets + i], guards[i], 'EX', keep)
end
return answer
"""


class PaceAwayError(UnavailableError):
    """Valkey did not answer: nobody knows the rate, so nobody sends until it is back."""


class Pace(Protocol):
    """Gives out the tokens of named buckets."""

    def reserve_all(self, rates: Mapping[str, float], count: int, patience: float = FOR_EVER) -> dict[str, float]:
        """Take `count` tokens of each bucket of `rates`, all or none; by bucket, the seconds to wait for its tokens.

        None is taken where one of the waits is longer than `patience`, in seconds; whoever asks again when it is not
        gets them, if nobody was faster. With 0 none is taken: told is until when the last are good that anybody took.
        A negative number gives back those that were taken at these rates and will not be used.
        """
        ...

    def at_hand(self, rates: Mapping[str, float], count: int) -> dict[str, float] | None:
        """As `reserve_all`, of tokens that were taken ahead, without asking anybody; None where there are too few."""
        ...


@dataclass(slots=True)
class _Stock:
    """Tokens of one call; the last of them are good at `good_at`, by bucket, and none after `until`."""

    asked_at: float
    taken: int
    good_at: dict[str, float]
    until: float
    left: int

    def used(self, now: float) -> float:
        """How many of them were used, in a second."""
        return (self.taken - self.left) / max(now - self.asked_at, 1e-3)


@dataclass(frozen=True, slots=True)
class _Known:
    """Up to when tokens of a bucket were given away, to anybody, at `rate`, when one was last asked for here."""

    until: float
    wait: float  # as long as it was until then
    rate: float
    made: str  # which bucket it was: when it was made, by Valkey's clock
    returned: int  # how often tokens had been given back to it


_NOTHING = _Known(-FOR_EVER, -FOR_EVER, 1.0, "-", 0)


class ValkeyPace:
    """Buckets in Valkey (or Redis), one call a group of letters.

    At high rates one call takes the tokens of some groups ahead, of at most a tenth of a second, and no more than this
    process itself will use before they are void: a call costs as much processor time as ten letters. Tokens that are
    not used are lost, which makes the rate no higher. One thread may call `reserve_all` while another calls `at_hand`.
    """

    def __init__(self, url: str) -> None:
        # A Unix socket knows no keep-alive, and redis-py refuses to be told of one.
        kept = {} if url.startswith("unix:") else {"socket_keepalive": True}
        self._client = redis.Redis.from_url(
            url, socket_timeout=2, socket_connect_timeout=1, health_check_interval=25, **kept
        )
        self._reserve = self._client.register_script(_RESERVE)
        # What others were promised must not be given away a second time, should Valkey forget it.
        self._known: dict[str, _Known] = {}
        self._stocks: dict[tuple[tuple[str, float], ...], _Stock] = {}  # by buckets and their rates
        self._lock = threading.Lock()  # around the stocks

    def reserve_all(self, rates: Mapping[str, float], count: int, patience: float = FOR_EVER) -> dict[str, float]:
        """As `Pace.reserve_all`; raises PaceAwayError where Valkey does not answer in two seconds."""
        if count <= 0:
            # What was taken ahead comes after them, so it would be good later than need be.
            return self._ask(rates, count - (self._dropped(rates) if count else 0), FOR_EVER)
        if patience < FOR_EVER:
            return self._ask(rates, count, patience)
        at_hand = self.at_hand(rates, count)
        if at_hand is not None:
            return at_hand
        asked_at, ahead = time.monotonic(), self._ahead(rates, count)
        waits = self._ask(rates, count + ahead, patience)
        # Counted from before the question, tokens would be good too early by as long as that took to arrive.
        now = time.monotonic()
        good_at = {bucket: now + wait for bucket, wait in waits.items()}
        stock = _Stock(asked_at, count + ahead, good_at, now + BURST_SECONDS, ahead)
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

    def _dropped(self, rates: Mapping[str, float]) -> int:
        """Forget what was taken ahead at these rates; how many of the tokens are left, and not void."""
        with self._lock:
            stock = self._stocks.pop(tuple(rates.items()), None)
            return 0 if stock is None or time.monotonic() > stock.until else stock.left

    def _ahead(self, rates: Mapping[str, float], count: int) -> int:
        """How many tokens to take besides these, by the use of the last; in whole groups, or a rest would be lost."""
        now = time.monotonic()
        with self._lock:
            before = self._stocks.get(tuple(rates.items()))
            own = 0.0 if before is None else before.used(now) * _OWN_SECONDS
        most = min(_MOST_AHEAD, own, min(rates.values()) * _AHEAD_SECONDS)
        return max(0, int(most / count) - 1) * count

    def _ask(self, rates: Mapping[str, float], count: int, patience: float) -> dict[str, float]:
        # What is told of is older by the time it is heard, never newer.
        asked_at = time.monotonic()
        arguments: list[float | str] = [count, BURST_SECONDS, _KEEP_SECONDS, patience]
        for bucket, rate in rates.items():
            known = self._known.get(bucket, _NOTHING)
            # A bucket that nobody has used for so long is gone by itself, and others have asked for nothing since.
            wait = known.wait if asked_at - (known.until - known.wait) < _KEEP_SECONDS else -FOR_EVER
            arguments += (rate, known.until - asked_at, wait, known.rate, known.made, known.returned)
        keys = [f"tydzen:pace:{bucket}" for bucket in rates]
        try:
            said = self._reserve(keys=[*keys, *(f"{key}:guard" for key in keys)], args=arguments)
        except (RedisError, OSError) as error:
            raise PaceAwayError(f"Valkey is away ({type(error).__name__}); sending waits until it is back") from None
        waits = {bucket: float(wait) for bucket, (wait, *_) in zip(rates, said, strict=True)}
        taken = max(waits.values(), default=0.0) <= patience
        for bucket, (_, its, made, returned) in zip(rates, said, strict=True):
            given = waits[bucket] - (0.0 if taken else count / rates[bucket])
            self._known[bucket] = _Known(asked_at + given, given, float(its), made.decode(), int(returned))
        return waits

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()


def _waits(stock: _Stock, rates: Mapping[str, float], left: int, now: float) -> dict[str, float]:
    """By bucket, the seconds until the tokens are good that were taken last, where `left` of the stock come later."""
    return {bucket: stock.good_at[bucket] - left / rate - now for bucket, rate in rates.items()}
