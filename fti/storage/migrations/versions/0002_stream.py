"""What the consumers of events remember."""

import sqlalchemy as sa
from alembic import op

revision = "0002_stream"
down_revision = "0001_state"


def upgrade() -> None:
    op.create_table(
        "stream_applied",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.UniqueConstraint("project", "id"),
        sa.Index("stream_applied_newest", "project", "number"),
    )
    op.create_table(
        "stream_rejected",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("project", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("id", sa.Text),
        sa.Column("source", sa.Text),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("event", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "stream_facts",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
