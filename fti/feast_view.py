"""Feast's view of a declared view: what the declaration says of it is not said again in the Feast module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl
from feast import Entity, FeatureView, Field, FileSource
from feast.types import Array, Bool, Bytes, FeastType, Float32, Float64, Int32, Int64, String, UnixTimestamp

from fti.errors import DataError
from fti.project import Project
from fti.stores.features.online.types import polars_type
from fti.times import TIME
from fti.views.view import View, make_views

TYPES: tuple[FeastType, ...] = (Bool, Bytes, Float32, Float64, Int32, Int64, String, UnixTimestamp)


def feature_view(project: Project, name: str, *, entities: Sequence[Entity], **options: Any) -> FeatureView:
    """The `feast.FeatureView` of the project's view `name`, over its table in the lake.

    Its entities are those of `entities` whose join keys the view has, its fields the columns that the view makes.
    `options` are Feast's own: `ttl`, `description`, `tags`, `owner`.
    """
    view = project.features.view(name)
    owner = {"owner": options["owner"]} if "owner" in options else {}
    return FeatureView(
        name=name,
        entities=_entities(view, entities),
        schema=[
            Field(name=column, dtype=_feast_type(view, column, kind)) for column, kind in columns(project, view).items()
        ],
        source=FileSource(
            name=f"{project.name}_{name}", path=f"{project.name}/features/{name}", timestamp_field=TIME, **owner
        ),
        **options,
    )


def columns(project: Project, view: View) -> Mapping[str, pl.DataType]:
    """Column -> type of the view's keys and features, as it makes them of tables without rows."""
    tables = {name: pl.DataFrame(schema=dict(project.source(name).schema)) for name in view.sources}
    moment = project.partitions_start
    made = make_views([view], tables, moment, moment)[view.name].schema
    if absent := [column for column in view.entity if column not in made]:
        raise DataError(f"view {view.name}: its rows lack the entity column {', '.join(absent)}: let `rows` return it")
    return {column: kind for column, kind in made.items() if column != TIME}


def _entities(view: View, entities: Sequence[Entity]) -> list[Entity]:
    by_key = {entity.join_key: entity for entity in entities}
    if absent := [column for column in view.entity if column not in by_key]:
        raise DataError(
            f"feature view {view.name}: no entity has the join key {', '.join(absent)}: add a feast.Entity, and give "
            "it among `entities`"
        )
    return [by_key[column] for column in view.entity]


def _feast_type(view: View, column: str, kind: Any) -> FeastType:
    if isinstance(kind, pl.List):
        return Array(_feast_type(view, column, kind.inner))
    for feast_type in TYPES:
        if polars_type(feast_type) == kind:
            return feast_type
    raise DataError(f"view {view.name}: Feast has no type for the column {column!r} of the type {kind}: cast it")
