"""Alembic's entry point. It is called with a ready connection only (see ``intaglio.db.migrate``)."""

from alembic import context

from intaglio.db.base import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    compare_type=True,
    compare_server_default=False,
    include_object=lambda item, name, kind, reflected, other: (
        not (kind == "table" and reflected and (name or "").startswith("procrastinate_"))
    ),
)
with context.begin_transaction():
    context.run_migrations()
