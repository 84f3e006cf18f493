"""The indices of the console's first page: over millions of rows, what needs a person is a few."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the indices, and drop the one that the first of them contains."""
    op.create_index("ix_event_kind_number", "event", ["kind", "number"], unique=False)
    op.drop_index("ix_event_kind", "event")
    wanted = sa.text(
        "state IN ('quarantined', 'undelivered', 'refused', 'unknown') AND seen_at IS NULL AND resent_as IS NULL"
    )
    op.create_index(
        "ix_message_needs_person",
        "message",
        ["mailbox_id", "state"],
        unique=False,
        sqlite_where=wanted,
        postgresql_where=wanted,
    )
