"""The journal of promotions, the journal of features and what is to be brought online."""

import sqlalchemy as sa
from alembic import op

revision = "0001_state"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "promotions",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("previous", sa.Integer),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("promoted_at", sa.Text, nullable=False),
        sa.Column("applied", sa.Boolean, nullable=False),
        sa.Column("checksum", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "feature_periods",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("period", sa.Text, primary_key=True),
        sa.Column("record", sa.Text, nullable=False),
    )
    op.create_table(
        "feature_inputs",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("inputs", sa.Text, nullable=False),
    )
    op.create_table(
        "pending_online",
        sa.Column("project", sa.Text, primary_key=True),
        sa.Column("period", sa.Text, primary_key=True),
        sa.Column("mark", sa.Text, nullable=False),
    )
