"""What happens at serving time to values that are too old, by the policy of their view."""

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest
from prometheus_client import generate_latest

from fti.errors import DataError
from fti.project import Freshness
from fti.projects.flights import project as flights
from inference_pipeline.serving.endpoint import Endpoint
from inference_pipeline.serving.predict import StaleFeatures
from inference_pipeline.serving.predictor import Predictor
from tests.inference_pipeline.world import LIVE

WEATHER = "origin_weather"
HOUR = timedelta(hours=1)


def project_with(**freshness):
    return replace(flights, features=replace(flights.features, freshness=freshness))


@pytest.fixture
def endpoint(world, champion, log):
    """An endpoint of the world's champion, with policies."""
    world.promote(champion)
    made = []

    def make(**freshness):
        project = project_with(**freshness)
        stores = world.stores
        predictor = Predictor(project, stores.feature_store, stores.model_registry, log)
        predictor.refresh()
        made.append(Endpoint(predictor))
        return made[-1]

    return make


@pytest.fixture
def bodies(world):
    """One request at the moment of the last materialization, the same three hours later."""
    body = world.bodies(1)[0]
    departure = LIVE + flights.label.horizon
    late = departure + 3 * HOUR
    return [body | {"sched_dep": moment.isoformat()} for moment in (departure, late)]


def ask(endpoint, body):
    return asyncio.run(endpoint.predict(json.dumps(body).encode()))


def test_values_within_their_age_are_served_without_a_flag(endpoint, bodies, log):
    answer = ask(endpoint(**{WEATHER: Freshness(max_age=2 * HOUR)}), bodies[0])
    assert answer["flags"] == {}
    assert log.read("flights")["temp"].is_not_null().all()


def test_stale_values_are_null_and_flagged_apart_from_unknown_entities(endpoint, bodies, log):
    own = endpoint(**{WEATHER: Freshness(max_age=2 * HOUR)})
    answer = ask(own, bodies[1] | {"carrier": "??"})
    assert answer["flags"]["stale_views"] == [WEATHER]
    assert "carrier_delays" in answer["flags"]["unknown_entities"]
    record = log.read("flights")
    assert record["temp"].to_list() == [None]
    assert record["stale_views"].to_list() == [[WEATHER]]
    assert WEATHER not in record["missing_views"].to_list()[0]
    assert 'fti_stale_features_total{project="flights",view="origin_weather"} 1.0' in exposed(own)


def exposed(endpoint):
    """The counter as Prometheus reads it."""
    return generate_latest(endpoint.metrics._stale).decode()


def test_stale_values_are_replaced_by_defaults(endpoint, bodies, log):
    policy = Freshness(max_age=2 * HOUR, on_stale="default", defaults={"temp": 55.5})
    answer = ask(endpoint(**{WEATHER: policy}), bodies[1])
    assert answer["flags"] == {"stale_views": [WEATHER]}
    record = log.read("flights")
    assert record["temp"].to_list() == [55.5]
    assert record["humid"].to_list() == [None]


def test_a_request_is_refused_with_view_and_age_and_not_logged(endpoint, bodies, log):
    own = endpoint(**{WEATHER: Freshness(max_age=2 * HOUR, on_stale="reject")})
    with pytest.raises(StaleFeatures) as caught:
        ask(own, bodies[1])
    assert caught.value.status == 409
    assert caught.value.body()["details"] == [
        {"field": WEATHER, "problem": "is 3:00:00 old", "expected": "at most 2:00:00"}
    ]
    assert log.read("flights").is_empty()
    assert ask(own, bodies[0])["flags"] == {}


def test_in_a_batch_only_the_stale_row_is_refused(endpoint, bodies, log):
    own = endpoint(**{WEATHER: Freshness(max_age=2 * HOUR, on_stale="reject")})
    named = [bodies[place] | {"request_id": f"r{number}"} for number, place in enumerate((0, 1, 0))]
    answer = asyncio.run(own.predict_batch(json.dumps({"instances": named}).encode()))["predictions"]
    assert [row["request_id"] for row in answer] == ["r0", "r1", "r2"]
    assert [row.get("status") for row in answer] == [None, 409, None]
    assert answer[1]["details"][0]["field"] == WEATHER
    assert answer[0]["probability"] == answer[2]["probability"]
    assert sorted(log.read("flights")["request_id"]) == ["r0", "r2"]
    assert own.predictor.served == 2


def test_status_shows_policy_and_newest_event_of_each_view(endpoint):
    own = endpoint(**{WEATHER: Freshness(max_age=2 * HOUR, on_stale="reject")})
    features = asyncio.run(own.status())["features"]
    assert features[WEATHER]["max_age_seconds"] == 7200
    assert features[WEATHER]["on_stale"] == "reject"
    assert features[WEATHER]["newest_event"] == LIVE.isoformat()
    assert features["dest_delays"]["max_age_seconds"] == timedelta(days=30).total_seconds()
    assert features["dest_delays"]["on_stale"] == "null"


@pytest.mark.parametrize(
    ("freshness", "message"),
    [
        ({"origin_wether": Freshness(max_age=HOUR)}, "origin_wether"),
        ({WEATHER: Freshness(max_age=7 * HOUR)}, "over the view's ttl"),
        ({WEATHER: Freshness(max_age=HOUR, on_stale="default", defaults={"tmp": 1.0})}, "tmp"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_when_it_is_applied(world, freshness, message):
    with pytest.raises(DataError, match=message):
        world.stores.feature_store.apply(project_with(**freshness))


@pytest.mark.parametrize(
    "wrong",
    [{"max_age": 0 * HOUR}, {"max_age": HOUR, "on_stale": "serve"}, {"max_age": HOUR, "defaults": {"temp": 1.0}}],
)
def test_a_policy_that_makes_no_sense_is_refused_at_once(wrong):
    with pytest.raises(ValueError, match=r"max_age|on_stale|defaults"):
        Freshness(**wrong)
