"""The asset `training_dataset`: entity rows joined point-in-time with the feature service, split by time, versioned."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import polars as pl

from fti import drift
from fti.errors import DataError
from fti.fingerprint import daily_fingerprints
from fti.project import Dataset, Project, Tables
from fti.stores.dataset_store import SPLITS, DatasetStore
from fti.stores.feature_store import FeatureStore
from fti.stores.lake import Lake

GROUP = "training_pipeline"
TIME = "event_timestamp"


class DatasetConfig(dg.Config):
    """How this run cuts the dataset, where it departs from the project."""

    until: str | None = None
    """End of the test split, ISO 8601; UTC when it names no zone."""
    validation_days: float | None = None
    test_days: float | None = None


def cut_of(project: Project, config: DatasetConfig) -> Dataset:
    """The project's cut with the overrides of `config`."""
    own = project.dataset
    until = own.until if config.until is None else datetime.fromisoformat(config.until)
    return Dataset(
        start=own.start,
        until=until if until.tzinfo else until.replace(tzinfo=UTC),
        validation=own.validation if config.validation_days is None else timedelta(days=config.validation_days),
        test=own.test if config.test_days is None else timedelta(days=config.test_days),
    )


def entity_rows(project: Project, tables: Tables, start: datetime, until: datetime) -> pl.DataFrame:
    """One row per prediction of `[start, until)` whose label was known by `until`, oldest first.

    Columns: the request fields, the label, `known_at` and `event_timestamp`, the moment of prediction.
    """
    label = project.label
    rows = label.rows(tables).with_columns((pl.col(label.time) - label.horizon).alias(TIME))
    asked = pl.col(TIME).is_between(start, until, closed="left")
    known = pl.col(label.name).is_not_null() & (pl.col("known_at") < until)
    return rows.filter(asked & known).sort(TIME, *label.key)


def with_features(project: Project, store: FeatureStore, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the features of the project's service, as they were known at each row, and the on-demand ones."""
    return project.features.on_demand(store.historical(project.features.service, rows))


def split(rows: pl.DataFrame, cut: Dataset) -> dict[str, pl.DataFrame]:
    """Train, validation and test, in the order of time. A label that became known only after its split's end leaves:
    a model trained at that moment could not have learned from it."""
    test = cut.until - cut.test
    ends = (test - cut.validation, test, cut.until)
    splits, start = {}, cut.start
    for name, end in zip(SPLITS, ends, strict=True):
        inside = pl.col(TIME).is_between(start, end, closed="left") & (pl.col("known_at") < end)
        splits[name] = rows.filter(inside)
        start = end
    empty = [name for name, part in splits.items() if part.is_empty()]
    if empty:
        raise DataError(
            f"no rows in the {' and '.join(empty)} split of {cut.start:%Y-%m-%d} .. {cut.until:%Y-%m-%d}: "
            "materialize the raw tables and features of that time, or move `until`."
        )
    return splits


def manifest(
    project: Project,
    views: Mapping[str, list[str]],
    splits: Mapping[str, pl.DataFrame],
    cut: Dataset,
    *,
    versions: Mapping[str, str] | None = None,
    raw: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the dataset is, in JSON's types. Without the time of making: equal data is an equal version.

    `versions` of the feature service and its views by name, `raw` what `raw_fingerprints` says of the sources.
    """
    features = [*(name for names in views.values() for name in names), *project.features.on_demand_names]
    numeric = [name for name in features if name not in project.model.categorical]
    categorical = list(project.model.categorical)
    train = splits["train"]
    return {
        "project": project.name,
        "feature_service": project.features.service,
        "feature_views": {view: list(names) for view, names in views.items()},
        "numeric": numeric,
        "categorical": categorical,
        "label": project.label.name,
        "ranges": {name: time_range(part) for name, part in splits.items()},
        "rows": {name: part.height for name, part in splits.items()},
        "positive_share": {name: positive_share(part, project.label.name) for name, part in splits.items()},
        "statistics": statistics(train, numeric).to_dicts(),
        "reference": drift.reference(train, numeric=numeric, categorical=categorical, time=TIME),
        "versions": dict(versions or {}),
        "created_from": {
            "label_sources": list(project.label.sources),
            "until": cut.until.isoformat(),
            "raw": dict(raw or {}),
        },
    }


def raw_fingerprints(project: Project, lake: Lake, start: datetime, end: datetime) -> dict[str, dict[str, str]]:
    """Source -> day -> fingerprint of the raw rows that the features and labels of a dataset come from."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted({*project.features.sources, *project.label.sources}):
        source, table = project.source(name), f"{project.name}/raw/{name}"
        found[name] = {}
        if source.timestamp is None:
            found[name] = daily_fingerprints(source, lake.load(table), [])
            continue
        for day in lake.days(table):
            first = datetime(day.year, day.month, day.day, tzinfo=UTC)
            if first + timedelta(days=1) > start and first < end:
                rows = lake.load(table, start=first, end=first + timedelta(days=1))
                found[name] |= daily_fingerprints(source, rows, [day.isoformat()])
    return found


def time_range(rows: pl.DataFrame) -> list[str]:
    """First and last moment of prediction, ISO 8601."""
    return [moment.isoformat() for moment in rows.select(pl.col(TIME).min(), pl.col(TIME).max().alias("last")).row(0)]


def positive_share(rows: pl.DataFrame, label: str) -> float:
    """Share of label 1."""
    return float(rows[label].to_numpy().mean())


def statistics(rows: pl.DataFrame, numeric: list[str]) -> pl.DataFrame:
    """Missing share, mean, deviation, minimum and maximum of every numeric feature."""
    numbers = rows.select(pl.col(numeric).cast(pl.Float64))
    return pl.DataFrame(
        {
            "feature": numeric,
            "missing": [numbers[name].null_count() / max(rows.height, 1) for name in numeric],
            "mean": [numbers[name].mean() for name in numeric],
            "deviation": [numbers[name].std() for name in numeric],
            "minimum": [numbers[name].min() for name in numeric],
            "maximum": [numbers[name].max() for name in numeric],
        },
        schema_overrides=dict.fromkeys(("missing", "mean", "deviation", "minimum", "maximum"), pl.Float64),
    )


def dataset_asset(project: Project) -> dg.AssetsDefinition:
    """The asset `training_dataset`."""

    @dg.asset(
        key=project.key("training_dataset"),
        group_name=GROUP,
        description=f"Labelled rows with the features of {project.features.service}, split by time, versioned by DVC.",
        deps=[*project.raw_keys(project.label.sources), project.key("features")],
        kinds={"feast", "dvc", "polars"},
        owners=[f"team:{project.owner}"],
    )
    def training_dataset(
        config: DatasetConfig,
        lake: dg.ResourceParam[Lake],
        feature_store: dg.ResourceParam[FeatureStore],
        dataset_store: dg.ResourceParam[DatasetStore],
    ) -> dg.MaterializeResult:
        cut = cut_of(project, config)
        for view in feature_store.feature_names(project.features.service):
            lake.require(f"{project.name}/features/{view}", cut.start, cut.until)
        end = cut.until + project.label.horizon
        tables = lake.raw(project.name, project.label.sources, start=cut.start, end=end)
        rows = entity_rows(project, tables, cut.start, cut.until)
        splits = split(with_features(project, feature_store, rows), cut)
        described = manifest(
            project,
            feature_store.feature_names(project.features.service),
            splits,
            cut,
            versions=feature_store.versions(project.features.service),
            raw=raw_fingerprints(project, lake, cut.start - project.features.lookback, end),
        )
        version = dataset_store.save(project.name, splits, described)
        return dg.MaterializeResult(metadata=metadata(version, described), data_version=dg.DataVersion(version))

    return training_dataset


def metadata(version: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """What Dagster shows of a dataset."""
    from training_pipeline.tables import markdown

    splits = pl.DataFrame(
        {
            "split": list(SPLITS),
            "rows": [described["rows"][name] for name in SPLITS],
            "positive share": [described["positive_share"][name] for name in SPLITS],
            "from": [described["ranges"][name][0] for name in SPLITS],
            "to": [described["ranges"][name][1] for name in SPLITS],
        }
    )
    return {
        "version": version,
        "rows": sum(described["rows"].values()),
        "feature_service": described["feature_service"],
        "num_features": len(described["numeric"]) + len(described["categorical"]),
        "splits": dg.MetadataValue.md(markdown(splits)),
        "statistics": dg.MetadataValue.md(markdown(pl.DataFrame(described["statistics"], infer_schema_length=None))),
    }
