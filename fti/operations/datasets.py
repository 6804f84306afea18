"""`fti dataset list|show|pull|diff`: the versions of the training datasets, here and in the remote."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from fti.model.records import Manifest
    from fti.stores.datasets.store import DatasetStore

SHORT = 12
"""Characters of a version that are shown."""
MEASURES = ("mean", "deviation", "missing", "minimum", "maximum")
SHOWN = 20


@dataclass(frozen=True)
class Shift:
    """How much one feature differs between two datasets."""

    feature: str
    size: float
    """The largest of: shift of the mean in deviations, change of the missing share, log ratio of the deviations."""
    old: Mapping[str, float | None]
    new: Mapping[str, float | None]


def shifts(old: Manifest, new: Manifest) -> list[Shift]:
    """Features of both manifests whose statistics differ, the most different first."""
    before = {row["feature"]: row for row in old.statistics}
    after = {row["feature"]: row for row in new.statistics}
    found = []
    for name in before.keys() & after.keys():
        one, two = ({measure: row[name].get(measure) for measure in MEASURES} for row in (before, after))
        if one != two:
            found.append(Shift(name, _size(one, two), one, two))
    return sorted(found, key=lambda shift: (-shift.size, shift.feature))


def _size(old: Mapping[str, float | None], new: Mapping[str, float | None]) -> float:
    import math

    mean, spread = (old["mean"] or 0.0, new["mean"] or 0.0), (old["deviation"] or 0.0, new["deviation"] or 0.0)
    unit = max(spread) or max(abs(mean[0]), abs(mean[1])) or 1.0
    ratio = abs(math.log(spread[1] / spread[0])) if min(spread) > 0 else float(spread[0] != spread[1])
    return max(abs(mean[1] - mean[0]) / unit, abs((new["missing"] or 0.0) - (old["missing"] or 0.0)), ratio)


def difference(old: Manifest, new: Manifest) -> dict[str, Any]:
    """What two manifests say differently: rows, ranges, columns, versions of views, statistics, raw days."""
    columns = [{*manifest.numeric, *manifest.categorical} for manifest in (old, new)]
    return {
        "service": _pairs({"feature_service": old.feature_service}, {"feature_service": new.feature_service}),
        "rows": _pairs(old.rows, new.rows),
        "ranges": _pairs(old.ranges, new.ranges),
        "label": _pairs(_labels(old), _labels(new)),
        "columns": {"added": sorted(columns[1] - columns[0]), "removed": sorted(columns[0] - columns[1])},
        "versions": _pairs(old.versions, new.versions),
        "raw": _raw(old, new),
        "statistics": [asdict(shift) for shift in shifts(old, new)],
    }


def _labels(manifest: Manifest) -> dict[str, str]:
    """Split -> its label in words."""
    from training_pipeline.dataset.manifest import balance

    return {split: balance(manifest, split) for split in manifest.rows}


def _pairs(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Name -> `[old, new]` of what differs."""
    names = [*old, *(name for name in new if name not in old)]
    return {name: [old.get(name), new.get(name)] for name in names if old.get(name) != new.get(name)}


def _raw(old: Manifest, new: Manifest) -> dict[str, dict[str, int]]:
    """Source -> how many raw days were added, removed and changed."""
    days = [manifest.raw for manifest in (old, new)]
    found = {}
    for source in sorted({*days[0], *days[1]}):
        one, two = days[0].get(source, {}), days[1].get(source, {})
        counts = {
            "added": len(two.keys() - one.keys()),
            "removed": len(one.keys() - two.keys()),
            "changed": sum(one[day] != two[day] for day in one.keys() & two.keys()),
        }
        if any(counts.values()):
            found[source] = counts
    return found


# --- the commands ------------------------------------------------------------------------------------------------


def list_versions(settings: Settings, *, as_json: bool) -> int:
    """Every version, newest first."""
    from rich.console import Console
    from rich.table import Table

    from fti.stores.datasets.store import SPLITS

    found = store(settings).versions()
    if as_json:
        print(json.dumps([asdict(version) for version in found], indent=1, default=str))
        return 0
    table = Table("version", "project", "made (UTC)", "rows", "service", "where")
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for version in found:
        rows = " + ".join(f"{version.rows[split]:,}" for split in SPLITS if split in version.rows)
        where = " and ".join(["here"] * version.is_local + ["remote"] * version.is_remote)
        mark = " [green]latest[/]" if version.is_latest else ""
        made = f"{version.made:%Y-%m-%d %H:%M}"
        table.add_row(version.version[:SHORT], version.project, made, rows, version.service, where + mark)
    Console().print(table if found else "no training dataset yet: materialize training_dataset")
    return 0


def show(settings: Settings, prefix: str, *, as_json: bool) -> int:
    """The manifest of one version, statistics included."""
    from rich.console import Console

    from training_pipeline.dataset.manifest import balance

    datasets = store(settings)
    version = datasets.resolve(prefix)
    manifest = datasets.manifest(version)
    if as_json:
        print(json.dumps({"version": version, **manifest.to_json()}, indent=1))
        return 0
    console = Console()
    console.print(f"[bold]{version}[/]  project {manifest.project}, feature service {manifest.feature_service}")
    for split, rows in manifest.rows.items():
        first, last = manifest.ranges[split]
        label = balance(manifest, split)
        console.print(f"  {split:<10} {rows:>10,} rows  {first[:16]} .. {last[:16]}  {label}", highlight=False)
    for view, features in manifest.feature_views.items():
        console.print(f"  {view:<24} {len(features):>3} features  {manifest.versions.get(view, '')}")
    console.print(f"  categorical: {', '.join(manifest.categorical)}")
    console.print(statistics_table(manifest.statistics))
    return 0


def pull(settings: Settings, prefix: str, to: str) -> int:
    """Bring a version from the remote to this machine, or into a folder."""
    datasets = store(settings)
    version = datasets.resolve(prefix)
    folder = datasets.pull(version, Path(to) if to else None)
    print(f"{version} is in {folder}, verified")
    return 0


def diff(settings: Settings, old: str, new: str, *, as_json: bool) -> int:
    """What differs between two versions."""
    from rich.console import Console

    datasets = store(settings)
    versions = [datasets.resolve(prefix) for prefix in (old, new)]
    found = difference(*(datasets.manifest(version) for version in versions))
    if as_json:
        print(json.dumps({"old": versions[0], "new": versions[1], **found}, indent=1))
        return 0
    console = Console()
    console.print(f"{versions[0][:SHORT]} -> {versions[1][:SHORT]}")
    for title in ("service", "rows", "ranges", "label", "versions"):
        for name, (before, after) in found[title].items():
            console.print(f"  {title.replace('_', ' ')}: {name}  {_short(before)} -> {_short(after)}", highlight=False)
    for kind, names in found["columns"].items():
        if names:
            console.print(f"  columns {kind}: {', '.join(names)}")
    for source, counts in found["raw"].items():
        listed = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
        console.print(f"  raw days of {source}: {listed}")
    if found["statistics"]:
        console.print(_shift_table(found["statistics"]))
    elif versions[0] != versions[1]:
        console.print("  no statistic differs")
    return 0


def store(settings: Settings) -> DatasetStore:
    """The dataset store of `settings`, without the other stores."""
    from fti.stores.datasets.store import DatasetStore

    return DatasetStore(str(settings.root / "datasets"), settings.datasets, bool(settings.storage_uri))


def statistics_table(statistics: Sequence[Mapping[str, Any]]) -> Table:
    """Missing share, mean, deviation, minimum and maximum of every numeric feature of the training split."""
    from rich.table import Table

    table = Table(title="numeric features of the training split")
    table.add_column("feature", no_wrap=True)
    for measure in MEASURES:
        table.add_column(measure, justify="right")
    for row in statistics:
        table.add_row(row["feature"], *(_number(row[measure]) for measure in MEASURES))
    return table


def _shift_table(found: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    table = Table(title=f"statistics of {len(found)} features differ; the {SHOWN} that differ most")
    table.add_column("feature", no_wrap=True)
    for title in ("by", *MEASURES[:3]):
        table.add_column(title, justify="right")
    for row in found[:SHOWN]:
        cells = (f"{_number(row['old'][measure])} -> {_number(row['new'][measure])}" for measure in MEASURES[:3])
        table.add_row(row["feature"], f"{row['size']:.3f}", *cells)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return " .. ".join(str(part)[:16] for part in value)
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
