"""What an accessibility checker finds on a page that is shown: in light and in dark, by rules that are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

# What wcag asks for at its two levels, and what is good practice besides.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Light and dark differ in colours alone: of what they change the second look at a width asks.
COLOURS = ["color-contrast", "link-in-text-block"]


def found_by(checker: Axe, page: Page, rules: Sequence[str]) -> list[tuple[str, str]]:
    """Each rule that is broken, with the first element that breaks it."""
    violations = checker.run(page, options={"runOnly": rules, "resultTypes": ["violations"]}).response["violations"]
    return [(each["id"], each["nodes"][0]["html"][:160]) for each in violations]


def found_in_each_scheme(
    checker: Axe, page: Page, schemes: Sequence[str]
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """What is found in each scheme: by all rules in the first, by those of colours in the others."""
    for scheme in schemes:
        page.emulate_media(color_scheme=scheme)
        yield scheme, found_by(checker, page, RULES if scheme == schemes[0] else COLOURS)
