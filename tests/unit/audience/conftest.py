import pytest

from tests.unit.audience.files import Importer


@pytest.fixture
def importing(database, tmp_path):
    return Importer(database, tmp_path)


@pytest.fixture
def importing_to_sqlite(sqlite_database, tmp_path):
    return Importer(sqlite_database, tmp_path)
