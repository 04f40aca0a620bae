"""Where the site is for the public: the one rule for what the publication's file and the settings may say."""

from __future__ import annotations

from urllib.parse import urlsplit


def is_base_url(url: str) -> bool:
    """Whether it is an address below which pages can be: http or https, a host, perhaps a port and a path."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
    return good and not (parts.query or parts.fragment or "@" in parts.netloc or " " in url)
