"""Feast objects of the parcels."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float32, Int64
from feast.value_type import ValueType

parcel = Entity(name="parcel", join_keys=["parcel"], value_type=ValueType.INT64)
depot = FeatureView(
    name="depot",
    entities=[parcel],
    schema=[Field(name="parcel", dtype=Int64), Field(name="load", dtype=Float32), Field(name="backlog", dtype=Float32)],
    source=FileSource(name="parcels_depot", path="parcels/features/depot", timestamp_field="event_timestamp"),
    ttl=timedelta(0),
    online=True,
)
parcels_v1 = FeatureService(name="parcels_v1", features=[depot])
