"""Tables beside the mailings: limits, counts of a day, breakers, bounces, measures, hosts, lost issues, growth."""

from __future__ import annotations

import sqlalchemy as sa

from service.store.tables import Id16, Instant, metadata

# What may be sent at most, by scope: `installation`, `relay:HOST:PORT`, `provider:NAME`. None leaves it unlimited.
limits = sa.Table(
    "limits",
    metadata,
    sa.Column("scope", sa.String(160), primary_key=True),
    sa.Column("rate", sa.Float),
    sa.Column("connections", sa.Integer),
    sa.Column("per_day", sa.Integer),
    sa.Column("weight", sa.Integer),
    sa.Column("warm_up_from", sa.String(10)),
    sa.Column("changed_at", Instant, nullable=False),
)

# Letters that were let out of a scope on a day (UTC); counted only where a cap or a warm-up asks for it.
sent_days = sa.Table(
    "sent_days",
    metadata,
    sa.Column("scope", sa.String(160), primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("letters", sa.Integer, nullable=False),
)

# A relay or a provider that is left alone at present, and why; `until` None waits for an operator.
breakers = sa.Table(
    "breakers",
    metadata,
    sa.Column("scope", sa.String(160), primary_key=True),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.Column("until", Instant),
    sa.Column("trips", sa.Integer, nullable=False),
    sa.Column("away_since", Instant),
)

# One soft refusal of a reader a day: the evidence is kept, without the address, until it is old. `epoch` tells which
# of the reader's addresses it was, `returned` that the relay had taken the mail before.
bounces = sa.Table(
    "bounces",
    metadata,
    sa.Column("subscriber_id", Id16, primary_key=True),
    sa.Column("day", sa.String(10), primary_key=True),
    sa.Column("mailing_id", sa.Integer, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("returned", sa.Boolean, nullable=False),
    sa.Column("code", sa.Integer),
    sa.Column("enhanced", sa.String(12)),
    sa.Column("reply", sa.Text),
)

# Sums over the life of the installation, for whoever watches it: no ids, nothing of one reader.
measures = sa.Table(
    "measures",
    metadata,
    sa.Column("name", sa.String(60), primary_key=True),
    sa.Column("labels", sa.String(160), primary_key=True),
    sa.Column("value", sa.Float, nullable=False),
)

# `mark` grows with every sweep of the host, in a file there too: a database that knows a smaller one was restored.
# `awaited_since` is set while the host's journals have still to be compared with a database that was restored.
hosts = sa.Table(
    "hosts",
    metadata,
    sa.Column("host", sa.String(64), primary_key=True),
    sa.Column("mark", sa.BigInteger, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
    sa.Column("awaited_since", Instant),
    # The running database that it compared its journals with last; since when others wait until it has done so with
    # another one, and when they wait no longer.
    sa.Column("database", sa.String(80)),
    sa.Column("unheard_since", Instant),
    sa.Column("unheard_until", Instant),
)

# Issues that were mailed in a time which a restored database does not know of, until an operator decides.
lost_issues = sa.Table(
    "lost_issues",
    metadata,
    sa.Column("week", sa.String(8), primary_key=True),
    sa.Column("host", sa.String(64), nullable=False),
    sa.Column("begun_at", Instant, nullable=False),
    sa.Column("found_at", Instant, nullable=False),
    sa.Column("decided_at", Instant),
    sa.Column("decided_by", sa.String(80)),
)

# Readers who came and went, by week (ISO), chain and `domain.growth.Change`. Nobody can be told from it.
growth = sa.Table(
    "growth",
    metadata,
    sa.Column("week", sa.String(8), primary_key=True),
    sa.Column("chain", sa.String(120), primary_key=True),
    sa.Column("change", sa.String(12), primary_key=True),
    sa.Column("readers", sa.Integer, nullable=False),
)
