"""Which provider's letters may be under way on how many sessions at once, and the letters that wait for that."""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from service.domain.replies import Reply, asks_for_patience
from service.mail.transaction import Transaction

_RUN = 20  # accepted letters that earn a provider one session more, or clear it of being slow
_BURST = 1.0  # seconds; what several sessions are told within them is one complaint
_MIXED_TICKS = 10  # ticks for which letters of other providers are expected after one was seen
_QUIET_TICKS = 120  # ticks without a complaint after which a provider is trusted with more


class _Leave(enum.Enum):
    GRANTED = enum.auto()
    RESERVED = enum.auto()  # the last session is kept for other providers
    HELD = enum.auto()  # the provider has all the sessions that it may have


@dataclass(slots=True)
class _Share:
    """What bounds one provider: `fixed` by an operator, `most` by what its letters met with; None is no bound."""

    fixed: int | None = None
    most: int | None = None
    slow: bool = False
    run: int = 0
    quiet: int = 0
    halved_at: float = float("-inf")

    def bound(self, connections: int) -> int:
        bounds = (connections, self.fixed, self.most)
        return min(bound for bound in bounds if bound is not None)


class Shares:
    """A provider has a share in the sessions: it is busy on each where a letter of its is under way.

    Three rules. A provider has no more sessions than `hold` or the replies to its letters leave it. While letters of
    several providers are about, one of them, or all slow ones together, leave one session to the others; only a
    provider that is not slow has that one as well, and only while its letters are being accepted. Behind a slow
    provider's letter a session takes no other provider's.

    So a provider that falls silent delays others only by the letters that stood behind its own in the same session
    when that began: one, or with CHUNKING as many as the window has.
    """

    def __init__(self, connections: int) -> None:
        self.connections = connections
        self.sessions: list[deque[Transaction]] = []  # what is under way on each
        self.turned_away: list[Transaction] = []  # to be given back at once
        self.latest: str | None = None  # the provider of the letter that came last
        self.careful = False  # whether `choose` decides, rather than the order of the queue
        self.watched = False  # whether `learn` wants to hear of accepted letters too
        self._shares: dict[str, _Share] = {}
        self._slow: set[str] = set()
        self._aside: dict[str, deque[Transaction]] = {}
        self._tight: set[str] = set()  # providers that met with the reserve, and whose letters prove something
        self._proven: set[str] = set()
        self._mixed = 0
        self._hungry = False

    # Providers

    def meet(self, provider: str) -> None:
        """Learn that the next letter is one of another provider than the last."""
        if self.latest is not None:
            self._mixed = _MIXED_TICKS
            self.careful = True
        self.latest = provider

    def hold(self, provider: str, most: int | None) -> None:
        """Let `provider` have `most` sessions, at least 1; None: as many as there are."""
        self._share(provider).fixed = None if most is None else max(1, most)
        self._update(provider)

    def sighted(self, provider: str) -> None:
        """Learn that a letter of `provider` takes long."""
        share = self._share(provider)
        share.slow, share.run, share.quiet = True, 0, 0
        self._update(provider)

    def is_slow(self, provider: str) -> bool:
        """Whether its letters take long, compared with those of others."""
        return provider in self._slow

    def learn(self, provider: str, reply: Reply, now: float, *, accepted: bool) -> bool:
        """Hear what became of a letter; whether an idle session may find a letter now that it did not find before."""
        if not accepted:
            if asks_for_patience(reply):
                self._halve(provider, now)
            return False
        grown = False
        if share := self._shares.get(provider):
            share.run += 1
            grown = share.run >= _RUN
            if grown:
                self._grow(provider, share)
        if provider in self._tight:
            self._proven.add(provider)
            grown = True
        wake, self._hungry = self._hungry and grown, self._hungry and not grown
        return wake

    def tick(self) -> None:
        """Half a second has passed."""
        self._mixed = max(0, self._mixed - 1)
        if not self._mixed:
            self._tight.clear()
            self._proven.clear()
        for provider, share in list(self._shares.items()):
            share.quiet += 1
            if share.quiet >= _QUIET_TICKS:
                self._grow(provider, share)
        self._weigh()

    def _share(self, provider: str) -> _Share:
        return self._shares.setdefault(provider, _Share())

    def _grow(self, provider: str, share: _Share) -> None:
        share.run = share.quiet = 0
        share.slow = False
        if share.most is not None:
            share.most += 1
        self._update(provider)

    def _halve(self, provider: str, now: float) -> None:
        share = self._share(provider)
        share.run = share.quiet = 0
        if now - share.halved_at > _BURST:
            share.halved_at = now
            share.most = max(1, share.bound(self.connections) // 2)
        self._update(provider)

    def _update(self, provider: str) -> None:
        share = self._shares[provider]
        if share.most is not None and share.most >= self.connections:
            share.most = None
        if share.slow:
            self._slow.add(provider)
        else:
            self._slow.discard(provider)
            if share.fixed is None and share.most is None:
                del self._shares[provider]
        self._weigh()

    def _weigh(self) -> None:
        self.careful = bool(self._mixed or self._shares or self._aside)
        self.watched = bool(self._shares or self._tight)

    # Letters

    @property
    def waiting(self) -> bool:
        """Whether letters wait beside the queue."""
        return bool(self._aside)

    def choose(self, queue: deque[Transaction], under_way: deque[Transaction]) -> Transaction | None:
        """Take from `queue`, or from beside it, the next letter for the session that has `under_way` under way."""
        if queue and not self._shares and self._mixed and len(self.sessions) > 1:
            # All is well: nearly always the first will do.
            provider = queue[0].letter.provider
            for session in self.sessions:
                if session is not under_way:
                    for transaction in session:
                        if transaction.letter.provider == provider:
                            break
                    else:
                        return queue.popleft()
        return self._search(queue, under_way)

    def _search(self, queue: deque[Transaction], under_way: deque[Transaction]) -> Transaction | None:
        ahead = self._ahead(under_way) if self._slow else None
        for provider, letters in self._aside.items():
            if ahead in {None, provider} and self._leave(provider, under_way) is _Leave.GRANTED:
                return self._from_aside(provider, letters)
        reserved: set[str] = set()
        at = 0
        while at < len(queue):
            transaction = queue[at]
            provider = transaction.letter.provider
            if provider in reserved:
                at += 1
                continue
            if ahead not in {None, provider}:
                return None
            leave = self._leave(provider, under_way)
            if leave is _Leave.RESERVED:
                reserved.add(provider)
                at += 1
                continue
            del queue[at]
            if leave is _Leave.GRANTED:
                return transaction
            self._set_aside(transaction)
        self._tight |= reserved
        self._hungry = True
        self._weigh()
        return None

    def _ahead(self, under_way: deque[Transaction]) -> str | None:
        """The slow provider that another letter of this session would stand behind."""
        return next((each.letter.provider for each in under_way if each.letter.provider in self._slow), None)

    def _leave(self, provider: str, under_way: deque[Transaction]) -> _Leave:
        share = self._shares.get(provider)
        if share is not None and self._crowded((provider,), under_way, share.bound(self.connections)):
            return _Leave.HELD
        others = len(self.sessions) - 1
        if not self._mixed or not others:
            return _Leave.GRANTED
        slow = share is not None and share.slow
        if not self._crowded(self._slow if slow else (provider,), under_way, others):
            return _Leave.GRANTED
        if slow:
            return _Leave.HELD
        if provider not in self._proven:
            return _Leave.RESERVED
        self._proven.discard(provider)
        return _Leave.GRANTED

    def _crowded(self, providers: Collection[str], under_way: deque[Transaction], bound: int) -> bool:
        """Whether `bound` of the other sessions are busy with `providers`."""
        spare = len(self.sessions) - 1 - bound
        if spare < 0:
            return False
        for session in self.sessions:
            if session is under_way:
                continue
            for transaction in session:
                if transaction.letter.provider in providers:
                    break
            else:
                spare -= 1
                if spare < 0:
                    return False
        return True

    def _set_aside(self, transaction: Transaction) -> None:
        provider = transaction.letter.provider
        letters = self._aside.setdefault(provider, deque())
        if letters and provider in self._slow:
            self.turned_away.append(transaction)
        else:
            letters.append(transaction)
        self._weigh()

    def _from_aside(self, provider: str, letters: deque[Transaction]) -> Transaction:
        transaction = letters.popleft()
        if not letters:
            del self._aside[provider]
            self._weigh()
        return transaction

    def overdue(self, before: float) -> list[Transaction]:
        """Take out the letters beside the queue whose gate runs out before `before`, and those turned away."""
        late, self.turned_away = self.turned_away, []
        for provider in list(self._aside):
            letters = self._aside[provider]
            while letters and letters[0].good_until < before:
                late.append(self._from_aside(provider, letters))
        return late
