"""Writing files of subscribers and importing them."""

from __future__ import annotations

import datetime as dt

from service.audience.importing import Listener, import_file
from service.store.departures import DepartureLog
from tests.factories import save_publication

NOW = dt.datetime(2019, 6, 3, 7, 0, tzinfo=dt.UTC)


class Importer:
    """Imports texts and octets into one database; remembers the invalid lines of the last run."""

    def __init__(self, database, folder):
        self.database = database
        self.folder = folder
        self.departures = DepartureLog(folder / "departures.log")
        self.invalid: dict[int, str] = {}
        self.octets: list[int] = []
        with database.begin() as session:
            save_publication(session)

    def __call__(self, content, **options):
        path = self.folder / "readers.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.invalid, self.octets = {}, []
        given = {"languages": None, "consent": None, "actor": "test", "now": NOW, **options}
        listener = Listener(self.invalid.__setitem__, self.octets.append)
        return import_file(self.database, self.departures, path, listener=listener, **given)
