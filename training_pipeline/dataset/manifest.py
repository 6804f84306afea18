"""What a training dataset is: its columns, its rows, its label, and what it was made from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from fti.model import drift
from fti.model.records import Manifest
from fti.project import Dataset, Project
from fti.storage.periods import by_stem, days_of
from fti.stores.lake.store import Lake
from fti.times import TIME
from fti.versions.fingerprint import STATIC, recorded
from training_pipeline.dataset.split import drawn_by

SHOWN_CLASSES = 5

ALMOST_A_DAY = timedelta(days=1, microseconds=-1)


def manifest(
    project: Project,
    views: Mapping[str, list[str]],
    splits: Mapping[str, pl.DataFrame],
    cut: Dataset,
    *,
    versions: Mapping[str, str] | None = None,
    raw: Mapping[str, Any] | None = None,
    taken: float = 1.0,
) -> Manifest:
    """What the dataset is.

    `versions` of the feature service and its views by name, `raw` what `raw_fingerprints` says of the sources,
    `taken` the share of all labelled rows that the splits hold.
    """
    features = [*(name for names in views.values() for name in names), *project.features.on_demand_names]
    numeric = [name for name in features if name not in project.model.categorical]
    categorical = list(project.model.categorical)
    train = splits["train"]
    return Manifest(
        project=project.name,
        task=project.model.task,
        **describe_label(splits, project.label.name, project.model.task),
        feature_service=project.features.service,
        feature_views={view: list(names) for view, names in views.items()},
        numeric=tuple(numeric),
        categorical=tuple(categorical),
        label=project.label.name,
        ranges={name: time_range(part) for name, part in splits.items()},
        rows={name: part.height for name, part in splits.items()},
        shares=cut.shares or (),
        kept_together=kept_together(project, splits) if cut.shares else (),
        taken=taken,
        statistics=tuple(statistics(train, numeric).to_dicts()),
        reference=drift.reference(train, numeric=numeric, categorical=categorical, time=TIME),
        versions=dict(versions or {}),
        created_from={
            "label_sources": list(project.label.sources),
            "until": cut.until.isoformat(),
            "raw": dict(raw or {}),
        },
    )


def raw_fingerprints(project: Project, lake: Lake, start: datetime, end: datetime) -> dict[str, dict[str, str]]:
    """Source -> period -> fingerprint of the raw rows that the features and labels of a dataset come from. Of a
    project's months those that lie in `[start, end)` with all their days, and the days of the others."""
    found: dict[str, dict[str, str]] = {}
    for name in sorted({*project.features.sources, *project.label.sources}):
        if project.source(name).timestamp is None:
            found[name] = recorded(project, lake, name, [STATIC])
            continue
        first, last = start.date(), (end + ALMOST_A_DAY).date()
        wanted = [day for day in lake.days(f"{project.name}/raw/{name}") if first <= day < last]
        periods: list[str] = []
        for stem, days in by_stem(wanted, project.partition_by).items():
            whole = first <= days_of(stem)[0] and days_of(stem)[-1] < last
            periods += [stem] if whole else map(str, days)
        found[name] = recorded(project, lake, name, periods)
    return found


def kept_together(project: Project, splits: Mapping[str, pl.DataFrame]) -> tuple[str, ...]:
    """The columns whose equal rows a random split keeps in one part; none where all rows differ in them or are drawn
    one by one."""
    keys = pl.concat([rows.select(project.label.key) for rows in splits.values()])
    drawn = drawn_by(project, keys)
    return tuple(drawn) if drawn != project.label.key and keys.select(drawn).is_duplicated().any() else ()


def time_range(rows: pl.DataFrame) -> list[str]:
    """First and last moment of prediction, ISO 8601."""
    return [moment.isoformat() for moment in rows.select(pl.col(TIME).min(), pl.col(TIME).max().alias("last")).row(0)]


def describe_label(splits: Mapping[str, pl.DataFrame], label: str, task: str) -> dict[str, Any]:
    """What the label of the task looks like in each split: `positive_share`; `classes` and `class_shares`; or
    `label_statistics`."""
    if task == "binary":
        return {"positive_share": {name: float(part[label].mean()) for name, part in splits.items()}}  # type: ignore[arg-type]
    if task == "multiclass":
        classes = sorted({value for part in splits.values() for value in part[label].unique()})
        shares = {
            name: {value: float((part[label] == value).mean()) for value in classes} for name, part in splits.items()
        }
        return {"classes": tuple(classes), "class_shares": shares}
    described = {name: statistics(part, [label]).row(0, named=True) for name, part in splits.items()}
    return {"label_statistics": described}


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


def balance(manifest: Manifest, split: str) -> str:
    """The label of a split in words: share of label 1, the largest classes, or the range of its numbers."""
    if manifest.positive_share:
        return f"{manifest.positive_share[split]:.1%} positive"
    if manifest.class_shares:
        shares = sorted(manifest.class_shares[split].items(), key=lambda item: -item[1])
        listed = ", ".join(f"{name} {share:.1%}" for name, share in shares[:SHOWN_CLASSES])
        return listed + (f", {len(shares) - SHOWN_CLASSES} classes more" if len(shares) > SHOWN_CLASSES else "")
    found = manifest.label_statistics[split]
    return f"mean {found['mean']:.4g}, from {found['minimum']:.4g} to {found['maximum']:.4g}"
