"""The words of mails, notices and pages: gettext catalogues read from .po files, one language asked for by name.

A word that a catalogue lacks is an error, never English in a Belarusian mail.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import NoReturn

from babel.messages.mofile import write_mo
from babel.messages.pofile import PoFileError, read_po
from markupsafe import Markup, escape

from service.domain.errors import ConfigurationError
from service.render.dates import direction, locale_of

LANGUAGE_NAME = "language name"
IN_LANGUAGE = "in language"
_PLACE = re.compile(r"\{(\w+)\}")


class _Complete(NullTranslations):
    """The end of each chain of catalogues: what arrives here is missing."""

    def __init__(self, language: str, folder: Path) -> None:
        super().__init__()
        self._language, self._folder = language, folder

    def _missing(self, words: str) -> NoReturn:
        raise ConfigurationError(
            f'language {self._language} has no words for "{words}"; add a msgstr to a .po file in {self._folder}'
        )

    def gettext(self, message: str) -> str:
        self._missing(message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:  # noqa: ARG002
        self._missing(msgid1)

    def pgettext(self, context: str, message: str) -> str:
        self._missing(f"{message} ({context})")

    def npgettext(self, context: str, msgid1: str, msgid2: str, n: int) -> str:  # noqa: ARG002
        self._missing(f"{msgid1} ({context})")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The words of one language. Call it with the English words that stand in a template."""

    language: str
    direction: str
    _translations: NullTranslations

    def __call__(self, words: str, **values: object) -> str:
        """`words` in this language, with `{name}` places filled in; raises ConfigurationError where there are none."""
        return _filled(self._translations.gettext(words), values)

    def html(self, words: str, **values: object) -> Markup:
        """As a call, but for HTML: words and values are escaped, values that are Markup stay markup."""
        text = escape(self._translations.gettext(words))
        escaped = {name: escape(value) for name, value in values.items()}
        return Markup(_filled(text, escaped))  # noqa: S704 - both were escaped just now

    def counted(self, one: str, many: str, count: int, **values: object) -> str:
        """The plural form for `count`, which also fills `{count}`."""
        return _filled(self._translations.ngettext(one, many, count), {"count": count, **values})

    def own_name(self) -> str:
        """The language's name in itself, as a reader looks for it: `Беларуская`."""
        return self._translations.pgettext(LANGUAGE_NAME, self.language)

    def in_language(self, code: str) -> str:
        """How this language says that something is written in language `code`: `па-руску`."""
        return self._translations.pgettext(IN_LANGUAGE, code)

    def language_name(self, code: str) -> str:
        """The name of language `code` in this language, inside a sentence: `руская`."""
        names = locale_of(self.language).languages
        return str(names.get(code) or names.get(code.partition("-")[0], code))


def _filled(text: str, values: Mapping[str, object]) -> str:
    # Not str.format: a place that nobody fills stays visible, and no value is ever read as a format or as a place.
    return _PLACE.sub(lambda place: str(values.get(place[1], place[0])), text)


class Catalogues(Mapping[str, Catalogue]):
    """All languages' words, by language code."""

    def __init__(self, catalogues: Mapping[str, Catalogue]) -> None:
        self._catalogues = dict(catalogues)

    def __getitem__(self, language: str) -> Catalogue:
        """The words of `language`; raises ConfigurationError for an empty code or one without a catalogue."""
        found = self._catalogues.get(language)
        if found is None:
            known = ", ".join(sorted(self._catalogues))
            raise ConfigurationError(
                f'no words for language "{language}" (there are {known}); '
                f"add templates/locale/{language or '<code>'}/LC_MESSAGES/*.po"
            )
        return found

    def __contains__(self, language: object) -> bool:
        return language in self._catalogues

    def __iter__(self) -> Iterator[str]:
        return iter(self._catalogues)

    def __len__(self) -> int:
        return len(self._catalogues)


def load_catalogues(folder: Path) -> Catalogues:
    """The catalogues of `folder`/<language>/LC_MESSAGES/*.po, compiled in memory.

    Raises ConfigurationError with file and reason for one that cannot be read, and where there is none at all.
    """
    found: dict[str, Catalogue] = {}
    for path in sorted(folder.glob("*/LC_MESSAGES")):
        language = path.parent.name
        translations: NullTranslations = _Complete(language, path)
        for file in sorted(path.glob("*.po")):
            compiled = _compiled(file, language)
            compiled.add_fallback(translations)
            translations = compiled
        found[language] = Catalogue(language, direction(language), translations)
    if not found:
        raise ConfigurationError(f"no <language>/LC_MESSAGES/messages.po under {folder}; set the templates folder")
    return Catalogues(found)


def _compiled(file: Path, language: str) -> GNUTranslations:
    octets = io.BytesIO()
    try:
        with file.open("rb") as source:
            write_mo(octets, read_po(source, locale=language.replace("-", "_"), abort_invalid=True))
    except (PoFileError, ValueError) as error:
        raise ConfigurationError(f"{file}: not a readable catalogue: {error}") from None
    octets.seek(0)
    return GNUTranslations(octets)
