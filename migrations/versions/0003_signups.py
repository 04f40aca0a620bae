"""Sign-ups and their confirmations: two tables are added, nothing is taken away."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None
# Programs of 0002 send on beside this one: they know nothing of these tables, and need not.
compatible_from = "0002"


def upgrade() -> None:
    op.create_table(
        "signups",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("seal_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.String(length=120), nullable=False),
        sa.Column("text_version", sa.SmallInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_signups")),
    )
    op.create_table(
        "confirmations",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("address_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("chain", sa.String(length=120), nullable=False),
        sa.Column("text_version", sa.SmallInteger(), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=True),
        sa.Column("hour", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_confirmations")),
        sa.UniqueConstraint("address_hash", "day", name=op.f("uq_confirmations_address_hash_day")),
    )
    op.create_index("ix_confirmations_hour", "confirmations", ["hour"])


def downgrade() -> None:
    op.drop_table("confirmations")
    op.drop_table("signups")
