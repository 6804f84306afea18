"""`fti catalog`: what the projects declare and what the stores hold, as one HTML file that needs no server."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from fti.errors import NotReadyError
from fti.project import Expectation, Project
from fti.stores import Stores
from fti.times import TIME
from fti.versions.views import view_versions

if TYPE_CHECKING:
    from feature_pipeline.batch.statistics import ColumnProfile
    from fti.stores.lake.store import Lake

STATISTICS_DAYS = 31
"""Newest days of a table that its statistics are taken from."""
MAX_REASONS = 5


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a source or a feature of a view. Without rows there is no profile."""

    name: str
    dtype: str
    description: str = ""
    is_key: bool = False
    profile: ColumnProfile | None = None

    @property
    def short_dtype(self) -> str:
        """The type as the page shows it."""
        return self.dtype.replace("Datetime(time_unit='us', time_zone='UTC')", "Datetime UTC")


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the lake holds of a table."""

    num_rows: int = 0
    num_days: int = 0
    first: date | None = None
    newest: datetime | None = None
    """Time of the newest row."""
    newest_online: datetime | None = None
    """Time of the newest row of any entity in the online store."""
    quarantined: tuple[tuple[str, int], ...] = ()
    """Reason -> rows, most frequent first."""

    @property
    def num_quarantined(self) -> int:
        return sum(count for _, count in self.quarantined)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A source or a feature view."""

    kind: str
    """`source` or `view`."""
    name: str
    description: str
    owner: str
    columns: tuple[Column, ...]
    held: Held
    key: tuple[str, ...]
    time: str | None
    expectations: tuple[str, ...] = ()
    max_quarantined_share: float = 0.0
    version: str = ""
    ttl: timedelta | None = None
    entities: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    used_by: tuple[str, ...] = ()
    made_from: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Service:
    """A feature service: what a model reads."""

    name: str
    description: str
    views: Mapping[str, Sequence[str]]
    on_demand: tuple[Column, ...] = ()
    on_demand_function: str = ""
    models: tuple[str, ...] = ()

    @property
    def num_features(self) -> int:
        return sum(len(features) for features in self.views.values()) + len(self.on_demand)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One project in the catalogue.

    `as_of` is the moment that ages are told by: now, or for data that has an end (`partitions_end`) the end of the
    newest day that is in the lake.
    """

    name: str
    description: str
    owner: str
    as_of: datetime
    tables: tuple[Table, ...]
    services: tuple[Service, ...]
    newest_online: datetime | None
    champion: str


def entry(project: Project, stores: Stores) -> Entry:
    """Everything the catalogue tells of one project."""
    objects = vars(import_module(project.features.repo)).values()
    text = _champion(project, stores.model_registry)
    services = tuple(_services(project, objects, text))
    online = _online(project, stores.feature_store)
    tables = (*_views(project, objects, services, stores.lake, online), *_sources(project, stores.lake))
    return Entry(
        name=project.name,
        description=project.description,
        owner=project.owner,
        as_of=_as_of(project, tables),
        tables=tables,
        services=services,
        newest_online=max((newest for newest in online.values() if newest), default=None),
        champion=text,
    )


def _as_of(project: Project, tables: Sequence[Table]) -> datetime:
    now, newest = datetime.now(UTC), [table.held.newest for table in tables if table.held.newest]
    if project.partitions_end is None or not newest:
        return now
    day = max(newest).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    return min(now, day, project.partitions_end)


def _champion(project: Project, registry: Any) -> str:
    """The model that serves; a registry that does not exist yet is not made for the question."""
    local = registry.tracking_uri.removeprefix("sqlite:///")
    if local != registry.tracking_uri and not Path(local).exists():
        return ""
    champion = registry.champion(project.name)
    return f"{project.name} version {champion.version}" if champion else ""


def _services(project: Project, objects: Any, champion: str) -> Iterator[Service]:
    from feast import FeatureService

    on_demand = tuple(Column(name=name, dtype="on demand") for name in project.features.on_demand_names)
    for service in (value for value in objects if isinstance(value, FeatureService)):
        own = service.name == project.features.service
        yield Service(
            name=service.name,
            description=service.description,
            views={view.name: [feature.name for feature in view.features] for view in service.feature_view_projections},
            on_demand=on_demand if own else (),
            on_demand_function=_function(project.features.on_demand) if own else "",
            models=(champion,) if own and champion else (),
        )


def _views(
    project: Project,
    objects: Any,
    services: Sequence[Service],
    lake: Lake,
    online: Mapping[str, datetime | None],
) -> Iterator[Table]:
    from feast import FeatureView

    versions = view_versions(project)
    for view in (value for value in objects if isinstance(value, FeatureView)):
        held, rows = _held(lake, f"{project.name}/features/{view.name}", TIME)
        held = replace(held, newest_online=online.get(view.name))
        keys = tuple(field.name for field in view.entity_columns)
        fields = [*view.entity_columns, *view.features]
        yield Table(
            kind="view",
            name=view.name,
            description=view.description,
            owner=view.owner or project.owner,
            columns=_columns([(field.name, str(field.dtype), field.description) for field in fields], keys, rows),
            held=_with_quarantine(lake, f"{project.name}/quarantine/features.{view.name}", held),
            key=keys,
            time=TIME,
            expectations=_told(project.features.expectations.get(view.name, ())),
            max_quarantined_share=project.features.max_quarantined_share,
            version=versions.get(view.name, ""),
            ttl=view.ttl or None,
            entities=tuple(view.entities),
            tags=dict(view.tags),
            used_by=_users(view.name, services),
            made_from=project.features.view(view.name).sources,
        )


def _users(view: str, services: Sequence[Service]) -> tuple[str, ...]:
    """Feature services that read the view, and the models that read these."""
    readers = [service for service in services if view in service.views]
    return (*(service.name for service in readers), *(model for service in readers for model in service.models))


def _sources(project: Project, lake: Lake) -> Iterator[Table]:
    for source in project.sources:
        held, rows = _held(lake, f"{project.name}/raw/{source.name}", source.timestamp)
        uses = ["features"] * (source.name in project.features.sources) + ["label"] * (
            source.name in project.label.sources
        )
        yield Table(
            kind="source",
            name=source.name,
            description=source.description,
            owner=project.owner,
            columns=_columns([(name, str(dtype), "") for name, dtype in source.schema.items()], source.key, rows),
            held=_with_quarantine(lake, f"{project.name}/quarantine/{source.name}", held),
            key=source.key,
            time=source.timestamp,
            expectations=_told(source.expectations),
            max_quarantined_share=source.max_quarantined_share,
            used_by=tuple(uses),
        )


def _held(lake: Lake, table: str, time: str | None) -> tuple[Held, pl.DataFrame | None]:
    """What the lake holds of `table`, and the rows of its newest days."""
    try:
        num_rows = lake.num_rows(table)
    except NotReadyError:
        return Held(), None
    days = lake.days(table)
    if time is None or not days:
        return Held(num_rows=num_rows), lake.load(table)
    end = datetime(days[-1].year, days[-1].month, days[-1].day, tzinfo=UTC) + timedelta(days=1)
    rows = lake.load(table, start=end - timedelta(days=STATISTICS_DAYS), end=end)
    newest: Any = rows[time].max()
    return Held(num_rows=num_rows, num_days=len(days), first=days[0], newest=newest), rows


def _with_quarantine(lake: Lake, table: str, held: Held) -> Held:
    from feature_pipeline.batch.validate import REASON

    try:
        counted = lake.load(table, lambda rows: rows.group_by(REASON).len("rows"))
    except NotReadyError:
        return held
    by_number = counted.sort("rows", REASON, descending=[True, False])
    return replace(held, quarantined=tuple(by_number.iter_rows()))


def _columns(
    fields: Sequence[tuple[str, str, str]], keys: Sequence[str], rows: pl.DataFrame | None
) -> tuple[Column, ...]:
    from feature_pipeline.batch.statistics import profile

    known = [name for name, _, _ in fields if rows is not None and rows.height and name in rows.columns]
    profiles = {found.name: found for found in profile(rows, known)} if rows is not None and known else {}
    return tuple(
        Column(name=name, dtype=dtype, description=text, is_key=name in keys, profile=profiles.get(name))
        for name, dtype, text in fields
    )


def _told(expectations: Sequence[Expectation]) -> tuple[str, ...]:
    told = []
    for expectation in expectations:
        arguments = ", ".join(f"{name}={value!r}" for name, value in expectation.kwargs.items())
        told.append(f"{expectation.type}({arguments})")
    return tuple(told)


def _online(project: Project, feature_store: Any) -> dict[str, datetime | None]:
    try:
        newest: dict[str, datetime | None] = feature_store.newest_by_view(project.features.service)
    except NotReadyError:
        return {}
    return newest


def _function(call: Any) -> str:
    first = (inspect.getdoc(call) or "").splitlines()[:1]
    return f"{call.__module__}.{call.__qualname__}" + (f": {first[0]}" if first else "")
