"""A table of each task from raw rows to an answer, its labels and its drift report, without a time of its own."""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fti.project import Project, Task
from fti.settings import Settings
from fti.stores import Stores, open_stores
from inference_pipeline.answer import answers_model
from inference_pipeline.batch import labels_asset, predictions_asset
from inference_pipeline.monitoring.drift import drift_asset
from inference_pipeline.serving.endpoint import Endpoint
from inference_pipeline.serving.predictor import Predictor
from tests.houses import MOMENT, ROWS, houses, project
from tests.launcher import InProcess
from training_pipeline.dataset.asset import dataset_asset
from training_pipeline.definitions import definitions
from training_pipeline.judging.parity import challenger_parity

NEW = {"area": 150.0, "rooms": 4, "kind": "loft"}


@dataclass
class Home:
    """A project with a champion and the stores that hold it."""

    project: Project
    stores: Stores
    endpoint: Endpoint
    trained: dg.ExecuteInProcessResult

    def ask(self, **body: Any) -> dict[str, Any]:
        return asyncio.run(self.endpoint.predict(json.dumps(body).encode()))

    def ask_many(self, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        content = json.dumps({"instances": bodies}).encode()
        found: list[dict[str, Any]] = asyncio.run(self.endpoint.predict_batch(content))["predictions"]
        return found

    def materialize(self, asset: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
        return dg.materialize([asset], resources=vars(self.stores), **options)


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression"])
def home(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    task: Task = request.param
    found = project(task)
    stores = open_stores(Settings(home=tmp_path_factory.mktemp(task) / "home"))
    end = MOMENT + timedelta(days=1)
    stores.lake.write("houses/raw/houses", houses(), time="seen_at", start=MOMENT, end=end)
    (rows,) = found.features.rows({"houses": houses()}, MOMENT, end).values()
    stores.lake.write("houses/features/houses_latest", rows, time="event_timestamp", start=MOMENT, end=end)
    stores.feature_store.apply(found)
    stores.feature_store.materialize("houses_v1", MOMENT, end)
    chain = dg.AssetSelection.assets(*(found.key(noun) for noun in ("training_dataset", "challenger", "evaluation")))
    assets = list(definitions(found, InProcess()).assets or [])
    champion = chain | dg.AssetSelection.assets(found.key("champion"))
    trained = dg.materialize(assets, selection=champion, resources=vars(stores))
    predictor = Predictor(found, stores.feature_store, stores.model_registry, stores.prediction_log)
    predictor.refresh()
    return Home(found, stores, Endpoint(predictor), trained)


def test_the_random_split_is_stable_and_holds_every_row(home: Home) -> None:
    dataset = home.stores.dataset_store.load(home.stores.dataset_store.latest("houses"))
    rows = dataset.manifest.rows
    assert sum(rows.values()) == ROWS
    assert rows["train"] == pytest.approx(0.6 * ROWS, abs=60)
    assert dataset.manifest.shares == (0.6, 0.2, 0.2)
    assert dataset.manifest.task == home.project.model.task
    if home.project.model.task == "multiclass":
        assert dataset.manifest.classes == ("high $", "low", "mid|dle")
        assert sum(dataset.manifest.class_shares["train"].values()) == pytest.approx(1)
    home.materialize(dataset_asset(home.project))
    assert home.stores.dataset_store.latest("houses") == dataset.version


def test_the_model_beats_the_prior_and_the_gate_says_so(home: Home) -> None:
    assert home.trained.success
    metrics = home.stores.model_registry.evaluation(home.endpoint.predictor.champion.version.run_id).metrics
    task = home.project.model.task
    if task == "regression":
        assert metrics["challenger"]["rmse"] < 0.5 * metrics["prior"]["rmse"]
        assert metrics["challenger"]["r2"] > 0.7 > metrics["prior"]["r2"]
    elif task == "multiclass":
        assert metrics["challenger"]["macro_f1"] > 0.6 > metrics["prior"]["macro_f1"]
        assert metrics["challenger"]["log_loss"] < metrics["prior"]["log_loss"]
    else:
        assert metrics["challenger"]["roc_auc"] > 0.7 > metrics["prior"]["roc_auc"]
    (check,) = home.trained.get_asset_check_evaluations()
    assert "the baseline's" in (check.description or "")


def test_the_model_card_travels_with_the_version(home: Home) -> None:
    registry, version = home.stores.model_registry, home.endpoint.predictor.champion.version
    folder = registry.client.get_logged_model(registry.model_id(version.run_id)).artifact_location
    card = Path(folder.removeprefix("file://"), "model_card.md").read_text()
    task = home.project.model.task
    assert card.startswith(f"# houses\n\n{home.project.description}\n\n{task.capitalize()} model of")
    assert "The split is random: the test score is" in card
    assert "| baseline (gradient boosting) |" in card
    assert f"`{version.tags['dataset_version']}`" in card
    assert "kind | loft" in card
    if task == "multiclass":
        assert r"mid\|dle" in card
    described = registry.client.get_model_version("houses", str(version.version)).description
    assert card.startswith(f"# houses\n\n{described}")
    (event,) = home.trained.asset_materializations_for_node("houses__evaluation")
    assert event.metadata["model_card"].value == card


def check_answer(task: str, answer: dict[str, Any]) -> None:
    if task == "regression":
        assert 1000 < answer["prediction"] < 7000
    elif task == "multiclass":
        assert answer["probabilities"].keys() == {"high $", "low", "mid|dle"}
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].__getitem__)
        assert answer["probability"] == max(answer["probabilities"].values())
    else:
        assert answer["label"] == int(answer["probability"] >= 0.5)
        assert 0 < answer["probability"] < 1


def value(task: str, answer: dict[str, Any]) -> float:
    """The number of an answer that moves with the price."""
    if task == "multiclass":
        return answer["probabilities"]["high $"] - answer["probabilities"]["low"]
    return answer["prediction"] if task == "regression" else -answer["probability"]


def test_a_request_without_a_time_is_about_now(home: Home) -> None:
    before = datetime.now(UTC)
    answer = home.ask(house_id=7, request_id="now")
    check_answer(home.project.model.task, answer)
    assert answer["flags"] == {}
    record = home.stores.prediction_log.read("houses").filter(request_id="now")
    assert before <= record["event_timestamp"][0] <= datetime.now(UTC)
    assert record["seen_at"].to_list() == record["event_timestamp"].to_list()
    truth = houses().filter(house_id=7)
    assert record["kind"].to_list() == truth["kind"].to_list()
    assert record["area_each"][0] == truth["area"][0] / truth["rooms"][0]


def test_given_values_replace_the_stored_ones_and_are_logged_as_served(home: Home) -> None:
    task = home.project.model.task
    small, large = (home.ask(house_id=7, area=area, request_id=f"area {area}") for area in (35.0, 190.0))
    assert value(task, large) > value(task, small)
    logged = home.stores.prediction_log.read("houses").filter(pl.col("request_id").str.starts_with("area"))
    truth = houses().filter(house_id=7)
    assert sorted(logged["area"]) == [35.0, 190.0]
    assert logged["kind"].unique().to_list() == truth["kind"].to_list()
    assert sorted(logged["area_each"]) == [area / truth["rooms"][0] for area in (35.0, 190.0)]
    assert home.ask(house_id=7, area=None)["flags"] == {}


def test_an_entity_never_seen_is_answered_from_what_is_given(home: Home) -> None:
    task = home.project.model.task
    answer = home.ask(house_id=10**9, **NEW)
    check_answer(task, answer)
    assert answer["flags"] == {"unknown_entities": ["houses_latest"]}
    assert value(task, answer) > value(task, home.ask(house_id=10**9, **NEW | {"area": 31.0}))


def test_some_of_a_batch_give_values_and_some_do_not(home: Home) -> None:
    known, given, both = home.ask_many([{"house_id": 7}, {"house_id": 10**9, **NEW}, {"house_id": 7, **NEW}])
    task = home.project.model.task
    assert value(task, given) == value(task, both)
    assert value(task, known) == pytest.approx(value(task, home.ask(house_id=7)), rel=1e-4)


def test_openapi_and_status_tell_the_task(home: Home) -> None:
    schema = answers_model(home.project).model_json_schema()
    named = {name for definition in schema["$defs"].values() for name in definition["properties"]}
    expected = {
        "binary": {"probability", "label"},
        "multiclass": {"label", "probabilities"},
        "regression": {"prediction"},
    }
    task = home.project.model.task
    assert expected[task] <= named
    assert ("prediction" in named) == (task == "regression")
    assert home.endpoint.predictor.status()["task"] == task
    request = home.endpoint.predictor.schema.request(house_id=3)
    assert request.model_dump(exclude_unset=True) == {"house_id": 3}


def test_online_equals_offline(home: Home) -> None:
    stores = home.stores
    passed, description, _ = challenger_parity(
        home.project,
        stores.model_registry.challenger_run("houses"),
        stores.dataset_store,
        stores.feature_store,
        stores.model_registry,
    )
    assert passed, description


def test_batch_predictions_come_from_offline_features(home: Home) -> None:
    assert home.materialize(predictions_asset(home.project), partition_key="2000-01-01").success
    rows = home.stores.lake.load("houses/predictions")
    assert rows.height == ROWS
    task = home.project.model.task
    expected = {"binary": pl.Int8, "multiclass": pl.String, "regression": pl.Float64}[task]
    assert rows["prediction" if task == "regression" else "label"].dtype == expected
    assert "price" not in rows.columns


def report(home: Home, until: datetime | None = None) -> dict[str, dg.AssetCheckEvaluation]:
    config = {"html": False} | ({"until": until.isoformat()} if until else {})
    result = home.materialize(
        drift_asset(home.project), run_config={"ops": {"houses__drift_report": {"config": config}}}
    )
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def test_monitoring_without_times_says_what_it_cannot_decide(home: Home) -> None:
    home.ask_many([{"house_id": number} for number in range(0, ROWS, 4)])
    assert home.materialize(labels_asset(home.project)).success
    checks = report(home)
    assert checks["no_data_drift"].metadata["decided"].value is True
    assert checks["no_data_drift"].passed, checks["no_data_drift"].description
    assert checks["no_prediction_drift"].metadata["decided"].value is True
    assert checks["no_performance_drift"].metadata["decided"].value is False
    assert "only one about a row's own 'seen_at'" in (checks["no_performance_drift"].description or "")


def test_requests_about_a_rows_own_time_are_judged_by_its_label(home: Home) -> None:
    rows = houses().select("house_id", pl.col("seen_at").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")).tail(600)
    home.ask_many(rows.to_dicts())
    until = MOMENT + timedelta(days=1)
    config = {"ops": {"houses__labels": {"config": {"until": until.isoformat()}}}}
    assert home.materialize(labels_asset(home.project), run_config=config).success
    labelled = home.stores.prediction_log.labelled("houses")
    truth = houses().tail(600)
    name = home.project.label.name
    assert labelled.sort("house_id")["actual"].to_list() == truth[name].to_list()
    check = report(home, until)["no_performance_drift"]
    assert check.metadata["decided"].value is True
    assert check.passed, check.description
    assert ("RMSE" if home.project.model.task == "regression" else "Log loss") in (check.description or "")
