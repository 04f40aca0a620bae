"""SQLite's one write lock: how a transaction that writes waits for it."""

from __future__ import annotations

import sqlite3
import time

from sqlalchemy.engine import Connection

# SQLite's own waiting looks again after 1, 2, 5, 10 … 100 ms. Two workers that pass their gates by turns, a few
# milliseconds each, slept through a tenth of their time.
_LOOK_EVERY = 0.001  # seconds


def begin(connection: Connection, seconds: float) -> None:
    """Begin a transaction that writes; as SQLAlchemy tells it where another has the lock for longer than `seconds`."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    until = time.monotonic() + seconds
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while time.monotonic() < until:
            try:
                driver.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
                time.sleep(_LOOK_EVERY)
            else:
                return
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
