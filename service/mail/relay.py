"""A relay as configured: `smtp://user:pass@host:port?tls=none|starttls|implicit&connections=5`."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from service.domain.errors import ConfigurationError
from service.domain.limits import MOST_RATE
from service.mail.tls import Tls, chosen_tls, is_loopback, verifying_context

_OPTIONS = frozenset({"tls", "connections", "ca", "chunking", "rate", "per_day", "weight"})
_DECIMAL = re.compile(r"[0-9]{1,7}(\.[0-9]{1,6})?")
_PORTS = {"none": 25, "starttls": 587, "implicit": 465}


@dataclass(frozen=True, slots=True)
class Relay:
    """Where mail goes. `connections` is per worker process; `ca_file` replaces the system's authorities.

    `window` is how many letters may be past their dot at once on one connection where the relay offers CHUNKING;
    0 leaves CHUNKING unused. `rate` is in letters per second and `per_day` in letters, over all workers; None is no
    limit. `weight` is this relay's part beside the others, 0 for one that only stands in; None: it is used in its turn,
    when those before it cannot.
    """

    host: str
    port: int
    tls: Tls
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    connections: int = 5
    ca_file: str | None = None
    window: int = 4
    rate: float | None = None
    per_day: int | None = None
    weight: int | None = None

    @property
    def name(self) -> str:
        """The relay in logs and outcomes, without its secrets."""
        return f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it is this very machine, so that a password in clear stays on it."""
        return is_loopback(self.host)

    def tls_context(self) -> ssl.SSLContext | None:
        """A context that verifies certificate and name, TLS 1.2 or later; None when no TLS was asked for."""
        return None if self.tls is Tls.NONE else verifying_context(f"relay {self.name}", self.ca_file)


def parse_relays(urls: str) -> tuple[Relay, ...]:
    """The relays of a comma-separated list of URLs, in the order in which they are to be tried.

    Raises `ConfigurationError` also when one is named twice, and when some have a weight and others have none.
    """
    relays = tuple(parse_relay(url.strip()) for url in urls.split(",") if url.strip())
    names = [relay.name for relay in relays]
    for relay in relays:
        if names.count(relay.name) > 1:
            raise ConfigurationError(f"relay {relay.name} is named twice: once is enough")
    weightless = [relay.name for relay in relays if relay.weight is None]
    if 0 < len(weightless) < len(relays):
        raise ConfigurationError(f"relay {weightless[0]} has no weight, but others have: give each one, or none")
    return relays


def parse_relay(url: str) -> Relay:
    """The relay of one URL; raises `ConfigurationError` without repeating its secrets.

    Without `tls=` a loopback host is spoken to in clear, port 465 with implicit TLS, and any other with STARTTLS.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
    except ValueError as error:
        raise ConfigurationError("a relay URL is not well formed: write smtp://user:pass@host:port?tls=…") from error
    if parts.scheme not in {"smtp", "smtps"} or not host or parts.path.strip("/"):
        raise ConfigurationError("a relay URL has the form smtp://user:pass@host:port?tls=none|starttls|implicit")
    unknown = sorted(options.keys() - _OPTIONS)
    if unknown:
        raise ConfigurationError(
            f"relay {host}: unknown option {unknown[0]!r}; known are {', '.join(sorted(_OPTIONS))}"
        )
    tls = _tls(parts.scheme, host, port, options.get("tls"))
    relay = Relay(
        host=host,
        port=port or _PORTS[tls.value],
        tls=tls,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        connections=_count(host, "connections", options.get("connections", "5"), 100),
        ca_file=options.get("ca"),
        window=_window(host, options.get("chunking", "yes")),
        rate=_rate(host, options["rate"]) if "rate" in options else None,
        per_day=_count(host, "per_day", options["per_day"], 1_000_000_000) if "per_day" in options else None,
        weight=_count(host, "weight", options["weight"], 1000, lowest=0) if "weight" in options else None,
    )
    if relay.username and relay.password is None:
        raise ConfigurationError(f"relay {relay.name}: a user without a password")
    if relay.username and tls is Tls.NONE and not relay.is_loopback:
        raise ConfigurationError(f"relay {relay.name}: a password is never sent in clear: set tls=starttls or implicit")
    return relay


def _tls(scheme: str, host: str, port: int | None, wanted: str | None) -> Tls:
    implied = Tls.IMPLICIT if scheme == "smtps" or port == _PORTS["implicit"] else None
    tls = chosen_tls(f"relay {host}", host, wanted, implied=implied)
    if scheme == "smtps" and tls is not Tls.IMPLICIT:
        raise ConfigurationError(f"relay {host}: smtps:// means tls=implicit, not tls={wanted}")
    return tls


def _count(host: str, option: str, wanted: str, most: int, *, lowest: int = 1) -> int:
    if not (wanted.isascii() and wanted.isdecimal()) or not lowest <= int(wanted) <= most:
        raise ConfigurationError(f"relay {host}: {option} is a whole number from {lowest} to {most}, not {wanted!r}")
    return int(wanted)


def _rate(host: str, wanted: str) -> float:
    if not _DECIMAL.fullmatch(wanted) or not 0 < float(wanted) <= MOST_RATE:
        raise ConfigurationError(
            f"relay {host}: rate is in mails per second, above 0 and to {MOST_RATE:,}, such as 20 or 0.5, not "
            f"{wanted!r}; leave it out for no limit"
        )
    return float(wanted)


def _window(host: str, wanted: str) -> int:
    if wanted not in {"yes", "no"}:
        raise ConfigurationError(f"relay {host}: chunking is yes or no, not {wanted!r}")
    return 4 if wanted == "yes" else 0
