"""FTI's own tables, as the newest migration leaves them."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, Table, Text

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
