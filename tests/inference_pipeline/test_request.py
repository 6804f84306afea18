"""Malformed requests are refused with the field and what it takes."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fti.http.app import RequestError
from fti.project import Project, Service
from fti.projects.flights import project
from inference_pipeline.serving.request import MAX_PROBLEMS, RequestSchema

REQUESTS = RequestSchema(project)
GOOD = {name: field.example for name, field in project.service.request.items()}


def refused(body: bytes | dict[str, Any], *, batch: bool = False) -> RequestError:
    """The error of a body that must be refused."""
    with pytest.raises(RequestError) as caught:
        (REQUESTS.many if batch else REQUESTS.one)(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


@pytest.mark.parametrize(
    ("change", "field", "problem", "expected"),
    [
        ({"carrier": 1}, "carrier", "is an integer", "text"),
        ({"carrier": ""}, "carrier", "is empty", "text"),
        ({"carrier": "x" * 1001}, "carrier", "more than 1000", "text"),
        ({"carrier": None}, "carrier", "is null", "IATA code of the airline"),
        ({"flight": "1545"}, "flight", "is text", "a whole number"),
        ({"flight": 1545.0}, "flight", "is a number", "a whole number"),
        ({"flight": True}, "flight", "is a boolean", "a whole number"),
        ({"flight": 2**63}, "flight", "does not fit", "1545"),
        ({"flight": [1]}, "flight", "is a list", "a whole number"),
        ({"sched_dep": "2013-09-02T13:15:00"}, "sched_dep", "has no time zone", "offset from UTC"),
        ({"sched_dep": "2013-09-02"}, "sched_dep", "has no time zone", "offset from UTC"),
        ({"sched_dep": "tomorrow"}, "sched_dep", "is not ISO 8601: 'tomorrow'", "2013-09-02T13:15:00Z"),
        ({"sched_dep": 1378127700}, "sched_dep", "is an integer", "ISO 8601"),
        ({"sched_dep": "0001-01-01T00:00:00+14:00"}, "sched_dep", "outside the years", "ISO 8601"),
        ({"sched_dep": "9999-12-31T23:59:59-14:00"}, "sched_dep", "outside the years", "ISO 8601"),
        ({"colour": "red"}, "colour", "unknown field", "carrier"),
        ({"request_id": 7}, "request_id", "is an integer", "text of 1 to 200"),
        ({"request_id": ""}, "request_id", "is text", "text of 1 to 200"),
    ],
)
def test_a_malformed_field_is_named(change: dict[str, Any], field: str, problem: str, expected: str) -> None:
    error = refused(GOOD | change)
    assert error.status == 422
    (found,) = error.body()["details"]
    assert found["field"] == field
    assert problem in found["problem"]
    assert expected in found["expected"]


def test_a_missing_field_is_named_and_an_optional_one_is_not_missed() -> None:
    body = {name: value for name, value in GOOD.items() if name not in ("origin", "tailnum")}
    assert [found["field"] for found in refused(body).body()["details"]] == ["origin"]
    assert REQUESTS.one(orjson.dumps(body | {"origin": "EWR"}))["tailnum"] is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"flight": NaN}', b'{"flight": Infinity}', b"'a'"])
def test_what_is_not_json_is_a_bad_request(body: bytes) -> None:
    error = refused(body)
    assert error.status == 400
    assert "not JSON" in str(error)


@pytest.mark.parametrize("body", [b"[]", b"1", b"null", b'"x"'])
def test_a_request_is_an_object(body: bytes) -> None:
    told = refused(body).body()
    assert told["error"] == "malformed request: the body"
    assert "an object with the fields" in told["details"][0]["expected"]


@pytest.mark.parametrize(
    "body",
    [GOOD, {}, {"instances": {}}, {"instances": []}, {"instances": [GOOD], "more": 1}, {"instances": [GOOD] * 1001}],
)
def test_a_batch_is_a_list_of_a_sensible_size(body: dict[str, Any]) -> None:
    error = refused(body, batch=True)
    assert error.status == 422
    assert "1 to 1000" in error.body()["details"][0]["expected"]


def test_problems_of_a_batch_name_the_instance_and_are_not_endless() -> None:
    error = refused({"instances": [GOOD, GOOD | {"flight": "x"}, 3] + [{}] * 50}, batch=True)
    fields = [found["field"] for found in error.body()["details"]]
    assert fields[:2] == ["instances[1].flight", "instances[2]"]
    assert len(fields) == MAX_PROBLEMS


def test_the_examples_of_the_fields_make_a_request() -> None:
    row = REQUESTS.example()
    assert row["sched_dep"].tzinfo is not None
    assert row["flight"] == GOOD["flight"]
    assert row["request_id"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*GOOD, "x"]), inner, max_size=4),
    max_leaves=8,
)


def statuses(body: bytes) -> Iterator[int]:
    """What each way of parsing says of `body`."""
    for parse in (REQUESTS.one, REQUESTS.many):
        try:
            parse(body)
            yield 200
        except RequestError as error:
            yield error.status if error.body()["details"] else 500


@given(JSON)
def test_any_json_is_parsed_or_refused(value: Any) -> None:
    assert set(statuses(json.dumps(value).encode())) <= {200, 400, 422}


def later(project: Project, days: int) -> dict[str, Any]:
    moment = project.now() + timedelta(days=days)
    return GOOD | {"sched_dep": moment.isoformat(), "sched_arr": (moment + timedelta(hours=3)).isoformat()}


@pytest.mark.parametrize("asked", [project, replace(project, replayed=False), replace(project, partitions_end=None)])
def test_a_moment_far_ahead_of_the_clock_is_refused_with_the_limit(asked: Project) -> None:
    for moment in ("2199-01-01T00:00:00Z", later(asked, 368)["sched_dep"]):
        with pytest.raises(RequestError) as caught:
            RequestSchema(asked).one(orjson.dumps(GOOD | {"sched_dep": moment}))
        assert caught.value.status == 422
        (found,) = caught.value.body()["details"]
        assert found["field"] == "sched_dep"
        assert f"{asked.now() + timedelta(days=366):%Y-%m-%d}" in found["problem"]
        assert "Service.max_ahead" in found["problem"]
    assert RequestSchema(asked).one(orjson.dumps(later(asked, 365)))["sched_dep"] > asked.now()
    near = replace(asked, service=replace(asked.service, max_ahead=timedelta(hours=1)))
    with pytest.raises(RequestError):
        RequestSchema(near).one(orjson.dumps(later(near, 1)))


def test_the_clock_of_data_that_is_played_again_ends_with_it() -> None:
    assert project.now() == project.partitions_end
    assert abs(replace(project, replayed=False).now() - datetime.now(UTC)) < timedelta(minutes=1)
    with pytest.raises(ValueError, match="max_ahead must not be negative"):
        Service(request={}, max_ahead=timedelta(days=-1))


def test_one_moment_in_2199_refuses_its_batch_and_is_named() -> None:
    batch = [GOOD, GOOD | {"sched_dep": "2199-06-01T00:00:00Z"}]
    error = refused({"instances": batch}, batch=True)
    assert [found["field"] for found in error.body()["details"]] == ["instances[1].sched_dep"]


def test_other_moments_of_a_request_may_be_far() -> None:
    assert REQUESTS.one(orjson.dumps(GOOD | {"sched_arr": "2031-01-01T00:00:00Z"}))["sched_arr"].year == 2031
