"""Which addresses a text may link to: absolute http and https, mailto, and the files of its own issue."""

from __future__ import annotations

import re
from collections.abc import Collection
from urllib.parse import urlsplit

_LONGEST = 900  # octets; a line of a mail holds 998 (RFC 5322, 2.1.1) and the tag needs room beside the address
# As `urlsplit` gives it: in lower case, an IPv6 address without its brackets.
_HOST = re.compile(
    r"(?:[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.?|[0-9a-f:.]*:[0-9a-f:.]+"
)
_MAILBOX = re.compile(r"mailto:[^\s@?]+@[^\s@?]+(?:\?[^\s]*)?", re.IGNORECASE)
_SPACE_OR_CONTROL = re.compile(r"[\x00-\x20\x7f-\x9f]")
_SCRIPTS = ("javascript", "vbscript", "data", "file", "blob")


def problem_of_link(href: str, files: Collection[str] = ()) -> str | None:
    """What is wrong with the address and how to mend it; None for one that may stand in a mail."""
    shown = href if len(href) <= 80 else href[:79] + "…"
    wrong = _wrong_form(href, shown)
    if wrong:
        return wrong
    try:
        parts = urlsplit(href)
        host, _port = parts.hostname, parts.port
    except ValueError:
        return f'link "{shown}" is malformed; write a full address such as https://example.org/page'
    if parts.scheme in ("http", "https"):
        return _problem_of_web_address(shown, host, has_user="@" in parts.netloc)
    if parts.scheme:
        return _problem_of_other_scheme(shown, href, parts.scheme)
    if href in files:
        return None
    return f'link "{shown}" is relative to nothing; write a full address, or add the file to the issue\'s folder'


def _wrong_form(href: str, shown: str) -> str | None:
    if not href:
        return "a link has no address; write [words](https://…)"
    if len(href.encode()) > _LONGEST:
        return f'link "{shown}" is longer than {_LONGEST} octets; link to a shorter address'
    if _SPACE_OR_CONTROL.search(href):
        return f'link "{shown}" holds a space or a control character; percent-encode it'
    if href.startswith(("//", "\\\\", "/\\", "\\/")):
        return f'link "{shown}" leaves out the scheme; write https:{shown}'
    if href.startswith("#"):
        return f'link "{shown}" points into the mail, where several programs ignore it; link to a page'
    return None


def _problem_of_other_scheme(shown: str, href: str, scheme: str) -> str | None:
    if scheme == "mailto":
        return None if _MAILBOX.fullmatch(href) else f'link "{shown}" is no mail address; write mailto:name@example.org'
    kind = "runs or embeds something" if scheme in _SCRIPTS else "has a scheme that mails do not open"
    return f'link "{shown}" {kind}; only https, http and mailto links are sent'


def _problem_of_web_address(shown: str, host: str | None, *, has_user: bool) -> str | None:
    if has_user:
        return f'link "{shown}" carries a user name, which hides where it leads; take it out'
    if not host or not _HOST.fullmatch(host):
        return f'link "{shown}" names no valid host; write a full address such as https://example.org/page'
    return None
