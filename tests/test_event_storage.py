"""Batched events are stored as single ones are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from fti.local.dagster_home import dagster_home
from fti.settings import Settings
from tests.postgres_server import new_database

DAYS = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-13")


@dg.asset(
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    check_specs=[dg.AssetCheckSpec("fine", asset="daily")],
)
def daily(context: dg.AssetExecutionContext) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
    for key in context.partition_keys:
        context.add_asset_metadata({"key": key}, partition_key=key)
    yield dg.MaterializeResult(
        data_version=dg.DataVersion("7"), check_results=[dg.AssetCheckResult(check_name="fine", passed=True)]
    )


def data_version(record: dg.EventLogRecord) -> str | None:
    """What the tags of a materialization say of its data."""
    assert record.asset_materialization is not None
    return (record.asset_materialization.tags or {}).get("dagster/data_version")


def written(home: Path) -> tuple[object, ...]:
    """What Dagster knows after a run over twelve days, less its ids and times."""
    with dg.DagsterInstance.from_config(str(dagster_home(Settings(home=home)))) as instance:
        tags = {
            "dagster/asset_partition_range_start": "2024-01-01",
            "dagster/asset_partition_range_end": "2024-01-12",
        }
        result = dg.materialize([daily], instance=instance, tags=tags)
        asset = dg.AssetKey("daily")
        records = instance.fetch_materializations(asset, limit=100, ascending=True).records
        found = [
            (record.partition_key, record.asset_materialization.metadata, data_version(record))
            for record in records
            if record.asset_materialization
        ]
        events = [event.dagster_event_type for event in instance.all_logs(result.run_id)]
        check = dg.AssetCheckKey(asset, "fine")
        latest = instance.get_latest_materialization_event(asset)
        assert latest is not None
        return (
            found,
            sorted(str(event) for event in events if event),
            instance.get_materialized_partitions(asset),
            latest.get_dagster_event().partition,
            [record.status for record in instance.event_log_storage.get_asset_check_execution_history(check, limit=9)],
            instance.get_asset_keys(),
        )


def test_batches_are_stored_as_single_events_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGSTER_EVENT_BATCH_SIZE", raising=False)
    single = written(tmp_path / "single")
    monkeypatch.setenv("DAGSTER_EVENT_BATCH_SIZE", "5")
    batched = written(tmp_path / "batched")
    assert batched == single
    assert len(batched[0]) == 12  # type: ignore[arg-type]


def test_a_home_that_moved_writes_where_it_is_now(tmp_path: Path) -> None:
    dagster_home(Settings(home=tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    home = dagster_home(Settings(home=tmp_path / "new"))
    assert str(tmp_path / "new") in (home / "dagster.yaml").read_text()
    assert str(tmp_path / "old") not in (home / "dagster.yaml").read_text()


def test_a_team_keeps_its_runs_in_the_database(postgres: Any, tmp_path: Path) -> None:
    url = new_database(postgres)
    for machine in ("one", "two"):
        settings = Settings(home=tmp_path / machine, database_url=url)
        with dg.DagsterInstance.from_config(str(dagster_home(settings))) as instance:
            if machine == "one":
                assert dg.materialize([daily], instance=instance, partition_key="2024-01-03").success
            assert instance.get_materialized_partitions(dg.AssetKey("daily")) == {"2024-01-03"}
        assert url not in (tmp_path / machine / "dagster" / "dagster.yaml").read_text()
        assert not list((tmp_path / machine).rglob("*.db"))
    home = dagster_home(Settings(home=tmp_path / "two"))
    assert "BatchedEventLogStorage" in (home / "dagster.yaml").read_text()
