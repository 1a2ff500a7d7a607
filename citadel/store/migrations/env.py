"""How Alembic reaches the database: over the connection that citadel.store.engine hands it."""

from alembic import context
from sqlmodel import SQLModel

from citadel.store import tables  # noqa: F401 - fills SQLModel.metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
