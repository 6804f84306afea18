"""Events per second and freshness of the stream: real processes, real HTTP, the consumer alone on one core.

Flights of 2013 are sent as events in the order in which they became known, over six weeks of history. First as fast as
the service takes them, then at a steady rate. An event is fresh when `FeatureStore.newest_online` has reached its time.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import httpx

from feature_pipeline.batch.ingest import write_source
from feature_pipeline.batch.transform import make_features, raw_tables
from feature_pipeline.stream.checkpoint import Checkpoint
from feature_pipeline.stream.consumer import checkpoint_of
from fti.local.servers import free_port
from fti.projects.flights import project
from fti.settings import Settings
from fti.stores import open_stores

START, DAY = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 2, 12, tzinfo=UTC)
BLOCK = 250
CONSUMER_CORE, OTHER_CORE = 0, 1 % (os.cpu_count() or 1)
Event = tuple[datetime, bool, bytes]
"""When it became known, whether it makes a feature row, its JSON."""
Blocks = Iterator[list[Event]]


def events(start: datetime) -> Iterator[Event]:
    """Flights when scheduled, departed and landed, and weather, by the moment at which they became known."""
    found: list[tuple[datetime, bool, str, str, dict[str, Any]]] = []
    unknown = ("dep", "arr", "dep_delay", "arr_delay", "air_time")
    for row in project.source("flights").read(start, start + timedelta(days=150)).iter_rows(named=True):
        name = f"{row['carrier']}-{row['flight']}-{row['origin']}-{row['sched_dep']:%m%d%H%M}"
        found.append(
            (row["sched_dep"] - timedelta(hours=3), False, f"{name}-0", "flights", row | dict.fromkeys(unknown))
        )
        if row["dep"]:
            departed = row | dict.fromkeys(("arr", "arr_delay", "air_time"))
            found.append((row["dep"], True, f"{name}-1", "flights", departed))
        if row["arr"]:
            found.append((row["arr"], True, f"{name}-2", "flights", row))
    for row in project.source("weather").read(start, start + timedelta(days=150)).iter_rows(named=True):
        name = f"{row['origin']}-{row['time_hour']:%m%d%H}"
        found.append((row["time_hour"] + timedelta(hours=1), True, name, "weather", row))
    found.sort(key=lambda event: (event[0], event[2]))
    for moment, known, name, source, row in found:
        values = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()}
        yield moment, known, json.dumps({"id": name, "source": source, "row": values}).encode()


def fill(settings: Settings) -> None:
    """History, as the batch makes it."""
    stores = open_stores(settings)
    lake = stores.lake
    for source in project.sources:
        rows = source.read(START, DAY).select(source.schema.keys())
        write_source(lake, project, source, rows, START, DAY)
    for view, rows in make_features(project, raw_tables(project, lake, START, DAY), START, DAY).items():
        lake.write(f"{project.name}/features/{view}", rows, time="event_timestamp", start=START, end=DAY)
    stores.feature_store.apply(project)
    stores.feature_store.materialize(project.features.service, START, DAY)


@contextmanager
def child(core: int, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process on one core, ended by its id."""
    pin = lambda: os.sched_setaffinity(0, {core})  # noqa: E731
    with open(Path(os.environ["FTI_HOME"]) / "children.log", "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=pin)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


class Watch(threading.Thread):
    """Notes when each block of events became visible online."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self.settings = settings
        self.waiting: list[tuple[datetime, float]] = []
        self.freshness: list[float] = []
        self.stop = threading.Event()

    def run(self) -> None:
        store = open_stores(self.settings).feature_store
        while not self.stop.is_set() or self.waiting:
            newest, now = store.newest_online(project.features.service), time.monotonic()
            while self.waiting and newest is not None and self.waiting[0][0] <= newest:
                self.freshness.append(now - self.waiting.pop(0)[1])
            time.sleep(0.01)

    def percentile(self, share: float) -> float:
        ordered = sorted(self.freshness)
        return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3)


def send(client: httpx.Client, blocks: Blocks, watch: Watch, rate: float, seconds: float) -> int:
    """Send blocks at `rate` events a second (0: as fast as they are taken); returns the number of events."""
    begin, sent = time.monotonic(), 0
    for block in blocks:
        response = client.post(
            "/events", content=b"\n".join(line for *_, line in block), headers={"content-type": "application/x-ndjson"}
        )
        assert response.status_code == 202, response.text
        known = [moment for moment, makes_row, _ in block if makes_row]
        if known:
            watch.waiting.append((max(known), time.monotonic()))
        sent += len(block)
        if time.monotonic() - begin > seconds:
            break
        if rate:
            time.sleep(max(0.0, begin + sent / rate - time.monotonic()))
    return sent


def measure(settings: Settings, *, seconds: float, rate: float) -> dict[str, Any]:
    fill(settings)
    checkpoint, port = checkpoint_of(settings, project.name), free_port("127.0.0.1")
    source = events(DAY)
    blocks = iter(lambda: list(islice(source, BLOCK)), [])
    python = (sys.executable, "-m")
    service = (*python, "feature_pipeline.stream.service", "--port", str(port), "--no-consumer")
    with (
        child(OTHER_CORE, *service),
        child(CONSUMER_CORE, *python, "feature_pipeline.stream.consumer") as consumer,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
    ):
        wait(lambda: client.get("/livez").status_code == 200)
        wait_applied(checkpoint, send(client, islice(blocks, 4), Watch(settings), 0, 60))
        figures = {}
        for name, measured in (("full_speed", full_speed), ("steady", steady)):
            used, before = cpu_seconds(consumer.pid), checkpoint.facts()["applied"]
            figures[name] = measured(client, blocks, settings, checkpoint, rate, seconds)
            used, applied = cpu_seconds(consumer.pid) - used, checkpoint.facts()["applied"] - before
            figures[name] |= {"consumer_cpu_seconds": round(used, 2), "events_per_cpu_second": round(applied / used)}
    return figures


def full_speed(
    client: httpx.Client, blocks: Blocks, settings: Settings, checkpoint: Checkpoint, rate: float, seconds: float
) -> dict[str, Any]:
    """As fast as the service takes them, until all are applied."""
    before, begin = checkpoint.facts()["applied"], time.monotonic()
    sent = send(client, blocks, Watch(settings), 0, seconds / 2)
    accepted = time.monotonic() - begin
    wait_applied(checkpoint, before + sent)
    taken = time.monotonic() - begin
    return {"events": sent, "accepted_per_second": round(sent / accepted), "applied_per_second": round(sent / taken)}


def steady(
    client: httpx.Client, blocks: Blocks, settings: Settings, checkpoint: Checkpoint, rate: float, seconds: float
) -> dict[str, Any]:
    """At `rate` events a second."""
    before, watch = checkpoint.facts()["applied"], Watch(settings)
    watch.start()
    begin = time.monotonic()
    sent = send(client, blocks, watch, rate, seconds)
    offered = sent / (time.monotonic() - begin)
    wait_applied(checkpoint, before + sent)
    watch.stop.set()
    watch.join(30)
    freshness = {f"freshness_p{share}_s": watch.percentile(share / 100) for share in (50, 99)}
    return {"events": sent, "events_per_second": round(offered), **freshness}


def wait_applied(checkpoint: Checkpoint, number: int) -> None:
    wait(lambda: checkpoint.facts()["applied"] >= number)


def wait(true: Any, deadline: float = 180) -> None:
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        try:
            if true():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.02)
    raise TimeoutError(f"not ready in {deadline} s; see {os.environ['FTI_HOME']}/children.log")


def cpu_seconds(pid: int) -> float:
    import psutil

    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def of_transport(name: str, *, seconds: float, rate: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"FTI_HOME": home, "FTI_PROJECTS": "fti.projects.flights", "POLARS_MAX_THREADS": "1"}
        if name == "log":
            return measure(Settings(), seconds=seconds, rate=rate)
        port = free_port("127.0.0.1")
        os.environ["FTI_EVENTS_URI"] = f"redis://127.0.0.1:{port}/0"
        options = ("--port", str(port), "--save", "", "--appendonly", "no")
        try:
            with child(OTHER_CORE, "redis-server", *options):
                return measure(Settings(), seconds=seconds, rate=rate)
        finally:
            del os.environ["FTI_EVENTS_URI"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rate", type=float, default=5000)
    parser.add_argument("--transport", choices=("log", "redis"), action="append")
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {OTHER_CORE})
    transports = arguments.transport or ["log", *(["redis"] if shutil.which("redis-server") else [])]
    measured = {name: of_transport(name, seconds=arguments.seconds, rate=arguments.rate) for name in transports}
    print(json.dumps(measured, indent=2))
