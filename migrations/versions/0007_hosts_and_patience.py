"""Hosts that wait for each other where another database answers, since when what waits has waited, and a cancel.

Which database each host has compared its journals with, and since when and until when one is waited for; when a notice was rung; since
when a provider has stayed away, and when an operator last set a mailing going; that it was cancelled, though some of it
was sent again since.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None
# Programs of 0003 send on beside this one: they say nothing of hosts, and so are not waited for; a notice that they ring
# for they put off, which says nothing false of it; where they leave a provider alone, the first of its holds counts that
# a program of this one wrote, or else the last. That a mailing was cancelled they do not keep once it is taken up again.
compatible_from = "0003"


def upgrade() -> None:
    op.add_column("hosts", sa.Column("database", sa.String(length=80), nullable=True))
    op.add_column("hosts", sa.Column("unheard_since", sa.BigInteger(), nullable=True))
    op.add_column("hosts", sa.Column("unheard_until", sa.BigInteger(), nullable=True))
    op.add_column("notices", sa.Column("rung_at", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("breakers", sa.Column("away_since", sa.BigInteger(), nullable=True))
    op.add_column("mailings", sa.Column("begun_anew_at", sa.BigInteger(), nullable=True))
    op.add_column("mailings", sa.Column("cancelled_at", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("mailings", "cancelled_at")
    op.drop_column("mailings", "begun_anew_at")
    op.drop_column("breakers", "away_since")
    op.drop_column("notices", "rung_at")
    op.drop_column("hosts", "unheard_until")
    op.drop_column("hosts", "unheard_since")
    op.drop_column("hosts", "database")
