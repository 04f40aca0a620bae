"""Who came and who left, counted by week and chain: one table is added, nothing is taken away."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None
# Programs of 0003 send on beside this one: what they do to readers is not counted, and is done all the same.
compatible_from = "0003"


def upgrade() -> None:
    op.create_table(
        "growth",
        sa.Column("week", sa.String(length=8), nullable=False),
        sa.Column("chain", sa.String(length=120), nullable=False),
        sa.Column("change", sa.String(length=12), nullable=False),
        sa.Column("readers", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("week", "chain", "change", name=op.f("pk_growth")),
    )


def downgrade() -> None:
    op.drop_table("growth")
