"""Providers, limits, breakers, bounces, measures, hosts and lost issues: all of it is added, nothing is taken away."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None
# The oldest program that may work with this schema. One of 0001 knows no such promise, and refuses.
compatible_from = "0002"


def upgrade() -> None:
    op.add_column("subscribers", sa.Column("provider", sa.String(length=40), nullable=True))
    op.add_column("batches", sa.Column("provider", sa.String(length=40), server_default="", nullable=False))
    op.add_column("batches", sa.Column("not_before", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("deliveries", sa.Column("epoch", sa.Integer(), nullable=True))
    op.create_table(
        "limits",
        sa.Column("scope", sa.String(length=160), nullable=False),
        sa.Column("rate", sa.Float(), nullable=True),
        sa.Column("connections", sa.Integer(), nullable=True),
        sa.Column("per_day", sa.Integer(), nullable=True),
        sa.Column("weight", sa.Integer(), nullable=True),
        sa.Column("warm_up_from", sa.String(length=10), nullable=True),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_limits")),
    )
    op.create_table(
        "sent_days",
        sa.Column("scope", sa.String(length=160), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("letters", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "day", name=op.f("pk_sent_days")),
    )
    op.create_table(
        "breakers",
        sa.Column("scope", sa.String(length=160), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=True),
        sa.Column("trips", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_breakers")),
    )
    op.create_table(
        "bounces",
        sa.Column("subscriber_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("mailing_id", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("returned", sa.Boolean(), nullable=False),
        sa.Column("code", sa.Integer(), nullable=True),
        sa.Column("enhanced", sa.String(length=12), nullable=True),
        sa.Column("reply", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("subscriber_id", "day", name=op.f("pk_bounces")),
    )
    op.create_table(
        "measures",
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("labels", sa.String(length=160), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", "labels", name=op.f("pk_measures")),
    )
    op.create_table(
        "hosts",
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("awaited_since", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("host", name=op.f("pk_hosts")),
    )
    op.create_table(
        "lost_issues",
        sa.Column("week", sa.String(length=8), nullable=False),
        sa.Column("host", sa.String(length=64), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(length=80), nullable=True),
        sa.PrimaryKeyConstraint("week", name=op.f("pk_lost_issues")),
    )


def downgrade() -> None:
    for name in ("lost_issues", "hosts", "measures", "bounces", "breakers", "sent_days", "limits"):
        op.drop_table(name)
    with op.batch_alter_table("deliveries") as deliveries:
        deliveries.drop_column("epoch")
    with op.batch_alter_table("batches") as batches:
        batches.drop_column("not_before")
        batches.drop_column("provider")
    with op.batch_alter_table("subscribers") as subscribers:
        subscribers.drop_column("provider")
