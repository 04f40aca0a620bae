"""What readers may change themselves: text-only mails, a pause, another address; columns and one table are added."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None
# Programs of 0003 send on beside this one, but they know nothing of a pause and of mails of text alone: only the site
# of this revision lets a reader ask for those, so it comes last in an upgrade.
compatible_from = "0003"


def upgrade() -> None:
    no = {"nullable": False, "server_default": sa.false()}
    op.add_column("subscribers", sa.Column("text_only", sa.Boolean(), **no))
    op.add_column("subscribers", sa.Column("paused_until", sa.String(length=10), nullable=True))
    op.add_column("signups", sa.Column("newest", sa.Boolean(), **no))
    for table in ("signups", "confirmations"):
        op.add_column(table, sa.Column("reader_id", sa.LargeBinary(length=16), nullable=True))
        op.add_column(table, sa.Column("epoch", sa.Integer(), nullable=True))
    op.add_column("confirmations", sa.Column("sealed", sa.LargeBinary(), nullable=True))
    op.add_column("confirmations", sa.Column("newest", sa.Boolean(), **no))
    op.add_column("confirmations", sa.Column("reminded_day", sa.String(length=10), nullable=True))
    op.create_table(
        "requests",
        sa.Column("id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("subscriber_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.String(length=12), nullable=False),
        sa.Column("hour", sa.Integer(), nullable=False),
        sa.Column("used", sa.Boolean(), **no),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_requests")),
        sa.UniqueConstraint("subscriber_id", "purpose", "hour", name=op.f("uq_requests_subscriber_id_purpose_hour")),
    )


def downgrade() -> None:
    op.drop_table("requests")
    for table, columns in {
        "confirmations": ("reminded_day", "newest", "sealed", "epoch", "reader_id"),
        "signups": ("epoch", "reader_id", "newest"),
        "subscribers": ("paused_until", "text_only"),
    }.items():
        for column in columns:
            op.drop_column(table, column)
