"""The console: its users, sessions and searches, and the indices that its pages need."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the indices."""
    op.create_table(
        "console_attempt",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_console_attempt")),
    )
    op.create_table(
        "console_selection",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=100), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=True),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_console_selection")),
    )
    op.create_table(
        "console_session",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("user", sa.String(length=100), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_console_session")),
    )
    op.create_table(
        "console_user",
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("sees_content", sa.Boolean(), nullable=False),
        sa.Column("password", sa.String(length=300), nullable=False),
        sa.Column("totp_secret", sa.String(length=100), nullable=False),
        sa.Column("totp_step", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_login_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("disabled_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_console_user")),
    )
    for table, columns in (
        ("console_selection", ["created_at"]),
        ("console_selection", ["user"]),
        ("console_session", ["user"]),
        ("copy", ["destination", "stored_at"]),
        ("hook_call", ["done_at", "next_attempt_at"]),
        ("hook_call", ["message"]),
        ("message", ["mailbox_id", "created_at"]),
        ("message", ["message_type", "created_at"]),
        ("message", ["recipient", "created_at"]),
        ("message", ["sender", "created_at"]),
        ("message", ["state", "created_at"]),
        ("message", ["workflow_id", "created_at"]),
    ):
        op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, columns, unique=False)
