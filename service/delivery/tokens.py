"""The tokens of one run: a group needs some of each bucket that limits it, and waits until they are good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

from service import log
from service.clock import suspended_monotonic
from service.delivery.idleness import Waiting
from service.delivery.limits import Limits
from service.delivery.line import Line
from service.delivery.offload import Offload
from service.delivery.patience import AWAY_SECONDS
from service.delivery.routes import Routes
from service.domain.limits import INSTALLATION, provider_scope, relay_scope
from service.pace.bucket import FOR_EVER, Pace, PaceAwayError
from service.pace.groups import group_size, lowest_rate
from service.store.batches import Claim

# So often it is looked whether a rate has changed.
_LOOK_SECONDS = 0.5
# Who waits for so long asks once more: by then all know of a changed rate, and have given back what was taken before.
_ASK_SECONDS = 2.5

_log = log.get("send")


@dataclass(frozen=True, slots=True)
class Tokens:
    """Belongs to one run. `patiently` awaits with signs of life, `waiting` counts time that another run may use."""

    pace: Pace
    offload: Offload
    limits: Limits
    routes: Routes
    stopping: Callable[[], bool]
    lines: tuple[Line, ...]
    claim: Claim
    patiently: Callable[[Awaitable[Any]], Awaitable[Any]]
    waiting: Waiting

    def rates(self, line: Line, mailing_rate: float | None) -> dict[str, float]:
        """The rate of each bucket from which a group through this line needs tokens, in mails per second."""
        limits, relay = self.limits, relay_scope(line.relay)
        found = {
            INSTALLATION: limits.rate(INSTALLATION),
            self._mailing: mailing_rate,
            relay: limits.rate(relay),
        }
        if self.claim.provider:
            provider = provider_scope(self.claim.provider)
            found[provider] = limits.rate(provider)
        return {bucket: rate for bucket, rate in found.items() if rate}

    @property
    def _mailing(self) -> str:
        return f"mailing-{self.claim.mailing}"

    async def take(self, line: Line, count: int, mailing_rate: Callable[[], float | None]) -> bool:
        """Take `count` tokens of all buckets and wait until they are good; while Valkey is away, wait for it.

        False where none are taken, and the group is to be cut anew: an operator has changed a rate meanwhile, or the
        relay's own tokens would be good too late, and another relay may have some; `routes` know of that then.
        """
        patience = self.routes.patience(self.lines)
        while not self.stopping():
            rates = self.rates(line, mailing_rate())
            if not rates:
                return True
            if count > group_size(lowest_rate(*rates.values())):
                return False
            try:
                waits = await self._reserve(rates, count, patience)
            except PaceAwayError as error:
                _log.warning("pace-away", batch=self.claim.batch, error=str(error))
                await self.patiently(asyncio.sleep(AWAY_SECONDS))
                continue
            longest = max(waits.values())
            if longest > patience:
                if waits.get(relay_scope(line.relay)) == longest:
                    self.routes.out_of_tokens(line, longest)
                    return False
                patience = FOR_EVER  # what is short is short for every relay
            else:
                return await self._used(waits, rates, count, lambda: self.rates(line, mailing_rate()))
        return True

    async def _used(
        self, waits: dict[str, float], rates: dict[str, float], count: int, now: Callable[[], dict[str, float]]
    ) -> bool:
        """Wait for tokens that were taken, and give back what is not to be used: False where a rate has changed."""
        good = False
        try:
            good = await self._until_good(waits, rates, now)
        finally:
            if not good or self.stopping():
                # Or all would wait for them, at a lower rate for as much longer.
                await self._ask(rates, -count)
        return good

    async def _reserve(self, rates: dict[str, float], count: int, patience: float) -> dict[str, float]:
        at_hand = self.pace.at_hand(rates, count) if patience == FOR_EVER else None
        if at_hand is not None:
            return at_hand
        return await self.offload.pace(lambda: self.pace.reserve_all(rates, count, patience))

    async def _ask(self, rates: dict[str, float], count: int) -> float | None:
        """As `Pace.reserve_all`, for what can be left undone: the longest wait, None where Valkey is away."""
        try:
            waits = await self.offload.pace(lambda: self.pace.reserve_all(rates, count))
        except PaceAwayError:
            return None
        return max(waits.values())

    async def _until_good(
        self, waits: dict[str, float], rates: dict[str, float], now: Callable[[], dict[str, float]]
    ) -> bool:
        """Wait for tokens; False where a rate has changed meanwhile."""
        longest = max(waits.values())
        good_at = suspended_monotonic() + longest
        # What limits the provider or the mailing leaves time for others; what limits all does not.
        for_mailing = waits.get(self._mailing) == longest
        alone = for_mailing or waits.get(provider_scope(self.claim.provider)) == longest
        own = partial(self.waiting.counted, for_mailing=for_mailing) if alone else nullcontext
        ask_at = suspended_monotonic() + _ASK_SECONDS
        while (left := good_at - suspended_monotonic()) > 0 and not self.stopping():
            if now() != rates:
                return False
            if suspended_monotonic() >= ask_at:
                # No later than the last that anybody took: others may have given back what was before these.
                last = await self._ask(rates, 0)
                good_at = good_at if last is None else min(good_at, suspended_monotonic() + last)
                ask_at = suspended_monotonic() + _ASK_SECONDS
            with own():
                await self.patiently(asyncio.sleep(min(left, _LOOK_SECONDS)))
        return now() == rates
