import hashlib

import pytest
import sqlalchemy as sa

from service.audience.csv_lines import MOST_COLUMNS
from service.audience.file_bounds import digest
from service.domain.errors import InvalidInputError
from service.store import subscribers
from service.store.tables import audit
from tests.unit.audience.test_importing import counts

HEAD = "email,languages\n"


def readers(number):
    return HEAD + "".join(f"r{one}@reader.test,be\n" for one in range(number))


def untouched(importing):
    with importing.database.read() as session:
        assert subscribers.counts(session) == []
        assert session.scalar(sa.select(sa.func.count()).select_from(audit)) == 0
    assert importing.octets == []
    return True


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_file_of_too_many_lines_is_refused_before_anything_is_changed(importing_to_sqlite, monkeypatch, dry_run):
    monkeypatch.setattr("service.audience.file_bounds.MOST_LINES", 5)
    for over in (readers(5), readers(5).rstrip("\n"), readers(4) + "\n", "\n" * 6):
        with pytest.raises(InvalidInputError, match=r"more than 5 lines; split it"):
            importing_to_sqlite(over, chunk=2, dry_run=dry_run)
        assert untouched(importing_to_sqlite)
    for within in (readers(4), readers(4).rstrip("\n"), readers(3) + "\n"):
        importing_to_sqlite(within, dry_run=True)
    counts(importing_to_sqlite(readers(4), chunk=2), new=4)


def test_a_file_of_too_many_lines_is_imported_in_parts_and_a_part_may_be_repeated(importing_to_sqlite, monkeypatch):
    monkeypatch.setattr("service.audience.file_bounds.MOST_LINES", 4)
    _, *lines = readers(6).splitlines(keepends=True)
    counts(importing_to_sqlite(HEAD + "".join(lines[:3])), new=3)
    counts(importing_to_sqlite(HEAD + "".join(lines[2:5])), new=2, known=1)
    counts(importing_to_sqlite(HEAD + "".join(lines[5:])), new=1)


def test_a_file_of_too_many_octets_is_refused_before_it_is_read(importing_to_sqlite, monkeypatch):
    text = readers(3)
    monkeypatch.setattr("service.audience.file_bounds.MOST_OCTETS", len(text))
    counts(importing_to_sqlite(text, dry_run=True), new=3)
    with pytest.raises(InvalidInputError, match=r"larger than 0\.0 GB; split it"):
        importing_to_sqlite(text + "\n")
    assert untouched(importing_to_sqlite)


def test_a_file_without_any_lines_is_measured_by_its_size_alone(tmp_path):
    # Of no blocks at all.
    path = tmp_path / "hole.csv"
    with path.open("wb") as file:
        file.truncate(2**32)
    with pytest.raises(InvalidInputError, match=r"larger than 2\.0 GB"):
        digest(path)


def test_the_digest_is_that_of_all_octets(tmp_path, monkeypatch):
    monkeypatch.setattr("service.audience.file_bounds._PART", 7)
    path = tmp_path / "readers.csv"
    path.write_text(readers(3))
    assert digest(path) == "sha256:" + hashlib.sha256(readers(3).encode()).hexdigest()


@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_a_header_of_too_many_columns_is_refused_before_anything_is_changed(importing_to_sqlite, mark):
    def text(columns):
        return f"email{mark}languages{mark * (columns - 2)}\nann@reader.test{mark}be{mark * (columns - 2)}\n"

    with pytest.raises(InvalidInputError, match=rf"names {MOST_COLUMNS + 1} columns; at most {MOST_COLUMNS}"):
        importing_to_sqlite(text(MOST_COLUMNS + 1))
    assert untouched(importing_to_sqlite)
    counts(importing_to_sqlite(text(MOST_COLUMNS)), new=1)


def test_a_line_of_too_many_columns_costs_itself_alone(importing_to_sqlite):
    text = "languages,email\nbe,ann@reader.test" + ",x" * 20_000 + "\nbe,bob@reader.test\n"
    counts(importing_to_sqlite(text), new=1, invalid=1)
    assert "20002 of 2 columns: too many" in importing_to_sqlite.invalid[2]
