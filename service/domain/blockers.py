"""What stands against sending an issue: the editorial checks find it, a release refuses by it, operators are told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Blocker:
    """One thing to mend. Without an article it concerns the issue; `line` counts from 1 within the text's body."""

    message: str
    article: str | None = None
    language: str | None = None
    line: int | None = None

    def __str__(self) -> str:
        place = ".".join(part for part in (self.article, self.language) if part)
        line = f", line {self.line} of the body" if self.line else ""
        return f"{place}{line}: {self.message}" if place else self.message
