"""Slugs that an article had before: one column is added, nothing is taken away."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None
# Programs of 0003 send on beside this one: they write rows without aliases, which is what None says.
compatible_from = "0003"


def upgrade() -> None:
    op.add_column("articles", sa.Column("aliases", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    op.drop_column("articles", "aliases")
