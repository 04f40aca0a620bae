"""How a connection to a mail server is protected: what was asked for is had, or nothing is said."""

from __future__ import annotations

import enum
import ipaddress
import ssl

from service.domain.errors import ConfigurationError


class Tls(enum.Enum):
    """How a session is protected; there is no "if possible": what was asked for is had, or nothing is sent."""

    NONE = "none"
    STARTTLS = "starttls"
    IMPLICIT = "implicit"


def is_loopback(host: str) -> bool:
    """Whether it is this very machine, so that a password in clear stays on it."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def verifying_context(what: str, ca_file: str | None) -> ssl.SSLContext:
    """A context that verifies certificate and name, TLS 1.2 or later; `ca_file` replaces the system's authorities.

    Raises ConfigurationError, which says of `what` it is, where that file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigurationError(f"the CA file of {what} cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def chosen_tls(what: str, host: str, wanted: str | None, *, implied: Tls | None) -> Tls:
    """What `tls=` of a URL asks for; without it `implied`, else STARTTLS, but in clear to a loopback host.

    Raises ConfigurationError, which says of `what` it is, for another word.
    """
    if wanted is None:
        return implied or (Tls.NONE if is_loopback(host) else Tls.STARTTLS)
    try:
        return Tls(wanted)
    except ValueError as error:
        raise ConfigurationError(f"{what}: tls is none, starttls or implicit, not {wanted!r}") from error
