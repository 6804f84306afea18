"""The asset `training_dataset`: entity rows joined point-in-time with the feature service, split by time, versioned."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import dagster as dg
import polars as pl

from fti.model.records import Manifest
from fti.project import Dataset, Project
from fti.stores.datasets.store import SPLITS, DatasetStore
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake
from training_pipeline.chain import DATASET
from training_pipeline.dataset.labelled import labelled_rows
from training_pipeline.dataset.manifest import balance, manifest, raw_fingerprints
from training_pipeline.dataset.split import drawn_by, require_two_classes, split

GROUP = "training_pipeline"


class DatasetConfig(dg.Config):
    """How this run cuts the dataset, where it departs from the project."""

    until: str | None = None
    """End of the test split, ISO 8601; UTC when it names no zone."""
    validation_days: float | None = None
    test_days: float | None = None
    """Both count for a split by time only."""


def cut_of(project: Project, config: DatasetConfig) -> Dataset:
    """The project's cut with the overrides of `config`; it ends with the data, where the data has an end."""
    own = project.dataset
    until = own.until if config.until is None else datetime.fromisoformat(config.until)
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return replace(
        own,
        until=min(until, project.partitions_end or until),
        validation=own.validation if config.validation_days is None else timedelta(days=config.validation_days),
        test=own.test if config.test_days is None else timedelta(days=config.test_days),
    )


def with_features(project: Project, store: FeatureStore, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the features of the project's service, as they were known at each row, and the on-demand ones."""
    joined = store.historical(project.features.service, without_features(project, store, rows))
    return project.features.on_demand(joined)


def without_features(project: Project, store: FeatureStore, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` less the request fields that replace features: a model learns from what the store knew."""
    features = chain(*store.feature_names(project.features.service).values())
    return rows.drop(project.overriding(features), strict=False)


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
        before = table_versions(project, lake)
        for view in feature_store.feature_names(project.features.service):
            lake.require(f"{project.name}/features/{view}", cut.start, cut.until)
        rows, taken = labelled_rows(project, lake, cut)
        splits = split(with_features(project, feature_store, rows), cut, key=drawn_by(project, rows))
        require_two_classes(splits["train"], project.label.name, project.model.task)
        described = manifest(
            project,
            feature_store.feature_names(project.features.service),
            splits,
            cut,
            versions=feature_store.versions(project.features.service),
            raw=raw_fingerprints(
                project, lake, cut.start - project.features.lookback, cut.until + project.label.horizon
            ),
            taken=taken,
        )
        version = dataset_store.save(project.name, splits, described)
        told = {**metadata(version, described), "lake": made_from(before, table_versions(project, lake))}
        return dg.MaterializeResult(metadata=told, data_version=dg.DataVersion(version))

    return training_dataset


def table_versions(project: Project, lake: Lake) -> dict[str, int]:
    """Lake table -> number of its version that is in force, of all that a dataset is made from."""
    raw = (f"{project.name}/raw/{name}" for name in {*project.features.sources, *project.label.sources})
    tables = [*raw, *lake.tables(f"{project.name}/features")]
    return {table: lake.version(table).number for table in sorted(tables)}


def made_from(before: Mapping[str, int], after: Mapping[str, int]) -> dg.MetadataValue:
    """The versions of the lake's tables that a dataset was made from; where one moved meanwhile, both.

    They stand beside the dataset and not in it: a table that was compacted has a new version and equal rows.
    """
    return dg.MetadataValue.json(
        {table: number if after[table] == number else [number, after[table]] for table, number in before.items()}
    )


def metadata(version: str, described: Manifest) -> dict[str, Any]:
    """What Dagster shows of a dataset."""
    from training_pipeline.judging.tables import markdown

    splits = pl.DataFrame(
        {
            "split": list(SPLITS),
            "rows": [described.rows[name] for name in SPLITS],
            "label": [balance(described, name) for name in SPLITS],
            "from": [described.ranges[name][0] for name in SPLITS],
            "to": [described.ranges[name][1] for name in SPLITS],
        }
    )
    return {
        DATASET: version,
        "rows": sum(described.rows.values()),
        "share_of_labelled_rows": described.taken,
        "feature_service": described.feature_service,
        "num_features": described.num_features,
        "splits": dg.MetadataValue.md(markdown(splits)),
        "statistics": dg.MetadataValue.md(markdown(pl.DataFrame(described.statistics, infer_schema_length=None))),
    }
