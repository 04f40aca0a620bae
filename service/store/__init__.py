"""Tables and all SQL. Addresses are sealed and opened here, and nothing above imports SQLAlchemy."""

from service.store.database import Database, Session
from service.store.errors import DatabaseAwayError, DuplicateError, SpoiledAddressError, UnknownKeyError
from service.store.sealing import Sealer

__all__ = [
    "Database",
    "DatabaseAwayError",
    "DuplicateError",
    "Sealer",
    "Session",
    "SpoiledAddressError",
    "UnknownKeyError",
]
