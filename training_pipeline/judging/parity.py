"""The check `online_equals_offline`: at one moment, the online store answers what the offline store would."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

import dagster as dg
import polars as pl

from fti.errors import FtiError, GateError
from fti.project import Project
from fti.stores.datasets.store import DatasetStore, TrainingDataset
from fti.stores.features.store import FeatureStore
from fti.stores.registry.registry import ModelRegistry
from fti.times import TIME, UTC_TIME
from training_pipeline.chain import RUN, evaluated_of

CHECK = "online_equals_offline"
SAMPLE = 500
TRIES = 5
SHOWN = 5
"""Features named in a message."""


@dataclass(frozen=True)
class Difference:
    """A feature whose online values are not the offline ones."""

    view: str
    feature: str
    count: int
    example: str

    def __str__(self) -> str:
        return f"{self.view}.{self.feature} in {self.count} rows, for example {self.example}"


def newest_entities(dataset: TrainingDataset, columns: Sequence[str], number: int = SAMPLE) -> pl.DataFrame:
    """The request fields of the newest rows of a dataset."""
    return dataset.splits["test"].sort(TIME, maintain_order=True).tail(number).select(columns)


def differences(
    online: pl.DataFrame, offline: pl.DataFrame, features: Mapping[str, Sequence[str]], entities: pl.DataFrame
) -> list[Difference]:
    """Features that differ; equal means equal to the last bit, and null and NaN are equal to themselves only."""
    found = []
    for view, names in features.items():
        for name in names:
            differs = ~online[name].eq_missing(offline[name])
            if count := int(differs.sum()):
                place = int(differs.arg_true()[0])
                keys = ", ".join(f"{key} {value}" for key, value in entities.row(place, named=True).items())
                values = f"online {online[name][place]!r}, offline {offline[name][place]!r}"
                found.append(Difference(view, name, count, f"{values} ({keys})"))
    return sorted(found, key=lambda difference: -difference.count)


def parity(store: FeatureStore, service: str, entities: pl.DataFrame) -> tuple[list[Difference], datetime | None]:
    """Both stores asked about `entities` at the newest moment that is online; no moment when nothing is."""
    for _ in range(TRIES):
        moment = store.newest_online(service)
        if moment is None:
            return [], None
        asked = entities.with_columns(pl.lit(moment, UTC_TIME).alias(TIME))
        online, offline = store.online(service, asked), store.historical(service, asked)
        found = differences(online, offline, store.feature_names(service), entities)
        if not found or store.newest_online(service) == moment:
            break  # otherwise events came in between: the two were not asked about the same rows
    return found, moment


def verdict(service: str, found: Sequence[Difference], moment: datetime | None, num_rows: int) -> tuple[bool, str]:
    """The check's answer and why."""
    if moment is None:
        return False, f"Nothing of {service} is online: materialize online_features first."
    if not found:
        return True, f"Online and offline features of {num_rows} rows are equal at {moment:%Y-%m-%d %H:%M:%S} UTC."
    listed = "; ".join(str(difference) for difference in found[:SHOWN])
    more = f"; and {len(found) - SHOWN} features more" if len(found) > SHOWN else ""
    return False, (
        f"Online differs from offline at {moment:%Y-%m-%d %H:%M:%S} UTC: {listed}{more}. Materialize online_features "
        "again with an earlier `start`; if that does not help, materialize features of those days first."
    )


def challenger_parity(
    project: Project, run_id: str, dataset_store: DatasetStore, feature_store: FeatureStore, registry: ModelRegistry
) -> tuple[bool, str, dict[str, Any]]:
    """The verdict about what the model of `run_id` reads, why, and what was asked."""
    bundle = registry.run_bundle(run_id)
    service = bundle.info.feature_service
    replaced = project.overriding(chain(*feature_store.feature_names(service).values()))
    asked = [name for name in project.service.request if name not in replaced]
    entities = newest_entities(dataset_store.load(bundle.info.dataset_version), asked)
    found, moment = parity(feature_store, service, entities)
    facts = {"num_rows": entities.height, "moment": moment.isoformat() if moment else "", "service": service}
    return *verdict(service, found, moment, entities.height), facts


def require_parity(
    project: Project, run_id: str, dataset_store: DatasetStore, feature_store: FeatureStore, registry: ModelRegistry
) -> None:
    """Raise GateError unless the stores agree now: `champion` can be materialized alone, past the blocking check."""
    passed, description, _ = challenger_parity(project, run_id, dataset_store, feature_store, registry)
    if not passed:
        raise GateError(f"{project.name}: the challenger is not promoted. {description}")


def parity_check(project: Project) -> dg.AssetChecksDefinition:
    """The check, on `evaluation`, so that it stands between a challenger and its promotion."""

    @dg.asset_check(
        asset=dg.AssetKey(project.key("evaluation")),
        name=CHECK,
        blocking=True,
        description="The newest entities of the dataset have the same features online and offline.",
    )
    def online_equals_offline(
        context: dg.AssetCheckExecutionContext,
        dataset_store: dg.ResourceParam[DatasetStore],
        feature_store: dg.ResourceParam[FeatureStore],
        model_registry: dg.ResourceParam[ModelRegistry],
    ) -> dg.AssetCheckResult:
        try:
            run_id = evaluated_of(context, project, model_registry)
            passed, description, facts = challenger_parity(
                project, run_id, dataset_store, feature_store, model_registry
            )
        except FtiError as error:
            return dg.AssetCheckResult(passed=False, description=str(error))
        return dg.AssetCheckResult(passed=passed, description=description, metadata={RUN: run_id, **facts})

    return online_equals_offline
