"""Run by Alembic, over the connection that `database.py` passes in. This folder is no package: nobody imports it.

The ledger's schema, version by version. A version only adds, so the agent of the version before can run beside it.
"""

from __future__ import annotations

from alembic import context

from nel_mesh.ledger.schema import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
context.run_migrations()
