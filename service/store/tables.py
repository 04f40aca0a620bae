"""All tables. Instants are milliseconds since 1970 in UTC; addresses are only sealed blobs and keyed hashes."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite numbers rows by itself only for a column declared INTEGER.
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
Instant = sa.BigInteger
Id16 = sa.LargeBinary(16)
Hash32 = sa.LargeBinary(32)


def _foreign(target: str, *, cascade: bool = False) -> sa.ForeignKey:
    return sa.ForeignKey(target, ondelete="CASCADE" if cascade else None)


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

publication = sa.Table(
    "publication",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("operators", sa.LargeBinary, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
)

sections = sa.Table(
    "sections",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("key", sa.String(64), nullable=False, unique=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("titles", sa.JSON, nullable=False),
    sa.Column("slugs", sa.JSON, nullable=False),
    sa.Column("aliases", sa.JSON, nullable=False),
    sa.Column("active_from", sa.String(8)),
    sa.Column("active_until", sa.String(8)),
)

issues = sa.Table(
    "issues",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("week", sa.String(8), nullable=False, unique=True),
    sa.Column("subjects", sa.JSON, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
)

articles = sa.Table(
    "articles",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("issue_id", _foreign("issues.id", cascade=True), nullable=False),
    sa.Column("slug", sa.String(120), nullable=False),
    sa.Column("section", sa.String(64), nullable=False),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("trend", sa.String(8)),
    sa.Column("source", sa.String(16), nullable=False),
    sa.Column("authors", sa.JSON, nullable=False),
    # None where a program wrote the row that knows nothing of them.
    sa.Column("aliases", sa.JSON(none_as_null=True)),
    sa.UniqueConstraint("issue_id", "slug"),
)

texts = sa.Table(
    "texts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("article_id", _foreign("articles.id", cascade=True), nullable=False),
    sa.Column("language", sa.String(16), nullable=False),
    sa.Column("status", sa.String(8), nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("lead", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("content_hash", sa.String(64), nullable=False),
    sa.Column("translated_from", sa.String(64)),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("changed_at", Instant, nullable=False),
    sa.UniqueConstraint("article_id", "language"),
)

revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("text_id", _foreign("texts.id", cascade=True), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("lead", sa.Text, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("content_hash", sa.String(64), nullable=False),
    sa.Column("made_at", Instant, nullable=False),
)

assets = sa.Table(
    "assets",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("issue_id", _foreign("issues.id", cascade=True), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("media_type", sa.String(80), nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("issue_id", "name"),
)

# `epoch` grows when the address changes: preference links signed before fall. `provider` is the name of a known one, or
# a keyed hash of the domain; None in rows from before it was kept. Nothing here tells a time finer than a week, and the
# id is random, so that the order of rows tells none either; mails come again on the day `paused_until`.
subscribers = sa.Table(
    "subscribers",
    metadata,
    sa.Column("id", Id16, primary_key=True),
    sa.Column("address_hash", Hash32, nullable=False, unique=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("chain", sa.String(120), nullable=False),
    sa.Column("status", sa.String(12), nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False, server_default="0"),
    sa.Column("consent", sa.String(200)),
    sa.Column("joined_week", sa.String(8), nullable=False),
    sa.Column("provider", sa.String(40)),
    sa.Column("text_only", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("paused_until", sa.String(10)),
)

suppressions = sa.Table(
    "suppressions",
    metadata,
    sa.Column("address_hash", Hash32, primary_key=True),
    sa.Column("reason", sa.String(12), nullable=False),
    sa.Column("since_week", sa.String(8), nullable=False),
)

mailings = sa.Table(
    "mailings",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("issue_id", _foreign("issues.id"), nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("rate", sa.Float),
    sa.Column("audience", sa.String(8), nullable=False),
    sa.Column("actor", sa.String(80), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("release_at", Instant),
    sa.Column("created_at", Instant, nullable=False),
    sa.Column("started_at", Instant),
    sa.Column("finished_at", Instant),
    sa.Column("excluded", sa.JSON, nullable=False),
    sa.Column("slices", sa.Integer),
    sa.Column("planned_slices", sa.Integer, nullable=False, server_default="0"),
    sa.Column("begun_anew_at", Instant),
    sa.Column("cancelled_at", Instant),
    sa.Index(
        "uq_mailings_production",
        "issue_id",
        unique=True,
        postgresql_where=sa.text("kind = 'production'"),
        sqlite_where=sa.text("kind = 'production'"),
    ),
)

mailing_audience = sa.Table(
    "mailing_audience",
    metadata,
    sa.Column("mailing_id", _foreign("mailings.id", cascade=True), primary_key=True),
    sa.Column("subscriber_id", Id16, primary_key=True),
)

# `content` is the compiled, frozen mail in its encodings; `digest` is its SHA-256: what the mailing promised to send.
renditions = sa.Table(
    "renditions",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("mailing_id", _foreign("mailings.id", cascade=True), nullable=False),
    sa.Column("chain", sa.String(120), nullable=False),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("content", sa.LargeBinary, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.Column("html_octets", sa.Integer, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    sa.UniqueConstraint("mailing_id", "chain", "revision"),
)

COUNTED = ("pending", "attempting", "accepted", "deferred", "refused", "uncertain", "skipped", "expired")

# `provider` is empty for readers of all providers that have no batches of their own; `not_before` holds a batch back
# until then (a daily cap is used up, a provider refuses).
batches = sa.Table(
    "batches",
    metadata,
    sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("mailing_id", _foreign("mailings.id", cascade=True), nullable=False),
    sa.Column("chain", sa.String(120), nullable=False),
    sa.Column("rendition_id", _foreign("renditions.id")),
    sa.Column("open", sa.Boolean, nullable=False),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lease_until", Instant, nullable=False, server_default="0"),
    sa.Column("sender_id", sa.Integer),
    sa.Column("due_at", Instant, nullable=False, server_default="0"),
    sa.Column("rung_at", Instant, nullable=False, server_default="0"),
    sa.Column("provider", sa.String(40), nullable=False, server_default=""),
    sa.Column("not_before", Instant, nullable=False, server_default="0"),
    *(sa.Column(name, sa.Integer, nullable=False, server_default="0") for name in COUNTED),
    sa.Index("ix_batches_mailing_id_open", "mailing_id", "open"),
    postgresql_with={"fillfactor": "50"},
)

# No index on the state: with one, PostgreSQL could update no row in place (HOT), and every letter updates two times.
# `epoch` is the reader's at the last gate, None for 0: what is refused later was said of the address of that time.
deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("mailing_id", sa.Integer, nullable=False),
    sa.Column("subscriber_id", Id16),
    sa.Column("batch_id", sa.BigInteger, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("sender_id", sa.Integer),
    sa.Column("at", Instant),
    sa.Column("due_at", Instant),
    sa.Column("reason", sa.String(40)),
    sa.Column("epoch", sa.Integer),
    sa.Index("uq_deliveries_mailing_id_subscriber_id", "mailing_id", "subscriber_id", unique=True),
    sa.Index("ix_deliveries_batch_id", "batch_id"),
    postgresql_with={"fillfactor": "50"},
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("delivery_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("outcome", sa.String(12), nullable=False),
    sa.Column("code", sa.Integer),
    sa.Column("enhanced", sa.String(12)),
    sa.Column("reply", sa.Text),
    sa.Column("phase", sa.String(12)),
    sa.Column("relay", sa.String(120)),
)

# One row per worker process: its journal decides what became of the letters that it had gated when it died.
senders = sa.Table(
    "senders",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("host", sa.String(64), nullable=False),
    sa.Column("boot", sa.String(64), nullable=False),
    sa.Column("relay", sa.String(120), nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("seen_at", Instant, nullable=False),
    sa.Column("settled_at", Instant),
)

# `warned_at` is the latest instant before a slot at which it was looked whether something blocks the issue.
schedules = sa.Table(
    "schedules",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("weekday", sa.SmallInteger, nullable=False),
    sa.Column("minute", sa.SmallInteger, nullable=False),
    sa.Column("timezone", sa.String(64), nullable=False),
    sa.Column("week", sa.String(8), nullable=False),
    sa.Column("late_hours", sa.Integer, nullable=False),
    sa.Column("since", Instant, nullable=False),
    sa.Column("warned_at", Instant, nullable=False),
)

slots = sa.Table(
    "slots",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("schedule_id", sa.Integer, nullable=False),
    sa.Column("slot_at", Instant, nullable=False),
    sa.Column("week", sa.String(8), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("mailing_id", sa.Integer),
    sa.Column("decided_at", Instant),
    sa.UniqueConstraint("schedule_id", "slot_at"),
)

skipped_weeks = sa.Table("skipped_weeks", metadata, sa.Column("week", sa.String(8), primary_key=True))

# `once` names what the notice is about, so that asking twice for one makes one, and no reader: it stays when the notice
# is settled, while address and parameters (the reader among them) go, and `made_at` and `due_at` are cut to the day.
notices = sa.Table(
    "notices",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("seal_id", Id16, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("once", sa.String(160), nullable=False, unique=True),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("language", sa.String(16), nullable=False),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("state", sa.SmallInteger, nullable=False),
    sa.Column("attempts", sa.SmallInteger, nullable=False, server_default="0"),
    sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
    sa.Column("lease_until", Instant, nullable=False, server_default="0"),
    sa.Column("sender_id", sa.Integer),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("made_at", Instant, nullable=False),
    sa.Column("reason", sa.String(200)),
    sa.Column("rung_at", Instant, nullable=False, server_default="0"),
    sa.Index("ix_notices_state_due_at", "state", "due_at"),
)

# Sign-ups as they were posted: one new row each, whoever's address it is. A worker answers it and takes it away. With a
# `reader_id` it is a reader's wish, of that epoch, to have the mails at this address.
signups = sa.Table(
    "signups",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("seal_id", Id16, nullable=False),
    sa.Column("sealed", sa.LargeBinary, nullable=False),
    sa.Column("chain", sa.String(120), nullable=False),
    sa.Column("text_version", sa.SmallInteger, nullable=False),
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("newest", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("reader_id", Id16),
    sa.Column("epoch", sa.Integer),
)

# Confirmations that were mailed. A link confirms what its own mail named, so each has its chain. Time is as coarse as
# can be: `day` keeps a second mail off, `hour` (from 1970) ends the link; both go when it lapses, and then the row only
# counts what an address never confirmed. `reader_id`, `epoch` and the `sealed` address are those of a reader who moves.
confirmations = sa.Table(
    "confirmations",
    metadata,
    sa.Column("id", Id16, primary_key=True),
    sa.Column("address_hash", Hash32, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("chain", sa.String(120), nullable=False),
    sa.Column("text_version", sa.SmallInteger, nullable=False),
    sa.Column("day", sa.String(10)),
    sa.Column("hour", sa.Integer),
    sa.Column("newest", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("reader_id", Id16),
    sa.Column("epoch", sa.Integer),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("reminded_day", sa.String(10)),
    sa.UniqueConstraint("address_hash", "day"),
    sa.Index("ix_confirmations_hour", "hour"),
)

# What readers asked for that takes a fresh link to the present address, for a day: `hour` as in `confirmations`.
requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", Id16, primary_key=True),
    sa.Column("subscriber_id", Id16, nullable=False),
    sa.Column("epoch", sa.Integer, nullable=False),
    sa.Column("purpose", sa.String(12), nullable=False),
    sa.Column("hour", sa.Integer, nullable=False),
    sa.Column("used", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.UniqueConstraint("subscriber_id", "purpose", "hour"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", BigId, primary_key=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("actor", sa.String(80), nullable=False),
    sa.Column("action", sa.String(60), nullable=False),
    sa.Column("subject", sa.String(120), nullable=False),
    sa.Column("details", sa.JSON, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
)

locks = sa.Table(
    "locks",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("until", Instant, nullable=False),
)
