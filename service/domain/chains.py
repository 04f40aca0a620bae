"""Language chains: what a reader accepts, in order, and what is shown of an article through it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import permutations

from service.domain.errors import InvalidInputError

_SEPARATORS = re.compile(r"[,|/;\s]+")
_CODE = re.compile(r"[a-z]{2,3}(-[a-z0-9]{2,8})*")
# `by` is the country; people type it for the language, so imports take it as an alias and nothing else does.
IMPORT_ALIASES = {"by": "be"}


@dataclass(frozen=True, slots=True, order=True)
class Chain:
    """An ordered, non-empty tuple of distinct BCP 47 codes: (`be`, `ru`) is "Belarusian, else Russian"."""

    languages: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.languages:
            raise InvalidInputError("a chain needs at least one language, such as be or be,ru")
        if len(set(self.languages)) != len(self.languages):
            raise InvalidInputError(f'languages "{self}" name one language twice')

    @property
    def first(self) -> str:
        """The language of everything that is not an article: dates, section names, trend words, notes."""
        return self.languages[0]

    def shown(self, available: Collection[str]) -> str | None:
        """The first language of the chain in `available`; None where nothing in the chain is there."""
        return next((language for language in self.languages if language in available), None)

    def __str__(self) -> str:
        return ",".join(self.languages)

    @classmethod
    def parse(cls, text: str, known: Collection[str], *, aliases: bool = False) -> Chain:
        """The chain written as `be,ru`, `be ru`, `be|ru` or `BE/RU`.

        With `aliases` (imports only) `by` counts as `be`. Raises InvalidInputError for an empty chain, a language said
        twice or one that the publication does not have.
        """
        codes = [code for code in _SEPARATORS.split(text.strip().lower()) if code]
        if aliases:
            codes = [IMPORT_ALIASES.get(code, code) for code in codes]
        for code in codes:
            if code not in known:
                hint = " (Belarusian is be)" if code == "by" else ""
                # Whatever else stands where a code should be is not repeated: it may be an address.
                named = f'language "{code}"' if is_language_code(code) else "what is given as a language"
                raise InvalidInputError(f"{named} is not one of {', '.join(sorted(known))}{hint}")
        return cls(tuple(codes))


def every_chain(languages: Iterable[str]) -> list[Chain]:
    """All chains over `languages`, shortest first: three languages give fifteen."""
    codes = tuple(languages)
    return [Chain(order) for length in range(1, len(codes) + 1) for order in permutations(codes, length)]


def is_language_code(code: str) -> bool:
    """Whether `code` is written like a BCP 47 language tag in lower case."""
    return _CODE.fullmatch(code) is not None


# Ends the key of an edition that is mailed as text alone: `be,ru+text`.
TEXT_ONLY = "+text"


def edition_key(chain: Chain, *, text_only: bool) -> str:
    """What an edition of a mailing is known by: the chain, and whether it is text alone."""
    return str(chain) + TEXT_ONLY * text_only


def read_edition_key(key: str) -> tuple[Chain, bool]:
    """The chain of that edition, and whether it is text alone."""
    chain = key.removesuffix(TEXT_ONLY)
    return Chain(tuple(chain.split(","))), chain != key
