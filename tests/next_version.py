"""The next version of the program, as far as an upgrade sees it: a copy of this one whose schema has one more column."""

from __future__ import annotations

import shutil
from pathlib import Path

from service.store import schema

PROJECT = Path(__file__).resolve().parents[1]
NEXT = f"{int(schema.NEWEST) + 1:04}"

_MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{down}"
compatible_from = "{compatible_from}"


def upgrade():
    op.add_column("deliveries", sa.Column("note", sa.String(8), server_default="", nullable=False))


def downgrade():
    op.drop_column("deliveries", "note")
"""


def next_migrations(folder: Path, *, compatible_from: str = schema.NEWEST) -> Path:
    """This program's migrations and one more, in a new folder."""
    shutil.copytree(schema.MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    text = _MIGRATION.format(revision=NEXT, down=schema.NEWEST, compatible_from=compatible_from)
    (folder / "versions" / f"{NEXT}_next.py").write_text(text)
    return folder


def next_program(folder: Path) -> Path:
    """The whole next program in a new folder, to be run from there."""
    for name in ("service", "templates"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "worker.py", folder)
    next_migrations(folder / "migrations")
    path = folder / "service" / "store" / "schema.py"
    text = path.read_text()
    wanted = text.replace(f'NEWEST = "{schema.NEWEST}"', f'NEWEST = "{NEXT}"')
    assert wanted != text
    path.write_text(wanted)
    return folder
