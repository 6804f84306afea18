"""Entities, feature views and the feature service of the flights project, in Feast's own words.

A view's rows are made by `fti.projects.flights.transform` and lie in the lake under `flights/features/<view>`.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float32, Int64, String
from feast.value_type import ValueType

from fti.windows import window_names

OWNER = "operations-research"
TAGS = {"project": "flights"}
STATISTICS = ("dep_delay", "arr_delay", "late_share")

origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING, description="Airport of departure")
dest = Entity(name="dest", join_keys=["dest"], value_type=ValueType.STRING, description="Airport of arrival")
carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING, description="Airline, IATA code")
flight = Entity(name="flight", join_keys=["flight"], value_type=ValueType.INT64, description="Number within an airline")
aircraft = Entity(
    name="aircraft", join_keys=["tailnum"], value_type=ValueType.STRING, description="Aircraft, tail number"
)

KEYS = {
    "origin": (origin, Field(name="origin", dtype=String)),
    "dest": (dest, Field(name="dest", dtype=String)),
    "carrier": (carrier, Field(name="carrier", dtype=String)),
    "flight": (flight, Field(name="flight", dtype=Int64)),
    "tailnum": (aircraft, Field(name="tailnum", dtype=String)),
}


def view(name: str, keys: tuple[str, ...], features: list[str], ttl: timedelta, description: str) -> FeatureView:
    """A feature view of 32-bit numbers over the lake's table of the same name."""
    return FeatureView(
        name=name,
        entities=[KEYS[key][0] for key in keys],
        schema=[*(KEYS[key][1] for key in keys), *(Field(name=feature, dtype=Float32) for feature in features)],
        source=FileSource(
            name=f"flights_{name}", path=f"flights/features/{name}", timestamp_field="event_timestamp", owner=OWNER
        ),
        ttl=ttl,
        online=True,
        description=description,
        owner=OWNER,
        tags=TAGS,
    )


origin_delays = view(
    "origin_delays",
    ("origin",),
    window_names("origin", STATISTICS, ("1h", "3h", "6h", "1d")),
    timedelta(days=30),
    "Delays of what left and landed from an airport of departure in the last hours",
)
carrier_delays = view(
    "carrier_delays",
    ("carrier",),
    window_names("carrier", STATISTICS, ("3h", "1d", "7d")),
    timedelta(days=30),
    "Delays of an airline",
)
origin_carrier_delays = view(
    "origin_carrier_delays",
    ("origin", "carrier"),
    window_names("origin_carrier", STATISTICS, ("3h", "1d", "7d")),
    timedelta(days=30),
    "Delays of an airline at an airport of departure",
)
dest_delays = view(
    "dest_delays",
    ("dest",),
    window_names("dest", STATISTICS, ("6h", "1d", "7d")),
    timedelta(days=30),
    "Delays on the way to a destination",
)
flight_delays = view(
    "flight_delays",
    ("carrier", "flight"),
    window_names("flight", STATISTICS, ("7d", "30d")),
    timedelta(days=60),
    "Delays of a flight number",
)
aircraft_delays = view(
    "aircraft_delays",
    ("tailnum",),
    [*window_names("aircraft", STATISTICS, ("1d", "7d", "30d")), "aircraft_seats", "aircraft_built"],
    timedelta(days=60),
    "Delays of an aircraft, its seats and the year it was built",
)
route_facts = view(
    "route_facts",
    ("origin", "dest"),
    ["route_air_time_30d", "route_distance"],
    timedelta(days=60),
    "Distance and usual air time of a route",
)
origin_weather = view(
    "origin_weather",
    ("origin",),
    ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib", "wind_gust", "wind_east", "wind_north"],
    timedelta(hours=6),
    "Latest full hour of weather at an airport of departure",
)

delay_model_v1 = FeatureService(
    name="delay_model_v1",
    features=[
        origin_delays,
        carrier_delays,
        origin_carrier_delays,
        dest_delays,
        flight_delays,
        aircraft_delays,
        route_facts,
        origin_weather,
    ],
    description="What the model of late arrivals reads. A change of this list is a new version.",
    owner=OWNER,
    tags=TAGS,
)
