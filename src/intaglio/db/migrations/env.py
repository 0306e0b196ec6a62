"""Alembic's entry point. It is called with a ready connection only (see ``intaglio.db.migrate``)."""

from alembic import context

from intaglio.db.base import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=False,
)
with context.begin_transaction():
    context.run_migrations()
