"""What the database can answer besides data, in words that nothing above needs SQLAlchemy to catch."""

from __future__ import annotations

from service.domain.errors import ConfigurationError, ConflictError, UnavailableError


class DatabaseAwayError(UnavailableError):
    """The database did not answer, or the transaction was lost with the connection; its outcome may be unknown."""


class DuplicateError(ConflictError):
    """A row that must be unique is there already."""


class UnknownKeyError(ConfigurationError):
    """An address is sealed with a key that is not in the keyring, nor in its file."""


class SpoiledAddressError(ConfigurationError):
    """A sealed address is not what was sealed: its octets are damaged, or they are another row's or keyring's."""
