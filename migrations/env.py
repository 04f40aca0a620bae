"""Alembic's entry: runs inside the connection that `service.store.schema` opened."""

from alembic import context

from service.store import engine_tables
from service.store.tables import metadata

assert engine_tables  # its tables are in the metadata, too
connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
