"""FTI's own tables, as the newest migration leaves them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

promotions = Table(
    "promotions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("reason", Text, nullable=False),
    Column("promoted_at", Text, nullable=False),
    Column("applied", Boolean, nullable=False),
    Column("checksum", BigInteger, nullable=False),
)
"""Who became champion in whose place."""

feature_periods = Table(
    "feature_periods",
    metadata,
    Column("project", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("record", Text, nullable=False),
)
"""What the features of a day (month) were made from, as JSON with its checksum."""

feature_inputs = Table(
    "feature_inputs",
    metadata,
    Column("project", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("inputs", Text, nullable=False),
)
"""Fingerprints of raw files that the records of several periods share."""

pending_online = Table(
    "pending_online",
    metadata,
    Column("project", Text, primary_key=True),
    Column("period", Text, primary_key=True),
    Column("mark", Text, nullable=False),
)
"""Feature days (months) that were written since they were last brought online."""

stream_applied = Table(
    "stream_applied",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("project", Text, nullable=False),
    Column("id", Text, nullable=False),
    UniqueConstraint("project", "id"),
    Index("stream_applied_newest", "project", "number"),
)
"""Ids of the events that were applied last."""

stream_rejected = Table(
    "stream_rejected",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("project", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("id", Text),
    Column("source", Text),
    Column("reason", Text, nullable=False),
    Column("event", LargeBinary, nullable=False),
)
"""Events that were set aside, at seconds since 1970, and why."""

stream_facts = Table(
    "stream_facts",
    metadata,
    Column("project", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""How far the consumer of a project's events came, as JSON."""
