"""The prediction service as a real process over real HTTP: its answers, its swap, its death."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from fti.projects.flights import project as flights
from fti.stores.predictions.log import PredictionLog
from fti.stores.registry.registry import ModelVersion
from inference_pipeline.serving.predictor import Predictor
from inference_pipeline.serving.request import MAX_BODY_BYTES
from tests.inference_pipeline.world import World

pytestmark = pytest.mark.process
DEADLINE_SECONDS = 120


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[bytes]
    url: str
    log: PredictionLog

    def post(self, path: str, body: Any) -> httpx.Response:
        return httpx.post(f"{self.url}{path}", json=body, timeout=30)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/status", timeout=30).json()
        return found

    def logged(self) -> pl.DataFrame:
        return self.log.read("flights")


def start(world: World, output: Path) -> Service:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with output.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "inference_pipeline.serving.service", "--project", "flights", "--port", str(port)],
            env=os.environ | {"FTI_HOME": str(world.settings.root)},
            stdout=file,
            stderr=file,
        )
    return Service(process, f"http://127.0.0.1:{port}", world.stores.prediction_log)


def wait_for(service: Service, path: str, code: int) -> None:
    """Return once `path` answers `code`."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and service.process.poll() is None:
        try:
            if httpx.get(service.url + path, timeout=5).status_code == code:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"{path} did not answer {code}")


def wait_for_version(service: Service, version: int) -> None:
    """Return once `version` serves."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while service.status()["model_version"] != version:
        assert time.monotonic() < deadline, f"version {version} does not serve: {service.status()}"
        time.sleep(0.1)


@pytest.fixture
def launch(world: World, tmp_path: Path) -> Iterator[Callable[[], Service]]:
    """Starts a service of the test's own, which ends with it."""
    running: list[Service] = []

    def begin() -> Service:
        running.append(start(world, tmp_path / "output"))
        return running[-1]

    yield begin
    for service in running:
        service.process.kill()
        service.process.wait(30)


@pytest.fixture(scope="module")
def shared(world: World, champion: ModelVersion, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service for the tests that leave it alive."""
    running = start(world, tmp_path_factory.mktemp("service") / "output")
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait(30)


@pytest.fixture
def service(shared: Service, world: World, champion: ModelVersion) -> Service:
    """The shared service, with `champion` serving whatever a test before has promoted."""
    current = world.stores.model_registry.champion("flights")
    if current is None or current.version != champion.version:
        world.promote(champion)
    wait_for(shared, "/readyz", 200)
    wait_for_version(shared, champion.version)
    return shared


@dataclass
class Traffic:
    """Clients that send one request after the other until told to stop, and remember every answer."""

    service: Service
    bodies: list[dict[str, Any]]
    answers: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def send(self, number: int) -> None:
        with httpx.Client(base_url=self.service.url, timeout=30) as client:
            for index in range(1_000_000):
                if self.stopped.is_set():
                    return
                try:
                    answer = client.post("/predict", json=self.bodies[(index * 7 + number) % len(self.bodies)])
                except httpx.TransportError as error:
                    self.errors.append(repr(error))
                    return
                self.answers.append((answer.status_code, answer.json()))


def test_without_a_champion_it_says_what_to_do_and_picks_one_up(
    launch: Callable[[], Service], world: World, champion: ModelVersion
) -> None:
    world.demote()
    service = launch()
    wait_for(service, "/livez", 200)
    assert httpx.get(f"{service.url}/readyz", timeout=30).status_code == 503
    answer = service.post("/predict", world.bodies(1)[0])
    assert answer.status_code == 503
    assert "Materialize flights/champion" in answer.json()["error"]
    assert service.status()["model_version"] is None
    world.promote(champion)
    wait_for(service, "/readyz", 200)
    assert service.post("/predict", world.bodies(1)[0]).json()["model_version"] == champion.version


def test_an_answer_is_logged_once(service: Service, world: World, champion: ModelVersion) -> None:
    body = world.bodies(1)[0] | {"request_id": "the first"}
    answer = service.post("/predict", body).json()
    assert 0 < answer["probability"] < 1
    assert answer["label"] == int(answer["probability"] >= world.project.service.threshold)
    assert answer["model_version"] == champion.version
    assert answer["request_id"] == "the first"
    assert answer["latency_ms"] > 0
    service.post("/predict", body)
    (record,) = service.logged().filter(request_id="the first").to_dicts()
    assert record["probability"] == answer["probability"]
    assert record["served_at"].tzinfo is not None
    horizon = record["sched_dep"] - record["event_timestamp"]
    assert horizon == world.project.label.horizon


def test_it_answers_what_offline_features_give(service: Service, world: World, champion: ModelVersion) -> None:
    """At the moment of the last materialization online and offline features agree, and so do the probabilities."""
    from inference_pipeline.batch import predictions_of
    from tests.inference_pipeline.world import LIVE

    rows = world.requests(LIVE).head(50).with_columns(pl.lit(LIVE + world.project.label.horizon).alias("sched_dep"))
    rows = rows.with_columns(pl.lit(LIVE).alias("event_timestamp"))
    bundle = world.stores.model_registry.bundle(champion)
    expected = predictions_of(world.project, world.stores.feature_store, bundle, rows)["probability"]
    text = rows.select(list(world.project.service.request)).with_columns(
        pl.col("sched_dep", "sched_arr").dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    )
    answer = service.post("/predict_batch", {"instances": text.to_dicts()}).json()["predictions"]
    assert [found["probability"] for found in answer] == pytest.approx(expected.to_list(), abs=1e-5)


def test_a_batch_comes_back_in_order(service: Service, world: World) -> None:
    bodies = [body | {"request_id": f"batch-{index}"} for index, body in enumerate(world.bodies(300))]
    answer = service.post("/predict_batch", {"instances": bodies})
    assert answer.status_code == 200
    assert [found["request_id"] for found in answer.json()["predictions"]] == [body["request_id"] for body in bodies]
    assert service.logged().filter(pl.col("request_id").str.starts_with("batch-")).height == 300


def test_unknown_entities_are_flagged(service: Service, world: World) -> None:
    body = world.bodies(1)[0] | {"carrier": "??", "tailnum": None}
    answer = service.post("/predict", body).json()
    assert {"carrier_delays", "flight_delays", "aircraft_delays"} <= set(answer["flags"]["unknown_entities"])
    assert "dest_delays" not in answer["flags"]["unknown_entities"]
    record = service.logged().filter(request_id=answer["request_id"])
    assert record["missing_views"].to_list() == [answer["flags"]["unknown_entities"]]
    assert record["carrier_count_1d"].is_null().all()


def test_malformed_input_is_refused_and_not_logged(service: Service, world: World) -> None:
    before = service.logged().height
    body = world.bodies(1)[0]
    answer = service.post("/predict", body | {"flight": "x"})
    assert answer.status_code == 422
    assert answer.json()["details"][0]["field"] == "flight"
    assert httpx.post(f"{service.url}/predict", content=b"{", timeout=30).status_code == 400
    assert service.post("/predict_batch", {"instances": []}).status_code == 422
    assert service.post("/predict_batch", {"instances": [body, {}]}).status_code == 422
    assert httpx.post(f"{service.url}/predict", content=b" " * (MAX_BODY_BYTES + 1), timeout=30).status_code == 413
    assert httpx.get(f"{service.url}/predict", timeout=30).status_code == 405
    assert service.logged().height == before


def test_bento_pages_and_metrics_are_there(service: Service, world: World) -> None:
    assert service.post("/predict", world.bodies(1)[0]).status_code == 200
    for path in ("/livez", "/healthz", "/readyz", "/static_content/swagger-ui-bundle.js"):
        assert httpx.get(service.url + path, timeout=30).status_code == 200
    metrics = httpx.get(f"{service.url}/metrics", timeout=30).text
    assert 'fti_requests_total{path="/predict",project="flights",status="200"}' in metrics
    assert "fti_request_seconds_bucket" in metrics


def test_the_page_speaks_of_the_project_and_loads_nothing_from_elsewhere(service: Service, world: World) -> None:
    page = httpx.get(f"{service.url}/", timeout=30)
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    assert re.findall(r"(?:src|href)=.(?!\./static_content/)", page.text) == []
    found = httpx.get(f"{service.url}/docs.json", timeout=30).json()
    assert world.project.description in found["info"]["description"]
    assert re.fullmatch(r"model version \d+", found["info"]["version"])
    assert {"/predict", "/predict_batch"} <= found["paths"].keys()
    for path in ("/predict", "/predict_batch"):
        example = found["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
        assert service.post(path, example).status_code == 200


def test_a_version_that_does_not_load_leaves_the_old_one_serving(service: Service, world: World) -> None:
    registry = world.stores.model_registry
    old = registry.champion("flights")
    broken = world.register(seed=5)
    model = registry.client.get_logged_model(registry.model_id(broken.run_id))
    shutil.rmtree(registry.folder("models") / model.model_id)
    encoder = Path(model.artifact_location.removeprefix("file://")) / "data" / "encoder.json"
    text = encoder.read_text()
    encoder.write_text(text[:-5])
    world.promote(broken)
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while service.status()["failure"] is None and time.monotonic() < deadline:
            time.sleep(0.1)
        failure = service.status()["failure"]
        assert "encoder.json is damaged" in failure
        assert failure.endswith(f"Version {old.version} goes on serving.")
        assert service.post("/predict", world.bodies(1)[0]).json()["model_version"] == old.version
    finally:
        encoder.write_text(text)
        world.promote(old)


def test_with_a_broken_champion_the_version_before_serves_and_says_so(service: Service, world: World) -> None:
    """A service that starts: nothing serves yet."""
    registry = world.stores.model_registry
    old = registry.champion("flights")
    broken = world.register(seed=6)
    model = registry.client.get_logged_model(registry.model_id(broken.run_id))
    for folder in (registry.folder("models") / model.model_id, Path(model.artifact_location.removeprefix("file://"))):
        program = folder / "data" / "model.pt2"
        content = bytearray(program.read_bytes())
        content[1000:5096] = bytes(byte ^ 255 for byte in content[1000:5096])
        program.write_bytes(content)
    world.promote(broken)
    try:
        stores = (world.stores.feature_store, registry, world.stores.prediction_log)
        starting = Predictor(flights, *stores, poll_seconds=60)
        starting.start()
        starting.stop()
        status = starting.status()
        assert (status["ready"], status["model_version"]) == (True, old.version)
        assert re.search(rf"model.pt2 is damaged.* Version {old.version} goes on serving", status["failure"])
    finally:
        world.promote(old)


def test_a_new_champion_is_swapped_in_without_a_failed_request(service: Service, world: World) -> None:
    traffic = Traffic(service, world.bodies(200))
    new = world.register(seed=9)
    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(traffic.send, number)
        time.sleep(0.5)
        world.promote(new)
        wait_for_version(service, new.version)
        time.sleep(0.5)
        traffic.stopped.set()
    assert not traffic.errors
    assert {code for code, _ in traffic.answers} == {200}
    versions = [answer["model_version"] for _, answer in traffic.answers]
    assert set(versions) == {new.version, versions[0]}
    assert versions[-1] == new.version


def test_a_killed_service_has_logged_every_answer(
    launch: Callable[[], Service], world: World, champion: ModelVersion
) -> None:
    service = launch()
    wait_for(service, "/readyz", 200)
    traffic = Traffic(service, world.bodies(200))
    with ThreadPoolExecutor(8) as pool:
        for number in range(8):
            pool.submit(traffic.send, number)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(traffic.answers) <= 100 and time.monotonic() < deadline:
            time.sleep(0.05)
        service.process.send_signal(signal.SIGKILL)
    service.process.wait(30)
    answered = {answer["request_id"] for code, answer in traffic.answers if code == 200}
    assert len(answered) > 100
    assert len(traffic.errors) == 8
    assert answered <= set(service.logged()["request_id"])
