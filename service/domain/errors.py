"""The families of errors. Each message names the thing, its id or place, and the mend; none holds an address."""


class TydzenError(Exception):
    """Root of all errors that are meant for a person; the edges turn each family into one exit or HTTP code."""


class InvalidInputError(TydzenError):
    """Something a person wrote cannot be used as it is (exit 2)."""


class CheckFailedError(TydzenError):
    """The input is well formed but a rule forbids going on (exit 3)."""


class NotFoundError(TydzenError):
    """What was named does not exist (exit 4)."""


class ConflictError(TydzenError):
    """The state of things does not allow this (exit 5)."""


class UnavailableError(TydzenError):
    """A part the service needs is away for now; trying again later can help (exit 7)."""


class ConfigurationError(TydzenError):
    """A setting, key or file of the installation is missing or wrong (exit 1)."""
