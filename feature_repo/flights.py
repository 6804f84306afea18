"""Entities, feature views and the feature service of the flights project, in Feast's own words.

What a view holds and how its rows are made is declared in `fti.projects.flights`; they lie in the lake under
`flights/features/<view>`.
"""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView
from feast.value_type import ValueType

from fti.feast_view import feature_view
from fti.projects.flights import project

OWNER = "operations-research"
TAGS = {"project": "flights"}

origin = Entity(name="origin", join_keys=["origin"], value_type=ValueType.STRING, description="Airport of departure")
dest = Entity(name="dest", join_keys=["dest"], value_type=ValueType.STRING, description="Airport of arrival")
carrier = Entity(name="carrier", join_keys=["carrier"], value_type=ValueType.STRING, description="Airline, IATA code")
flight = Entity(name="flight", join_keys=["flight"], value_type=ValueType.INT64, description="Number within an airline")
aircraft = Entity(
    name="aircraft", join_keys=["tailnum"], value_type=ValueType.STRING, description="Aircraft, tail number"
)

ENTITIES = [origin, dest, carrier, flight, aircraft]


def view(name: str, ttl: timedelta, description: str) -> FeatureView:
    """The feature view of the declared view `name`."""
    return feature_view(
        project, name, entities=ENTITIES, ttl=ttl, online=True, description=description, owner=OWNER, tags=TAGS
    )


origin_delays = view(
    "origin_delays", timedelta(days=30), "Delays of what left and landed from an airport of departure in the last hours"
)
carrier_delays = view("carrier_delays", timedelta(days=30), "Delays of an airline")
origin_carrier_delays = view(
    "origin_carrier_delays", timedelta(days=30), "Delays of an airline at an airport of departure"
)
dest_delays = view("dest_delays", timedelta(days=30), "Delays on the way to a destination")
flight_delays = view("flight_delays", timedelta(days=60), "Delays of a flight number")
aircraft_delays = view(
    "aircraft_delays", timedelta(days=60), "Delays of an aircraft, its seats and the year it was built"
)
route_facts = view("route_facts", timedelta(days=60), "Distance and usual air time of a route")
origin_weather = view("origin_weather", timedelta(hours=6), "Latest full hour of weather at an airport of departure")

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
