"""The feature pipeline in Dagster: a range in one run, days after it, and corrupt input that stops at its check."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from feature_pipeline.definitions import definitions
from fti.projects.flights import project
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake
from tests.lakes import contents, path_of
from tests.views import with_view

REPO = Path(__file__).parents[2] / "feature_repo"
SERVICE = project.features.service
FIRST, LAST, NEXT = "2013-01-01", "2013-01-05", "2013-01-06"


@dataclasses.dataclass
class World:
    """Stores and a Dagster instance below one folder."""

    root: Path
    instance: dg.DagsterInstance

    def __post_init__(self):
        self.lake = Lake(str(self.root / "lake"))
        state = self.root / "feast"
        self.store = FeatureStore(
            REPO, str(state), self.lake.root, f"sqlite:///{state}/registry.db", str(state / "online.db")
        )

    def job(self, used):
        resources = dg.Definitions(resources={"lake": self.lake, "feature_store": self.store})
        return dg.Definitions.merge(definitions(used), resources).resolve_job_def(f"{used.name}_features")

    def run(self, used=project, **options):
        return self.job(used).execute_in_process(instance=self.instance, raise_on_error=False, **options)

    def fingerprint(self):
        """Content of every file that somebody reads in the lake."""
        return contents(self.lake)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Five days, filled by one run."""
    root = tmp_path_factory.mktemp("world")
    with dg.DagsterInstance.ephemeral() as instance:
        world = World(root, instance)
        span = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": LAST}
        assert world.run(tags=span).success
        yield world


def rows(world, table):
    return world.lake.read(f"flights/{table}").collect()


def checks(result):
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def test_one_run_fills_a_range_of_days(world):
    start, end = datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 1, 6, tzinfo=UTC)
    assert len(world.lake.days("flights/raw/flights")) == len(world.lake.days("flights/features/dest_delays")) == 5
    for source in project.sources:
        assert rows(world, f"raw/{source.name}").equals(source.read(start, end).select(source.schema.keys()))
    tables = {source.name: source.read(start, end) for source in project.sources}
    for view, made in project.features.rows(tables, start, end).items():
        assert rows(world, f"features/{view}").equals(made)
    assert world.store.materialized_until(SERVICE) == end
    assert not any(world.store.missing_online(SERVICE, start, end).values())


def test_a_day_after_it_reads_its_lookback_and_moves_the_online_store(world):
    before = world.fingerprint()
    result = world.run(partition_key=NEXT)
    assert result.success
    assert set(checks(result)) >= {"raw_flights_is_valid", "features_are_valid", "online_features_are_complete"}
    day = rows(world, "features/carrier_delays").filter(pl.col("event_timestamp") >= datetime(2013, 1, 6, tzinfo=UTC))
    assert day["carrier_count_7d"].max() > 500
    assert world.store.materialized_until(SERVICE) == datetime(2013, 1, 7, tzinfo=UTC)
    changed = {Path(file).stem for file, digest in before.items() if world.fingerprint()[file] != digest}
    assert changed == set()


def test_a_day_run_again_changes_nothing(world):
    world.run(partition_key=NEXT)
    before = world.fingerprint()
    result = world.run(partition_key=NEXT)
    assert result.success
    assert world.fingerprint() == before


def test_online_features_can_be_rewound_by_config(world):
    config = {"start": "2013-01-02", "until": "2013-01-03T12:00:00"}
    result = dg.materialize(
        [asset for asset in definitions(project).assets if "online_features" in str(asset.key)],
        resources={"lake": world.lake, "feature_store": world.store},
        run_config={"ops": {"flights__online_features": {"config": config}}},
        instance=world.instance,
    )
    (materialization,) = result.asset_materializations_for_node("flights__online_features")
    assert materialization.metadata["until"].value == "2013-01-03T12:00:00+00:00"


# --- corrupt input -----------------------------------------------------------------------------------------------


def with_reader(source, change):
    """The project whose `source` reads what `change` makes of the real rows, none of which may be set aside."""
    read = project.source(source).read
    sources = tuple(
        dataclasses.replace(known, read=lambda start, end: change(read(start, end)), max_quarantined_share=0.0)
        if known.name == source
        else known
        for known in project.sources
    )
    return dataclasses.replace(project, sources=sources)


def no_carrier(rows):
    return rows.drop("carrier")


def text_for_numbers(rows):
    return rows.with_columns(pl.col("distance").cast(pl.String))


def null_in_key(rows):
    return rows.with_columns(flight=pl.when(pl.int_range(pl.len()) != 7).then("flight"))


def doubled_day(rows):
    return pl.concat([rows, rows])


def unknown_airport(rows):
    return rows.with_columns(origin=pl.when(pl.int_range(pl.len()) != 3).then("origin").otherwise(pl.lit("LHR")))


def wrong_day(rows):
    return rows.with_columns(pl.col("sched_dep") + timedelta(days=40))


CORRUPT = {
    no_carrier: "column 'carrier' breaks 'is present'",
    text_for_numbers: "column 'distance' breaks 'has type Int64' (it has type String)",
    null_in_key: "column 'flight' breaks 'is never null, it is part of the key' in 1 of ",
    doubled_day: "'is unique, it is the key' in ",
    unknown_airport: "column 'origin' breaks expect_column_values_to_be_in_set(value_set=['EWR', 'JFK', 'LGA']) in 1 ",
    wrong_day: "column 'sched_dep' breaks 'lies in 2013-01-06 00:00 .. 2013-01-07 00:00'",
}


@pytest.mark.parametrize("change", CORRUPT, ids=lambda change: change.__name__)
def test_corrupt_rows_stop_at_the_check_of_their_source(world, change):
    assert_stopped(world, with_reader("flights", change), CORRUPT[change])


def test_a_file_cut_in_half_stops_at_the_check_of_its_source(world, tmp_path):
    whole, cut = tmp_path / "whole.parquet", tmp_path / "cut.parquet"
    rows(world, "raw/flights").write_parquet(whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert_stopped(world, with_reader("flights", lambda rows: pl.read_parquet(cut)), "source 'flights' cannot be read")


def assert_stopped(world, corrupt, message):
    """Check failed with the message, run failed, nothing after it ran, no lake file and no online row changed."""
    before, online = world.fingerprint(), Path(world.store.online_store).read_bytes()
    result = world.run(corrupt, partition_key=NEXT)
    assert not result.success
    check = checks(result)["raw_flights_is_valid"]
    assert not check.passed
    assert message in check.description
    assert check.metadata["num_problems"].value == 1
    assert [event.step_key for event in result.all_events if event.is_step_failure] == ["flights__raw_flights"]
    keys = {event.asset_key.path[-1] for event in result.get_asset_materialization_events()}
    assert keys <= {"raw_weather", "raw_planes"}
    assert world.fingerprint() == before
    assert Path(world.store.online_store).read_bytes() == online


def test_a_raw_file_cut_in_half_is_named_and_nothing_is_written(world):
    broken = path_of(world.lake, "flights/raw/weather", "2013-01-04")
    whole = broken.read_bytes()
    before = world.fingerprint()
    broken.write_bytes(whole[: len(whole) // 2])
    try:
        result = world.run(partition_key=LAST, asset_selection=[dg.AssetKey(project.key("features"))])
    finally:
        broken.write_bytes(whole)
    check = checks(result)["features_are_valid"]
    assert not result.success
    assert not check.passed
    assert f"flights/raw/weather: {broken.name} cannot be read" in check.description
    assert world.fingerprint() == before


def test_a_missing_raw_day_is_no_quiet_day(world):
    missing = path_of(world.lake, "flights/raw/flights", "2013-01-03")
    whole = missing.read_bytes()
    missing.unlink()
    try:
        result = world.run(partition_key=LAST, asset_selection=[dg.AssetKey(project.key("features"))])
    finally:
        missing.write_bytes(whole)
    assert not result.success
    assert f"{missing.name} cannot be read" in checks(result)["features_are_valid"].description


def test_features_that_break_their_schema_are_not_written(world):
    corrupt = with_view(project, "dest_delays", then=lambda rows: rows.drop("dest_count_6h"))
    before = {file: digest for file, digest in world.fingerprint().items() if "/features/" in file}
    result = world.run(corrupt, partition_key=NEXT)
    assert not result.success
    assert "feature view 'dest_delays': column 'dest_count_6h' breaks 'is present'" in (
        checks(result)["features_are_valid"].description
    )
    assert {file: digest for file, digest in world.fingerprint().items() if "/features/" in file} == before


def test_the_daily_schedule_asks_for_yesterday():
    resolved = dg.Definitions.merge(definitions(project), dg.Definitions(resources={"lake": 1, "feature_store": 1}))
    schedule = resolved.resolve_schedule_def("flights_daily_features")
    repository = resolved.get_repository_def()
    with dg.build_schedule_context(
        scheduled_execution_time=datetime(2013, 9, 2, 1, tzinfo=UTC), repository_def=repository
    ) as context:
        (request,) = schedule.evaluate_tick(context).run_requests
    assert request.partition_key == "2013-09-01"


# --- late data ---------------------------------------------------------------------------------------------------


def requests(world, used=project):
    """What the sensor of late data asks for."""
    resources = dg.Definitions(resources={"lake": world.lake, "feature_store": world.store})
    resolved = dg.Definitions.merge(definitions(used), resources)
    sensor = resolved.resolve_sensor_def("flights_late_data")
    with dg.build_sensor_context(
        instance=world.instance, definitions=resolved, resources={"lake": world.lake}
    ) as context:
        return sensor.evaluate_tick(context).run_requests


def test_a_late_row_is_noticed_made_again_and_brought_online_once(world):
    assert world.run(partition_key=NEXT).success
    assert requests(world) == []
    lake, day = world.lake, datetime(2013, 1, 4, tzinfo=UTC)
    raw = lake.load("flights/raw/flights", start=day, end=day + timedelta(days=1))
    late = raw.with_columns(dep_delay=pl.col("dep_delay") + 100)
    lake.write("flights/raw/flights", late, time="sched_dep", start=day, end=day + timedelta(days=1))

    (request,) = requests(world)
    assert request.tags["fti/reason"] == "flights 2013-01-04"
    assert request.tags["dagster/asset_partition_range_start"] == "2013-01-04"
    assert request.tags["dagster/asset_partition_range_end"] == NEXT
    before = world.fingerprint()
    result = world.run(tags=request.tags, asset_selection=request.asset_selection)
    assert result.success
    changed = {file for file, digest in before.items() if world.fingerprint().get(file) != digest}
    days = {Path(file).name.partition("~")[0] for file in changed if "/features/" in file}
    assert days == {"2013-01-04", "2013-01-05", "2013-01-06"}
    (online,) = result.asset_materializations_for_node("flights__online_features")
    assert online.metadata["start"].value == "2013-01-04T00:00:00+00:00"
    assert requests(world) == []

    (made, *_) = result.asset_materializations_for_node("flights__features")
    assert made.metadata["written"].value == "2013-01-04, 2013-01-05, 2013-01-06"
    assert made.metadata["origin_delays/num_rows"].value > 1000
    assert "data:image/svg+xml;base64," in made.metadata["distributions"].value


def test_some_bad_rows_are_set_aside_and_the_check_says_so(world):
    read = project.source("flights").read
    strict = project.source("flights")
    tolerant = dataclasses.replace(
        strict, read=lambda start, end: unknown_airport(read(start, end)), max_quarantined_share=0.01
    )
    used = dataclasses.replace(project, sources=(tolerant, *project.sources[1:]))
    result = world.run(used, partition_key=NEXT, asset_selection=[dg.AssetKey(project.key("raw_flights"))])
    check = checks(result)["raw_flights_is_valid"]
    assert check.passed
    assert check.description.startswith("1 of ")
    assert "expect_column_values_to_be_in_set" in check.metadata["quarantined"].value
    assert "flights.raw.flights" in check.metadata["expectations"].value
    assert check.metadata["num_quarantined"].value == 1
    assert world.lake.load("flights/quarantine/flights")["origin"].to_list() == ["LHR"]
