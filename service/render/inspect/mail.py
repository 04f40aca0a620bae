"""A rendered edition as a whole: its weight, what it would load, subject and preheader, parity of its two parts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from service.render.edition import RenderedEdition
from service.render.inspect.page import foreign_loads, read_page
from service.render.inspect.remark import Remark
from service.render.preheader import LONGEST, SHORTEST
from service.render.typography import unbind

KILO = 1024
# Gmail shows 102 KB and hides the rest, the footer with the unsubscribe link first.
HEAVY = 80 * KILO
TOO_HEAVY = 95 * KILO
STYLES_AT_MOST = 16 * KILO
# Phones show about 40 characters of a subject, most desktops 60; 78 is the line that RFC 5322, 2.1.1 asks for.
SUBJECT_LONG, SUBJECT_TOO_LONG = 60, 78

_STYLE = re.compile(r"<style\b[^>]*>(.*?)</style>", re.DOTALL)
_URL_LINE = re.compile(r"^(?:[> ]*)(?:\[\d+\] )?((?:https?://|mailto:)\S+)$", re.MULTILINE)


def inspect_mail(mail: RenderedEdition, *, base_url: str) -> list[Remark]:
    """All remarks about `mail`, the blocking ones first."""
    remarks = [*_weight(mail), *_loads(mail, base_url), *_lines(mail), *_parity(mail)]
    return sorted(remarks, key=lambda remark: not remark.blocks)


def _weight(mail: RenderedEdition) -> Iterator[Remark]:
    octets = len(mail.html.encode())
    if octets >= HEAVY:
        yield Remark(
            "weight",
            octets >= TOO_HEAVY,
            f"the HTML weighs {octets / KILO:.0f} KB; Gmail hides what comes after 102 KB: shorten the longest texts",
        )
    styles = sum(len(css.encode()) for css in _STYLE.findall(mail.html))
    if styles >= STYLES_AT_MOST:
        yield Remark(
            "styles", True, f"the styles weigh {styles / KILO:.0f} KB; Gmail drops them from 16 KB on: trim them"
        )


def _loads(mail: RenderedEdition, base_url: str) -> Iterator[Remark]:
    for address in foreign_loads(read_page(mail.html), base_url):
        yield Remark(
            "foreign-host", True, f'the mail would load "{address[:80]}"; only {base_url} may be asked: take it out'
        )


def _lines(mail: RenderedEdition) -> Iterator[Remark]:
    length = len(mail.subject)
    if length > SUBJECT_TOO_LONG:
        yield Remark(
            "subject-length", False, f"the subject has {length} characters and is cut everywhere; use at most 60"
        )
    elif length > SUBJECT_LONG:
        yield Remark("subject-length", False, f"the subject has {length} characters and is cut in many inboxes; use 60")
    length = len(mail.preheader)
    if not SHORTEST <= length <= LONGEST:
        yield Remark(
            "preheader-length", False, f"the preheader has {length} characters; {SHORTEST} to {LONGEST} fit an inbox"
        )


def _parity(mail: RenderedEdition) -> Iterator[Remark]:
    page = read_page(mail.html)
    text = _plain(mail.text)
    for _level, heading in page.headings:
        if _plain(heading) not in text:
            yield Remark(
                "parity", True, f'heading "{heading}" stands in the HTML only; the templates must both show it'
            )
    in_html, in_text = set(page.links), set(_URL_LINE.findall(mail.text))
    for link in sorted(in_html - in_text):
        yield Remark("parity", True, f'link "{link[:80]}" stands in the HTML only; the templates must both show it')
    for link in sorted(in_text - in_html):
        yield Remark(
            "parity", True, f'link "{link[:80]}" stands in the plain text only; the templates must both show it'
        )


def _plain(text: str) -> str:
    return " ".join(unbind(text).split())
