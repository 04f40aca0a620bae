"""What the checks of an issue found: findings with article and language, and a table of checks by editions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from service.domain.blockers import Blocker
from service.domain.chains import Chain
from service.domain.weeks import Week

# Every check in the order of the table, with the words for it.
CHECKS: Mapping[str, str] = {
    "approved": "every article has an approved text",
    "edition": "there is something to read",
    "translation": "nothing falls back or is left out",
    "stale": "translations are as new as their source",
    "leftover": "no place left open",
    "week": "the subject names this week",
    "markdown": "links, images and markup",
    "characters": "no control characters",
    "empty": "title, lead and body are written",
    "alphabet": "letters of the right alphabet",
    "dates": "dates exist and fall on their weekday",
    "facts": "numbers and dates agree between languages",
    "images": "every image is used",
    "permalink": "each permalink is new",
    "subject-length": "length of the subject",
    "preheader-length": "length of the preheader",
    "weight": "weight of the HTML",
    "styles": "weight of the styles",
    "foreign-host": "nothing loaded from elsewhere",
    "parity": "HTML and text say the same",
    "render": "the edition can be rendered and mailed",
}
# What must stop a mailing; everything else advises.
BLOCKING = frozenset(
    {"approved", "leftover", "week", "markdown", "characters", "empty", "weight", "foreign-host", "render"}
)


class Verdict(StrEnum):
    """One cell of the table."""

    OK = "ok"
    ADVICE = "advice"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found. `editions` are those that it concerns; `line` counts from 1 within the body."""

    rule: str
    blocks: bool
    message: str
    article: str | None = None
    language: str | None = None
    line: int | None = None
    editions: tuple[Chain, ...] = ()

    @property
    def blocker(self) -> Blocker:
        """The same for those who need not know which check found it."""
        return Blocker(self.message, self.article, self.language, self.line)

    def __str__(self) -> str:
        return str(self.blocker)


@dataclass(frozen=True, slots=True)
class Report:
    """All findings about an issue, those that block first, and the editions that were looked at."""

    week: Week
    editions: tuple[Chain, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def blocking(self) -> tuple[Finding, ...]:
        """What must be mended before the issue can be sent."""
        return tuple(finding for finding in self.findings if finding.blocks)

    def table(self) -> dict[str, dict[Chain, Verdict]]:
        """The verdict of each check for each edition."""
        cells = {rule: dict.fromkeys(self.editions, Verdict.OK) for rule in CHECKS}
        for finding in self.findings:
            row = cells.setdefault(finding.rule, dict.fromkeys(self.editions, Verdict.OK))
            for chain in finding.editions:
                if finding.blocks:
                    row[chain] = Verdict.BLOCKED
                elif row[chain] is Verdict.OK:
                    row[chain] = Verdict.ADVICE
        return cells


def merged(findings: list[Finding]) -> tuple[Finding, ...]:
    """The findings, one for all editions that have the same, the blocking ones first and then in the checks' order."""
    editions: dict[Finding, list[Chain]] = {}
    for finding in findings:
        editions.setdefault(replace(finding, editions=()), []).extend(finding.editions)
    order = {rule: number for number, rule in enumerate(CHECKS)}
    sorted_findings = sorted(editions, key=lambda finding: (not finding.blocks, order.get(finding.rule, len(order))))
    return tuple(replace(finding, editions=tuple(dict.fromkeys(editions[finding]))) for finding in sorted_findings)
