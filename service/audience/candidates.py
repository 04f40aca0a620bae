"""From the entries of a file to candidates for the database, each checked on its own."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeVar

from service.audience.addresses import checked
from service.audience.consent import evidence
from service.audience.said import Said
from service.audience.subscriber_file import Entry
from service.domain.chains import Chain
from service.domain.errors import InvalidInputError
from service.domain.weeks import Week
from service.store import Sealer

_MOST_REMEMBERED = 10_000
# What many lines share is short.
_LONGEST_REMEMBERED = 400
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A line that holds an address and languages we can use."""

    address: str = field(repr=False)
    address_hash: bytes = field(repr=False)
    chain: Chain
    said: Said
    consent: str
    week: Week


@dataclass(frozen=True, slots=True)
class Defaults:
    """What counts for lines that do not say it themselves."""

    chain: Chain | None
    consent: str
    week: Week


class Examiner:
    """Checks entries; remembers the few languages, consents and weeks that a million lines share."""

    def __init__(self, sealer: Sealer, known_languages: Collection[str], defaults: Defaults) -> None:
        self._hash = sealer.address_hash
        self._known = known_languages
        self._defaults = defaults
        self._chains: dict[str, Chain] = {}
        self._consents: dict[str, str] = {"": defaults.consent}
        self._weeks: dict[str, Week] = {"": defaults.week}

    def candidate(self, entry: Entry) -> Candidate:
        """The entry, checked. Raises InvalidInputError that says what is wrong and repeats nothing of the line."""
        address = checked(entry.address)
        chain = self._chains.get(entry.languages) or self._chain(entry.languages, entry.said)
        consent = self._consents.get(entry.consent) or self._consent(entry.consent)
        week = self._weeks.get(entry.joined_week) or self._week(entry.joined_week)
        return Candidate(address, self._hash(address), chain, entry.said, consent, week)

    def _chain(self, text: str, said: Said) -> Chain:
        if not text:
            if self._defaults.chain is not None:
                return self._defaults.chain
            if said in {Said.ACTIVE, Said.PENDING}:
                raise InvalidInputError("no languages; for lines without them say --languages be,ru")
            # Who has left is only remembered: in which languages does not matter.
            return Chain((next(iter(self._known)),))
        try:
            chain = Chain.parse(text, self._known, aliases=True)
        except InvalidInputError:
            # The message would repeat the cell, and cells get mixed up.
            raise InvalidInputError(f"the languages are not some of {', '.join(self._known)}, each once") from None
        return _remember(self._chains, text, chain)

    def _consent(self, text: str) -> str:
        return _remember(self._consents, text, evidence(text) or self._defaults.consent)

    def _week(self, text: str) -> Week:
        try:
            week = Week.parse(text)
        except InvalidInputError:
            raise InvalidInputError("joined_week is no ISO week such as 2019-W22") from None
        # East of here it may be next week already.
        if week > self._defaults.week.shifted(1):
            raise InvalidInputError("joined_week is in the future")
        return _remember(self._weeks, text, week)


def _remember(memory: dict[str, _T], text: str, value: _T) -> _T:
    if len(memory) < _MOST_REMEMBERED and len(text) <= _LONGEST_REMEMBERED:
        memory[text] = value
    return value
