"""While a new service is trained, the one that the champion reads stays fresh: the way out of a refused change."""

import importlib
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import dagster as dg
import polars as pl

from feature_pipeline.definitions import definitions
from fti.errors import ChangeError
from fti.project import Features, Source, View
from fti.projects.flights import project as flights
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake
from fti.times import UTC_TIME
from fti.versions import syntax
from fti.versions.views import model_tags, served_model

START = datetime(2024, 1, 1, tzinfo=UTC)
MODULE = """
from datetime import datetime, timedelta, timezone
import polars as pl
from feast import Entity, FeatureService, FeatureView, Field, FileSource
from feast.types import Float32, String
from feast.value_type import ValueType

START = datetime(2024, 1, 1, tzinfo=timezone.utc)
shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)


def view(name):
    return FeatureView(
        name=name,
        entities=[shop],
        schema=[Field(name="shop", dtype=String), Field(name=f"{name}_amount", dtype=Float32)],
        source=FileSource(name=name, path=f"bakery/features/{name}", timestamp_field="event_timestamp"),
        ttl=timedelta(days=6),
    )


sales = view("sales")
model_v1 = FeatureService(name="model_v1", features=[sales])


def read(start, end):
    hours = [START + timedelta(hours=hour) for hour in range(96)]
    rows = pl.DataFrame({"shop": ["a", "b"] * 48, "at": hours, "amount": [float(hour) for hour in range(96)]})
    rows = rows.with_columns(pl.col("at").cast(pl.Datetime("us", "UTC")))
    return rows.filter(pl.col("at").is_between(start, end, closed="left"))


def amounts(events, name, factor):
    amount = (pl.col("amount") * factor).cast(pl.Float32).alias(f"{name}_amount")
    return events.select("shop", amount, event_timestamp="at")


FACTORS = {"sales": 1}


def on_demand(rows):
    return rows
"""
IN_PLACE = [('"sales": 1', '"sales": 2')]
BESIDE = [
    ('sales = view("sales")', 'sales = view("sales")\nsales_v2 = view("sales_v2")'),
    (
        'model_v1 = FeatureService(name="model_v1", features=[sales])',
        'model_v1 = FeatureService(name="model_v1", features=[sales])\n'
        'model_v2 = FeatureService(name="model_v2", features=[sales_v2])',
    ),
    ('"sales": 1', '"sales": 1, "sales_v2": 2'),
]


def bakery(root, changes=()):
    """The project after `changes` of its code."""
    text = MODULE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (root / "bakery_repo.py").write_text(text)
    sys.modules.pop("bakery_repo", None)
    syntax.module_of.cache_clear()
    importlib.invalidate_caches()
    module = importlib.import_module("bakery_repo")
    schema = {"shop": pl.String, "at": UTC_TIME, "amount": pl.Float64}
    features = Features(
        repo="bakery_repo",
        service="model_v2" if hasattr(module, "model_v2") else "model_v1",
        views=tuple(
            View(
                name=name,
                entity=("shop",),
                inputs=("events",),
                rows=partial(module.amounts, name=name, factor=factor),
                lookback=timedelta(days=1),
            )
            for name, factor in module.FACTORS.items()
        ),
        on_demand=module.on_demand,
        on_demand_names=(),
    )
    source = Source(name="events", read=module.read, schema=schema, key=("shop", "at"), timestamp="at")
    return replace(
        flights, name="bakery", sources=(source,), features=features, partitions_start=START, partitions_end=None
    )


def run(project, stores, instance, first, last):
    resources = dg.Definitions(resources=stores)
    job = dg.Definitions.merge(definitions(project), resources).resolve_job_def("bakery_features")
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    return job.execute_in_process(instance=instance, tags=tags, raise_on_error=False)


def amounts(store, service, now):
    rows = pl.DataFrame({"shop": ["a", "b"], "event_timestamp": [now] * 2}).cast({"event_timestamp": UTC_TIME})
    return store.online(service, rows).to_series(0).to_list()


def test_a_refused_change_goes_on_beside_what_the_champion_reads(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    models = []
    lake, feast = Lake(str(tmp_path / "lake")), tmp_path / "feast"
    store = FeatureStore(
        Path(__file__).parents[2] / "feature_repo",
        str(feast),
        lake.root,
        f"sqlite:///{feast}/registry.db",
        str(feast / "online.db"),
        served=lambda: models,
    )
    stores = {"lake": lake, "feature_store": store}
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(bakery(tmp_path), stores, instance, "2024-01-01", "2024-01-02").success
        models.append(served_model("bakery", 1, "champion", model_tags("model_v1", store.versions("model_v1"))))
        assert amounts(store, "model_v1", START + timedelta(days=2)) == [46.0, 47.0]

        before = {file: file.read_bytes() for file in Path(lake.root).rglob("features/**/*.parquet")}
        refused = run(bakery(tmp_path, IN_PLACE), stores, instance, "2024-01-02", "2024-01-02")
        (failure,) = [event for event in refused.all_events if event.is_step_failure]
        assert failure.step_key == "bakery__features"
        assert ChangeError.__name__ in failure.step_failure_data.error.to_string()
        assert {file: file.read_bytes() for file in before} == before

        beside = bakery(tmp_path, BESIDE)
        assert store.services(beside) == ["model_v2", "model_v1"]
        assert run(beside, stores, instance, "2024-01-01", "2024-01-03").success
        now = START + timedelta(days=3)
        assert amounts(store, "model_v1", now) == [70.0, 71.0]
        assert amounts(store, "model_v2", now) == [140.0, 142.0]
