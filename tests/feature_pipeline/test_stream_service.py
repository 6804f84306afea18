"""The ingest service refuses what is no event, names the field, and accepts nothing of such a request."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import orjson
import polars as pl
import pytest

from feature_pipeline.stream.checkpoint import Checkpoint
from feature_pipeline.stream.events import Columns, EventError, EventSchema
from feature_pipeline.stream.service import MAX_BODY_BYTES, IngestService
from fti.errors import ConflictError, DataError
from fti.projects.flights import project
from fti.stores.events.log import LocalEventLog

ROW = {"origin": "EWR", "time_hour": "2013-01-05T01:00:00+00:00", "temp": 30}


def event(name="1", source="weather", **row):
    return {"id": name, "source": source, "row": ROW | row}


class Client:
    """Requests to the ASGI application, without a socket."""

    def __init__(self, folder, **options):
        self.log = LocalEventLog(folder / "events")
        checkpoint = Checkpoint(f"sqlite:///{folder}/fti.db", project.name)
        self.service = IngestService(project, self.log, checkpoint, **options)

    def __call__(self, method, path, body=b"", **headers):
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}

        async def exchange():
            transport = httpx.ASGITransport(self.service)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as own:
                return await own.request(method, path, content=content, headers=named)

        answer = asyncio.run(exchange())
        return answer.status_code, answer.json() if answer.text[:1] in "{[" else answer.text


@pytest.fixture
def client(tmp_path):
    return Client(tmp_path)


def test_one_event_a_list_and_lines_are_accepted(client):
    assert client("POST", "/events", event("1")) == (202, {"accepted": 1})
    assert client("POST", "/events", {"events": [event("2"), event("3")]}) == (202, {"accepted": 2})
    lines = orjson.dumps(event("4")) + b"\n\n" + orjson.dumps(event("5")) + b"\n"
    assert client("POST", "/events", lines, content_type="application/x-ndjson") == (202, {"accepted": 2})
    kept = [EventSchema(project).parse(line) for line in client.log.read(10, 0)]
    assert [one.id for one in kept] == ["1", "2", "3", "4", "5"]
    rows = EventSchema(project).rows("weather", kept)
    assert rows.schema == dict(project.source("weather").schema)
    assert rows.row(0)[:3] == ("EWR", datetime(2013, 1, 5, 1, tzinfo=UTC), 30.0)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ([], ""),
        ({"source": "weather", "row": ROW}, "id"),
        (event(name=""), "id"),
        ({"id": "1", "source": "weather", "row": 3}, "row"),
        (event(temp="warm"), "row.temp"),
        (event(temp=True), "row.temp"),
        (event(time_hour="2013-01-05T01:00:00"), "row.time_hour"),
        (event(time_hour=1357347600), "row.time_hour"),
        (event(time_hour="1012-12-31T23:59:59Z"), "row.time_hour"),
        (event(time_hour="2014-01-02T00:00:00+00:00"), "row.time_hour"),
        (event(origin=None), "row.origin"),
        (event(origin=7), "row.origin"),
        (event(colour="red"), "row.colour"),
    ],
)
def test_a_wrong_event_is_named_and_none_of_its_request_is_accepted(client, wrong, field):
    status, answer = client("POST", "/events", {"events": [event("good"), wrong]})
    assert status == 422
    assert [(problem["event"], problem["field"]) for problem in answer["problems"]] == [(1, field)]
    assert client.log.read(10, 0) == []


@pytest.mark.parametrize(("dtype", "low", "high"), [(pl.Int8, -128, 127), (pl.UInt64, 0, 2**63 - 1)])
def test_a_whole_number_fits_its_column(dtype, low, high):
    source = replace(project.source("weather"), schema={"n": dtype}, key=("n",), timestamp=None, streamed=False)
    columns = Columns(project, source)
    assert [columns.values({"n": number}) for number in (low, high)] == [(low,), (high,)]
    for wrong in (low - 1, high + 1, True, 1.0):
        with pytest.raises(EventError, match=f"row.n: expected a whole number from {low} to {high}"):
            columns.values({"n": wrong})


def test_a_column_of_milliseconds_holds_the_moment_that_the_event_names():
    schema = {"at": pl.Datetime("ms", "UTC"), "_id": pl.String, "copy": pl.Int64, "a b": pl.Float32}
    source = replace(project.source("weather"), schema=schema, key=("_id",), timestamp=None, streamed=False)
    columns = Columns(project, source)
    rows = columns.frame([columns.values({"at": "2013-01-05T01:00:00+01:00", "_id": "x", "copy": 3, "a b": 1})])
    assert rows.schema == schema
    assert rows.row(0) == (datetime(2013, 1, 5, tzinfo=UTC), "x", 3, 1.0)


def test_a_source_that_is_not_streamed_is_not_found(client):
    assert client("POST", "/events", event(source="planes"))[0] == 404
    assert client("POST", "/events", event(source="nothing"))[0] == 404


def test_bodies_that_are_too_large_or_no_json_are_refused(client):
    assert client("POST", "/events", b"x" * (MAX_BODY_BYTES + 1))[0] == 413
    assert client("POST", "/events", b"{")[0] == 400
    assert client("POST", "/events", {"events": 3})[0] == 400
    assert client("GET", "/nothing")[0] == 404


def test_more_events_than_may_wait_are_refused(tmp_path):
    client = Client(tmp_path, max_waiting=-1)
    status, answer = client("POST", "/events", event())
    assert (status, answer["error"]) == (503, "more events come than the log can take: send them again later")


def test_another_method_is_no_page_either(client):
    status, answer = client("GET", "/events")
    assert status == 404
    assert answer["error"].startswith("no such page; there are POST /events, GET /status")


def test_a_token_is_asked_for(tmp_path):
    client = Client(tmp_path, token="secret")
    assert client("POST", "/events", event())[0] == 401
    assert client("POST", "/events", event(), authorization="Bearer secre")[0] == 401
    assert client("GET", "/rejected")[0] == 401
    assert client("POST", "/events", event(), authorization="Bearer secret")[0] == 202


def test_status_and_metrics_tell_the_lag(client):
    client("POST", "/events", {"events": [event("1"), event("2")]})
    status, answer = client("GET", "/status")
    assert (status, answer["accepted"], answer["lag"], answer["applied"]) == (200, 2, 2, 0)
    assert 'fti_events_lag{project="flights"} 2.0\n' in client("GET", "/metrics")[1]


def test_a_torn_last_line_is_nobodys_event_and_a_log_has_one_writer(tmp_path):
    log = LocalEventLog(tmp_path)
    log.append([b"1", b"2"])
    with (tmp_path / "000000000001.ndjson").open("ab") as file:
        file.write(b"half")
    reader = LocalEventLog(tmp_path)
    assert reader.read(1, 0) == [b"1"]
    assert LocalEventLog(tmp_path, start=reader.position).read(9, 0) == [b"2"]
    with pytest.raises(ConflictError, match="one ingest service"):
        LocalEventLog(tmp_path).append([b"3"])
    del log


def test_a_log_goes_on_after_a_torn_line_and_over_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr("fti.stores.events.log.ROLL_BYTES", 10)
    (tmp_path / "000000000001.ndjson").write_bytes(b'{"of": "a version before"}\nhalf')
    log, reader = LocalEventLog(tmp_path), LocalEventLog(tmp_path)
    for number in range(2, 30):
        log.append([b"%d" % number])
    assert len(list(tmp_path.glob("*.ndjson"))) > 3
    assert log.backlog("") == 29
    read = [line for _ in range(29) for line in reader.read(3, 0)]
    assert read == [b'{"of": "a version before"}', *(b"%d" % number for number in range(2, 30))]
    assert log.backlog(reader.position) == 0
    reader.commit()
    assert len(list(tmp_path.glob("*.ndjson"))) == 1
    assert LocalEventLog(tmp_path, start=reader.position).read(3, 0) == []


def test_every_flipped_bit_of_the_log_is_told(tmp_path):
    log, path = LocalEventLog(tmp_path), tmp_path / "000000000001.ndjson"
    events = [b'{"temp": 21.5}', b'{"temp": 22.5}']
    log.append(events)
    whole = path.read_bytes()
    for place in range(len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match="Take that line out of the file"):
            LocalEventLog(tmp_path).read(9, 0)
    path.write_bytes(whole)
    assert LocalEventLog(tmp_path).read(9, 0) == events
