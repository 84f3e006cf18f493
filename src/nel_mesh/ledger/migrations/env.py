"""Run by Alembic, over the connection that `database.py` passes in."""

from __future__ import annotations

from alembic import context

from nel_mesh.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
