"""Files of subscribers, told apart by their start: our own CSV, exports of listmonk and Mailchimp, address lists."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import BinaryIO

from service.audience.address_list import is_listed, listed
from service.audience.csv_lines import Broken, CsvLines, Lines, Record
from service.audience.mailchimp import MailchimpColumns
from service.audience.said import Said
from service.domain.errors import InvalidInputError

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_COLUMNS = ("email", "languages", "status", "consent", "joined_week", "attributes")
# What columns are called. Of those in a header the first rank counts; two of one rank cannot be told apart.
_NAMES = {
    **{column: ((column,),) for column in _COLUMNS},
    # "Address" is the street where another column is the mailbox.
    "email": (("email",), ("e-mail", "email address"), ("address",)),
    # In the order of listmonk's attributes.
    "languages": (("languages",), ("lang",), ("language",)),
}
# It calls the mailbox so in every export; any other name is a field that an audience thought of itself.
_MAILCHIMP_EMAIL = (("email address",), *_NAMES["email"])
# What a spreadsheet takes for the start of a formula.
GUARDED = ("=", "+", "-", "@", "\t", "\r")
_LISTMONK_KEYS = ("languages", "lang", "language")


class Origin(StrEnum):
    """What wrote a file."""

    CSV = "csv"
    LISTMONK = "listmonk"
    MAILCHIMP = "mailchimp"
    ADDRESSES = "addresses"


# The words of our own exports, of listmonk's (enabled, disabled, blocklisted) and of Mailchimp (cleaned).
_STATUSES = {
    "enabled": Said.ACTIVE,
    "confirmed": Said.ACTIVE,
    "unconfirmed": Said.PENDING,
    "disabled": Said.UNSUBSCRIBED,
    "cleaned": Said.BOUNCED,
    "blocklisted": Said.BLOCKED,
    "blacklisted": Said.BLOCKED,
    "suppressed": Said.BLOCKED,
    **{said.value: said for said in Said},
}
# Only an operator lifts these.
_LASTING = frozenset({Said.COMPLAINED, Said.BLOCKED})
# Who is not gone by these.
_STAYING = frozenset({Said.ACTIVE, Said.PENDING})


@dataclass(frozen=True, slots=True)
class Entry:
    """One line, as it was written: nothing but the status is checked yet."""

    number: int
    address: str = field(repr=False)
    languages: str
    said: Said
    consent: str
    joined_week: str


class SubscriberFile:
    """Reads the start at once and then entry after entry; `standing` is what a line that says nothing of it means.

    Raises InvalidInputError for a file that is unusable as a whole; what is wrong with a line is a Broken.
    """

    def __init__(self, file: BinaryIO, standing: Said = Said.ACTIVE) -> None:
        start = file.read(len(_UTF8_BOM))
        if start.startswith(_UTF16_BOMS):
            raise InvalidInputError("the file is UTF-16; save it as CSV in UTF-8")
        if start != _UTF8_BOM:
            file.seek(0)
        self._lines = Lines(file)
        self._standing = standing
        first = self._lines.first()
        self._table = None if first and first.text and is_listed(first.text) else _Table(self._lines, standing)

    @property
    def octets(self) -> int:
        """How much was read."""
        return self._lines.octets

    @property
    def origin(self) -> Origin:
        """What wrote it."""
        return Origin.ADDRESSES if self._table is None else self._table.origin

    @property
    def has_languages(self) -> bool:
        """Whether lines can say their languages."""
        return self._table is not None and self._table.has_languages

    @property
    def believed(self) -> int | None:
        """In how many lines read so far a field of a Mailchimp audience called STATUS told a departure.

        None where there is no such field. It counts for nothing else: it brings nobody in, and breaks no line.
        """
        return None if self._table is None else self._table.believed

    def __iter__(self) -> Iterator[Entry | Broken]:
        """Each entry or broken line, in the order of the file."""
        if self._table is not None:
            yield from self._table
            return
        for line in listed(self._lines):
            if isinstance(line, Broken):
                yield line
            else:
                yield Entry(line.number, line.text or "", "", self._standing, "", "")


class _Table:
    """A file whose first line names its columns."""

    def __init__(self, lines: Lines, standing: Said) -> None:
        self._records = CsvLines(lines)
        self._standing = standing
        header = self._records.header
        self._width = len(header)
        self._mailchimp = MailchimpColumns(header)
        self._places = _places(header, self._mailchimp)
        self._order = [self._places.get(name, -1) for name in _COLUMNS]
        self.origin = Origin.CSV
        if self._mailchimp.present:
            self.origin = Origin.MAILCHIMP
        elif "attributes" in self._places and "languages" not in self._places:
            self.origin = Origin.LISTMONK
        self.believed = 0 if self._mailchimp.present and self._mailchimp.has_statuses else None
        # Languages without quotes spill over into columns of their own; in the last one nothing else can be meant.
        self._languages_last = self._places.get("languages") == self._width - 1 and self._records.delimiter == ","

    @property
    def has_languages(self) -> bool:
        return "languages" in self._places or self.origin is Origin.LISTMONK

    def __iter__(self) -> Iterator[Entry | Broken]:
        for record in self._records:
            yield record if isinstance(record, Broken) else self._entry(record)

    def _entry(self, record: Record) -> Entry | Broken:
        cells = self._fitted(record.cells)
        if len(cells) != self._width:
            many = len(cells) > self._width
            hint = 'many; write languages as "be,ru" in quotes or as be|ru' if many else "few"
            return Broken(record.number, f"{len(cells)} of {self._width} columns: too {hint}")
        # An empty cell stands for each column that the file does not have.
        cells.append("")
        email, languages, status, consent, week, attributes = (cells[place].strip() for place in self._order)
        said = _STATUSES.get(status.lower()) if status else self._standing
        if said is None:
            return Broken(record.number, "the status is none of active, pending, unsubscribed, bounced, complained")
        if self.origin is Origin.MAILCHIMP:
            try:
                week = week or self._mailchimp.joined_week(cells)
            except InvalidInputError as error:
                return Broken(record.number, str(error))
            said = self._with_fields(cells, self._mailchimp_said(cells, said, told=bool(status)))
        if self.origin is Origin.LISTMONK:
            found = _languages_of(attributes)
            if found is None:
                return Broken(record.number, "the attributes are not a JSON object with languages in words")
            languages = found
        return Entry(record.number, _unguarded(email), languages, said, _unguarded(consent), week)

    def _mailchimp_said(self, cells: list[str], said: Said, *, told: bool) -> Said:
        """Who left or was cleaned there is so, whatever less is said of the line (`told`) or of all lines."""
        departed = self._mailchimp.departed(cells)
        if departed is not None:
            return said if told and said in _LASTING else departed
        return said if told or said is not Said.ACTIVE else self._mailchimp.joined(cells)

    def _with_fields(self, cells: list[str], said: Said) -> Said:
        """Believe the audience's fields called STATUS where they tell a departure, unless that takes something away."""
        words = [_STATUSES.get(word) for word in self._mailchimp.statuses(cells)]
        departures = [word for word in words if word is not None and word not in _STAYING]
        if self.believed is not None and departures:
            self.believed += 1
        for word in departures:
            if said in _STAYING or (word in _LASTING and said is not Said.BLOCKED):
                said = word
        return said

    def _fitted(self, cells: list[str]) -> list[str]:
        surplus = cells[self._width :]
        if not surplus:
            return cells
        if self._languages_last:
            return [*cells[: self._width - 1], ",".join(cells[self._width - 1 :])]
        return cells if any(surplus) else cells[: self._width]


def _places(header: list[str], mailchimp: MailchimpColumns) -> dict[str, int]:
    """In which place of a line each of our columns stands. Raises InvalidInputError that repeats no other cell."""
    cells = [cell.strip().lower() for cell in header]
    names = _NAMES
    first: dict[str, int] = {}
    if mailchimp.present:
        names = {**_NAMES, "email": _MAILCHIMP_EMAIL}
        # Mailchimp has no such column: among the fields of the audience it says what somebody is to the audience
        # (`_Table._with_fields`), and only after Mailchimp's own it was added to say what a reader is to us.
        first = {"status": mailchimp.fields}
    places = {}
    for column, ranks in names.items():
        found = [place for place in _named(cells, ranks) if place >= first.get(column, 0)]
        if len(found) > 1:
            same = " and ".join(cells[place] for place in found[:2])
            raise InvalidInputError(f"the header names two columns that mean {column}: {same}; rename one of them")
        if found:
            places[column] = found[0]
    if "email" not in places:
        raise InvalidInputError("the first line must name the columns, such as: email,languages")
    return places


def _named(cells: list[str], ranks: tuple[tuple[str, ...], ...]) -> list[int]:
    """Where the names of the first rank that is there stand."""
    for names in ranks:
        found = [place for place, cell in enumerate(cells) if cell in names]
        if found:
            return found
    return []


def _languages_of(attributes: str) -> str | None:
    """What the JSON of a listmonk subscriber says of languages; empty where nothing, None where it is no such JSON."""
    if not attributes:
        return ""
    try:
        said = json.loads(attributes)
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict):
        return None
    value = next((said[key] for key in _LISTMONK_KEYS if said.get(key)), "")
    if isinstance(value, list) and all(isinstance(code, str) for code in value):
        return ",".join(value)
    return value if isinstance(value, str) else None


def _unguarded(cell: str) -> str:
    """The cell without the apostrophe that keeps spreadsheets from taking it for a formula; our exports write it."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in GUARDED else cell
