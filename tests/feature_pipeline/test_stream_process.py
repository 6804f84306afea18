"""The stream as processes: real HTTP, a real Redis, and kill -9 of the consumer in the middle of a day."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime

import psutil
import pytest

from fti.local.servers import free_port
from fti.settings import Settings
from fti.stores import open_stores
from fti.stores.events.log import open_event_log
from tests.conftest import REPOSITORY
from tests.feature_pipeline.test_stream import END, FIRST, SERVICE, canonical, events_of, fill
from tests.redis_server import redis_server

pytestmark = pytest.mark.process
DEADLINE = 120
DAY = datetime(2013, 1, 5, tzinfo=UTC)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Settings of a home with the batch's days before `DAY`, for this process and its children."""
    monkeypatch.setenv("FTI_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FTI_PROJECTS", "fti.projects.flights")
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    monkeypatch.setenv("FTI_EVENTS_TOKEN", "secret")
    fill(open_stores(Settings()).lake, FIRST, DAY)
    return Settings()


class Processes:
    """Children by name; all are ended by their ids."""

    def __init__(self, folder):
        self.folder = folder
        self.children = []

    def start(self, name, *command):
        with (self.folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.children.append(child)
        return child

    def python(self, name, *arguments):
        return self.start(name, sys.executable, "-m", *arguments)

    def log(self, name):
        return (self.folder / f"{name}.log").read_text()

    def stop(self):
        for child in self.children:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGTERM)
                child.wait(DEADLINE)


@pytest.fixture
def processes(tmp_path):
    found = Processes(tmp_path)
    yield found
    found.stop()


def until(true, what):
    end = time.monotonic() + DEADLINE
    while not (found := true()):
        assert time.monotonic() < end, f"not in {DEADLINE} s: {what}"
        time.sleep(0.02)
    return found


def call(url, body=None, kind="application/json", token="secret"):
    headers = {"content-type": kind, "authorization": f"Bearer {token}"}
    request = urllib.request.Request(url, data=body, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def answers(url):
    try:
        return call(url)[0] == 200
    except OSError:
        return False


def checkpoint(settings):
    from feature_pipeline.stream.consumer import checkpoint_of

    return checkpoint_of(settings, "flights").facts()


def nothing_is_lost_or_doubled(settings, events, tmp_path):
    """The features of the day are those that the batch makes, offline; online has the newest of each entity."""
    from fti.stores.lake.store import Lake

    assert checkpoint(settings)["applied"] == len(events)
    stores, batch = open_stores(settings), Lake(str(tmp_path / "batch"))
    fill(batch, FIRST, END)
    store = stores.feature_store
    for view, schema in store.schemas(SERVICE).items():
        key = [*schema.keys, "event_timestamp"]
        ours, theirs = (lake.load(f"flights/features/{view}", start=DAY, end=END) for lake in (stores.lake, batch))
        assert canonical(ours, key).equals(canonical(theirs, key)), view
    assert not any(store.missing_online(SERVICE, DAY, END).values())


def test_the_service_takes_events_and_a_killed_consumer_loses_and_doubles_none(home, processes, tmp_path):
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    service = processes.python("service", "feature_pipeline.stream.service", "--port", str(port))
    until(lambda: answers(f"{url}/livez"), "the service answers")
    first = until(lambda: psutil.Process(service.pid).children(), "the consumer runs")[0].pid
    processes.python("standby", "feature_pipeline.stream.consumer")
    events = events_of(DAY, END)
    assert call(f"{url}/events", b"{}", token="guess")[0] == 401
    status, answer = call(f"{url}/events", json.dumps({"events": [events[0], {"id": "1", "source": "no"}]}).encode())
    assert (status, answer["problems"]) == (404, [{"event": 1, "field": "source", "expected": ANY_SOURCE}])
    until(lambda: "started" in processes.log("service") + processes.log("standby"), "a consumer starts")
    until(lambda: "waiting" in processes.log("service") + processes.log("standby"), "the other one waits")
    for start in range(0, len(events), 200):
        block = events[start : start + 200]
        body = b"".join(json.dumps(event).encode() + b"\n" for event in block)
        assert call(f"{url}/events", body, kind="application/x-ndjson") == (202, {"accepted": len(block)})
        if start == 1000:
            until(lambda: checkpoint(home)["applied"] > 0, "events are applied")
            at_work = first if "started" in processes.log("service") else processes.children[-1].pid
            os.kill(at_work, signal.SIGKILL)
    until(lambda: call(f"{url}/status")[1]["lag"] == 0, "all events are applied")
    nothing_is_lost_or_doubled(home, events, tmp_path)
    assert json.loads(json.dumps(call(f"{url}/rejected")[1])) == {"rejected": []}


ANY_SOURCE = "one of the streamed sources flights, weather"


@pytest.fixture
def redis_url():
    with redis_server() as url:
        yield url


def pending(client):
    """Events that a consumer has read and not applied yet."""
    return sum(group["pending"] for group in client.xinfo_groups("fti:flights:events"))


@pytest.mark.redis
def test_a_killed_consumer_of_a_redis_stream_loses_and_doubles_none(home, processes, tmp_path, redis_url, monkeypatch):
    """Somebody else's events, put into the stream directly; the second consumer claims what the first left pending."""
    import redis

    monkeypatch.setenv("FTI_EVENTS_URI", redis_url)
    settings, client = Settings(), redis.Redis.from_url(redis_url)
    consumers = {name: processes.python(name, "feature_pipeline.stream.consumer") for name in ("one", "other")}
    until(lambda: any("started" in processes.log(name) for name in consumers), "a consumer starts")
    until(lambda: any("waiting" in processes.log(name) for name in consumers), "the other one waits")
    events = events_of(DAY, END)
    for place, event in enumerate(events):
        client.xadd("fti:flights:events", {"event": json.dumps(event)})
        if place == len(events) // 2:
            until(lambda: pending(client), "a batch is being applied")
            os.kill(next(consumers[name].pid for name in consumers if "started" in processes.log(name)), signal.SIGKILL)
    log = open_event_log(settings, "flights")
    until(lambda: log.backlog("") == 0, "all events are applied")
    assert pending(client) == 0
    nothing_is_lost_or_doubled(settings, events, tmp_path)
