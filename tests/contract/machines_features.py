"""Feast objects of the machines."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float64, String
from feast.value_type import ValueType

machine = Entity(name="machine", join_keys=["machine"], value_type=ValueType.STRING)


def view(name: str, **features: object) -> FeatureView:
    return FeatureView(
        name=name,
        entities=[machine],
        schema=[
            Field(name="machine", dtype=String),
            *(Field(name=key, dtype=dtype) for key, dtype in features.items()),
        ],
        source=FileSource(name=f"machines_{name}", path=f"machines/features/{name}", timestamp_field="event_timestamp"),
        ttl=timedelta(days=2),
        online=True,
    )


machine_now = view("machine_now", load=Float64, heat=Float64)
machine_load = view("machine_load", machine_load_6h=Float64)
machines_v1 = FeatureService(name="machines_v1", features=[machine_now, machine_load])
