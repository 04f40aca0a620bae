"""What an inspection found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing: `rule` is its stable name, `blocks` whether it must stop a mailing, `message` names thing and mend.

    `line` counts from 1 within what was inspected (a body, a title, a lead); None where there is no line.
    """

    rule: str
    blocks: bool
    message: str
    line: int | None = None
