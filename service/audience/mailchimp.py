"""What an export of Mailchimp says of a reader: by its columns of times, since no column names the status."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from service.audience.said import Said
from service.domain.errors import InvalidInputError
from service.domain.weeks import Week

# Every one of its exports has these, and nobody else's.
_MARKS = {"leid", "euid"}
# Its own columns that some export has; before the first of them stand the fields of the audience.
_OWN = {"member_rating", "optin_time", "optin_ip", "confirm_time", "confirm_ip", "unsub_time", "clean_time", *_MARKS}
_COMPLAINTS = ("spam", "abuse")


class MailchimpColumns:
    """Where the columns are: UNSUB_TIME, UNSUB_REASON, CLEAN_TIME, OPTIN_TIME and CONFIRM_TIME."""

    def __init__(self, header: Sequence[str]) -> None:
        # A merge field may bear the same name; Mailchimp's own stand last.
        cells = [cell.strip().lower() for cell in header]
        self._places = {cell: place for place, cell in enumerate(cells)}
        before = cells[: self.fields] if self.present else []
        self._statuses = [place for place, cell in enumerate(before) if cell == "status"]

    @property
    def present(self) -> bool:
        """Whether the file is an export of Mailchimp."""
        return self._places.keys() >= _MARKS

    @property
    def fields(self) -> int:
        """How many columns stand before its own: the address and what the audience asks for, by names of its choice."""
        return min(place for name, place in self._places.items() if name in _OWN)

    @property
    def has_statuses(self) -> bool:
        """Whether the audience has fields of its own that are called STATUS."""
        return bool(self._statuses)

    def statuses(self, cells: Sequence[str]) -> list[str]:
        """What those fields hold, in lower case: what somebody is to the audience, which may be that they left it."""
        return [cells[place].strip().lower() for place in self._statuses]

    def departed(self, cells: Sequence[str]) -> Said | None:
        """That somebody complained, was cleaned (the mailbox bounced) or left; None for who is still there."""
        left = bool(self._cell(cells, "unsub_time"))
        reason = self._cell(cells, "unsub_reason").lower()
        if left and any(word in reason for word in _COMPLAINTS):
            return Said.COMPLAINED
        if self._cell(cells, "clean_time"):
            return Said.BOUNCED
        return Said.UNSUBSCRIBED if left else None

    def joined(self, cells: Sequence[str]) -> Said:
        """Of who is still there: who neither opted in nor confirmed only bought something once."""
        return Said.ACTIVE if self._cell(cells, "optin_time") or self._cell(cells, "confirm_time") else Said.PENDING

    def joined_week(self, cells: Sequence[str]) -> str:
        """The ISO week of the confirmation, else of the opt-in, or nothing. Raises InvalidInputError."""
        time = self._cell(cells, "confirm_time") or self._cell(cells, "optin_time")
        if not time:
            return ""
        try:
            return str(Week.of(dt.datetime.fromisoformat(time).date()))
        except ValueError:
            raise InvalidInputError("CONFIRM_TIME or OPTIN_TIME is no time such as 2019-05-27 10:00:00") from None

    def _cell(self, cells: Sequence[str], name: str) -> str:
        place = self._places.get(name)
        return "" if place is None or place >= len(cells) else cells[place].strip()
