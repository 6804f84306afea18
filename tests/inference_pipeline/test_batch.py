"""Batch predictions and labels through Dagster, on the small world's stores."""

from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl
import pytest

from fti.errors import NotReadyError
from fti.stores.predictions.log import PredictionLog
from fti.stores.registry.registry import ModelRegistry, ModelVersion
from inference_pipeline.batch import label_logged, labels_asset, parse_until, predictions_asset
from tests.inference_pipeline.world import LIVE, World

DAY = datetime(2013, 3, 12, tzinfo=UTC)


def materialize(world: World, asset: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
    resources = vars(world.stores) | options.pop("resources", {})
    return dg.materialize([asset], resources=resources, **options)


def test_a_day_of_batch_predictions_lies_in_the_lake(world: World, champion: ModelVersion) -> None:
    asset = predictions_asset(world.project)
    for _ in range(2):
        assert materialize(world, asset, partition_key=f"{DAY:%Y-%m-%d}").success
    rows = world.stores.lake.read("flights/predictions").collect()
    asked = world.stores.lake.read("flights/raw/flights", start=DAY, end=DAY + timedelta(days=1)).collect()
    assert rows.height == asked.height
    assert rows["probability"].is_between(0, 1).all()
    assert rows["sched_dep"].dt.date().unique().to_list() == [DAY.date()]
    assert rows["model_version"].unique().to_list() == [world.stores.model_registry.champion("flights").version]
    assert "late" not in rows.columns


def test_a_range_of_days_is_one_run(world: World, champion: ModelVersion) -> None:
    tags = {"dagster/asset_partition_range_start": "2013-03-13", "dagster/asset_partition_range_end": "2013-03-15"}
    result = materialize(world, predictions_asset(world.project), tags=tags)
    assert result.success
    assert [f"{day}" for day in world.stores.lake.days("flights/predictions")][-3:] == [
        "2013-03-13",
        "2013-03-14",
        "2013-03-15",
    ]


def test_without_a_champion_the_remedy_is_named(world: World, tmp_path: Any) -> None:
    empty = ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path))
    with pytest.raises(NotReadyError, match="Materialize flights/champion"):
        materialize(
            world, predictions_asset(world.project), partition_key="2013-03-12", resources={"model_registry": empty}
        )


def test_labels_come_when_they_are_known(world: World, records: pl.DataFrame, log: PredictionLog) -> None:
    log.append("flights", records)
    until = LIVE + timedelta(days=4)
    first = label_logged(world.project, world.stores.lake, log, until)
    labelled = log.labelled("flights")
    assert 0 < first["labelled"] == first["new"] == labelled.height < records.height
    assert labelled["known_at"].max() < until
    assert (labelled["known_at"] > labelled["event_timestamp"]).all()
    assert label_logged(world.project, world.stores.lake, log, until)["new"] == 0
    result = materialize(world, labels_asset(world.project), resources={"prediction_log": log})
    assert result.success
    truth = world.stores.lake.read("flights/raw/flights").filter(pl.col("arr_delay").is_not_null()).collect()
    expected = records.join(truth, on=list(world.project.label.key), how="semi").height
    assert log.labelled("flights").height == expected


def test_an_empty_log_has_nothing_to_label(world: World, log: PredictionLog) -> None:
    assert label_logged(world.project, world.stores.lake, log, None) == {"logged": 0, "labelled": 0, "new": 0}


def test_until_needs_an_offset() -> None:
    assert parse_until(None) is None
    assert parse_until("2013-12-01T00:00:00Z") == datetime(2013, 12, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="offset from UTC"):
        parse_until("2013-12-01T00:00:00")
