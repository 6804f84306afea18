"""`fti plan`, `fti lineage` and `fti dataset` on the state that the small loop leaves."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fti import cli
from fti.errors import ChangeError, DataError, NotReadyError
from fti.local.dagster_home import dagster_home
from fti.model.records import Manifest
from fti.operations import datasets
from fti.operations.lineage import changed_periods, find_version, lineage, tree
from fti.operations.plan import plan
from fti.settings import Settings
from fti.stores import Stores, open_stores
from fti.stores.features.store import FeatureStore
from fti.versions.views import services_of, view_versions
from tests.small import project
from tests.views import with_view

pytestmark = [pytest.mark.loop, pytest.mark.long]
CHANGED = with_view(project, "dest_delays", lookback=timedelta(days=40))


@pytest.fixture(scope="module")
def stores(loop: dict[str, Any], loop_settings: Settings) -> Stores:
    return open_stores(loop_settings)


@pytest.fixture
def home(loop: dict[str, Any], loop_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The commands' environment."""
    monkeypatch.setenv("FTI_HOME", str(loop_settings.root))
    monkeypatch.setenv("FTI_PROJECTS", "tests.small")
    return loop_settings


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    capsys.readouterr()
    status = cli.main([*arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_nothing_to_do_after_the_loop(home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = answer(capsys, "plan")
    assert status == 0
    assert found == {"flights": {"changes": [], "stale_days": 0, "outdated": []}}


def test_a_mistake_in_one_project_is_one_sentence_and_the_others_have_their_plan(
    home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mistaken"
    folder.mkdir()
    (folder / "project.py").write_text(
        "from dataclasses import replace\n"
        "from tests.small import project as small\n"
        "features = replace(small.features, service='delay_model_v9')\n"
        "project = replace(small, name='mistaken', features=features)\n"
    )
    monkeypatch.setenv("FTI_PROJECTS", f"tests.small,{tmp_path}")
    assert cli.main(["plan"]) == 1
    told = capsys.readouterr()
    assert told.out == "flights: the code is what is deployed.\n"
    assert told.err == (
        "fti: Features.service of mistaken names 'delay_model_v9', which feature_repo.flights does not have: it has "
        "delay_model_v1. Name one of these, or add a FeatureService of that name.\n"
    )


def test_a_renamed_project_is_told_where_its_features_lie(stores: Stores) -> None:
    with pytest.raises(
        NotReadyError, match=r"'flights/features/.*', but departures writes it to 'departures/features/"
    ):
        plan(replace(project, name="departures"), stores)


def test_a_changed_view_names_itself_days_models_and_the_refusal(stores: Stores) -> None:
    found = plan(CHANGED, stores)
    (step,) = found.steps
    days = len(stores.lake.days("flights/features/dest_delays"))
    assert (step.change.name, step.change.kinds, step.days, step.refused) == ("dest_delays", ("transform",), days, True)
    assert step.models == ("flights/2 (champion)", "flights/1 (previous)")
    assert found.stale_days == days
    assert [line.partition(" was ")[0] for line in found.outdated] == [
        f"dataset {stores.dataset_store.latest('flights')[:12]}",
        "model flights/2 (champion)",
        "model flights/1 (previous)",
    ]
    agreed = replace(CHANGED, features=replace(CHANGED.features, accept_changes=(step.change.accepted_as,)))
    assert not any(step.refused for step in plan(agreed, stores).steps)


def test_the_asset_refuses_before_it_writes(stores: Stores, loop_settings: Settings) -> None:
    store: FeatureStore = stores.feature_store
    before = store.versions(project.features.service)
    with pytest.raises(ChangeError, match=r"which flights/2 \(champion\) reads, was changed in place: transform"):
        store.apply(CHANGED)
    assert store.versions(project.features.service) == before


def test_lineage_leads_from_the_champion_to_the_raw_days(
    home: Settings, stores: Stores, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = answer(capsys, "lineage", "champion")
    assert status == 0
    assert (
        answer(capsys, "lineage", "flights/2")[1] == found == answer(capsys, "lineage", "2", "--project", "flights")[1]
    )
    version = stores.model_registry.champion("flights")
    dataset = stores.dataset_store.load(found["dataset"]["version"])
    assert found["run"]["id"] == version.run_id
    assert found["dataset"]["rows"] == {name: rows.height for name, rows in dataset.splits.items()}
    assert {view: of["version"] for view, of in found["views"].items()} == view_versions(project)
    assert found["service"] == {"name": "delay_model_v1", "version": services_of(project)["delay_model_v1"].version}
    assert len(found["git"]["commit"]) == 40
    sources = found["sources"]
    assert (sources["flights"]["from"], sources["planes"]["from"]) == ("2013-01-01", "all")
    last = sources["flights"]["to"]
    assert last >= dataset.manifest.ranges["test"][1][:10]
    assert sources["flights"]["days"] == sum(str(day) <= last for day in stores.lake.days("flights/raw/flights"))
    assert all(source["changed"] == [] for source in sources.values())
    assert cli.main(["lineage", "champion"]) == 0
    assert found["dataset"]["version"] in capsys.readouterr().out


def test_a_model_whose_source_was_renamed_since_has_a_lineage(stores: Stores) -> None:
    kept = tuple(source for source in project.sources if source.name != "weather")
    renamed = replace(project, sources=(*kept, replace(project.source("weather"), name="forecast")))
    found = lineage(renamed, stores.model_registry.champion("flights"), stores)
    assert {name for name, source in found["sources"].items() if not source["in_code"]} == {"weather"}
    assert "no such source any more" in str([child.label for child in _leaves(tree(found))])
    with pytest.raises(DataError, match="flights has no source 'weather': correct its name"):
        plan(renamed, stores)


def _leaves(node: Any) -> list[Any]:
    return [node, *(leaf for child in node.children for leaf in _leaves(child))]


def test_a_raw_day_that_changed_since_is_named(stores: Stores) -> None:
    lake, manifest = stores.lake, stores.dataset_store.manifest(stores.dataset_store.latest("flights"))
    recorded = manifest.raw["weather"]
    day = datetime(2013, 1, 5, tzinfo=UTC)
    rows = lake.load("flights/raw/weather", start=day, end=day + timedelta(days=1))
    try:
        lake.write("flights/raw/weather", rows.reverse(), time="time_hour", start=day, end=day + timedelta(days=1))
        assert changed_periods(project, lake, "weather", recorded) == []
        lake.write(
            "flights/raw/weather",
            rows.with_columns(pl.col("temp") + 1),
            time="time_hour",
            start=day,
            end=day + timedelta(days=1),
        )
        assert changed_periods(project, lake, "weather", recorded) == ["2013-01-05"]
    finally:
        lake.write("flights/raw/weather", rows, time="time_hour", start=day, end=day + timedelta(days=1))


def test_what_nobody_made_says_so(home: Settings, stores: Stores, capsys: pytest.CaptureFixture[str]) -> None:
    for wanted in ("99", "best"):
        with pytest.raises(NotReadyError, match=rf"flights has no .*{wanted}"):
            find_version(stores.model_registry, "flights", wanted)
    assert cli.main(["lineage", "parcels/1"]) == 1
    assert "FTI_PROJECTS has no project 'parcels'" in capsys.readouterr().err


def test_mlflow_has_the_same_links(stores: Stores) -> None:
    registry = stores.model_registry
    version = registry.champion("flights")
    run = registry.client.get_run(version.run_id)
    manifest = stores.dataset_store.manifest(version.tags["dataset_version"])
    expected = {f"fti.views.view.{view}": found for view, found in view_versions(project).items()}
    expected |= {"fti.feature_service": "delay_model_v1", "fti.service_version": manifest.versions["delay_model_v1"]}
    assert expected.items() <= run.data.tags.items()
    assert expected.items() <= version.tags.items()
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.digest == version.tags["dataset_version"]
    assert json.loads(used.dataset.profile) == {"rows": manifest.rows, "ranges": manifest.ranges}


def test_dagster_has_the_same_links(stores: Stores, loop_settings: Settings) -> None:
    manifest = stores.dataset_store.manifest(stores.dataset_store.latest("flights"))
    version = stores.model_registry.champion("flights")

    def newest(noun: str, partition: str | None = None) -> dg.AssetMaterialization:
        wanted = dg.AssetRecordsFilter(
            dg.AssetKey(["flights", noun]), asset_partitions=[partition] if partition else None
        )
        (record,) = instance.fetch_materializations(wanted, limit=1).records
        assert record.asset_materialization is not None
        return record.asset_materialization

    with dg.DagsterInstance.from_config(str(dagster_home(loop_settings))) as instance:
        raw, features = newest("raw_weather", "2013-01-05"), newest("features", "2013-01-05")
        assert raw.metadata["fingerprint"].value == manifest.raw["weather"]["2013-01-05"]
        assert features.metadata["versions"].value == manifest.versions
        champion = newest("champion").metadata
        assert champion["run_id"].value == version.run_id
        assert champion["dataset_version"].value == version.tags["dataset_version"]
        assert champion["versions"].value == manifest.versions
        assert champion["lineage"].value == "fti lineage flights/2"
        check = dg.AssetCheckKey(dg.AssetKey(["flights", "evaluation"]), "online_equals_offline")
        history = instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
    assert [record.status.value for record in history] == ["SUCCEEDED", "SUCCEEDED"]


def test_datasets_are_listed_shown_and_compared(
    home: Settings, stores: Stores, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = answer(capsys, "dataset", "list")[1]
    assert [entry["is_latest"] for entry in listed] == [True, False]
    new, old = (entry["version"] for entry in listed)
    shown = answer(capsys, "dataset", "show", new[:8])[1]
    assert shown == {"version": new, **json.loads(json.dumps(stores.dataset_store.load(new).manifest.to_json()))}
    found = answer(capsys, "dataset", "diff", old[:8], new[:8])[1]
    manifests = [stores.dataset_store.manifest(version) for version in (old, new)]
    assert found["rows"]["train"] == [manifest.rows["train"] for manifest in manifests]
    assert found["columns"] == {"added": [], "removed": []}
    assert found["raw"]["flights"]["added"] > 0
    sizes = [row["size"] for row in found["statistics"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0
    for arguments in (["list"], ["show", new[:8]], ["diff", old[:8], new[:8]]):
        assert cli.main(["dataset", *arguments]) == 0
    assert new[:12] in capsys.readouterr().out


def test_a_dataset_compared_with_itself_has_no_difference(stores: Stores) -> None:
    manifest = stores.dataset_store.manifest(stores.dataset_store.latest("flights"))
    found = datasets.difference(manifest, manifest)
    assert not any(value for name, value in found.items() if name != "columns")


def test_shifts_come_in_the_order_of_their_size() -> None:
    def row(feature: str, mean: float, deviation: float = 1.0, missing: float = 0.0) -> dict[str, Any]:
        return {
            "feature": feature,
            "mean": mean,
            "deviation": deviation,
            "missing": missing,
            "minimum": 0,
            "maximum": 9,
        }

    def manifest(*rows: dict[str, Any]) -> Manifest:
        return Manifest(task="binary", label="late", numeric=(), categorical=(), statistics=rows)

    old = manifest(row("same", 1), row("mean", 1), row("missing", 1), row("gone", 1), row("wider", 1))
    new = manifest(row("same", 1), row("mean", 3), row("missing", 1, 1, 0.5), row("wider", 1, 2.0), row("new", 1))
    found = datasets.shifts(old, new)
    assert [shift.feature for shift in found] == ["mean", "wider", "missing"]
    assert [round(shift.size, 2) for shift in found] == [2.0, 0.69, 0.5]
