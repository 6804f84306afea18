"""Labelled rows: one per prediction that could have been asked, and of very many a share that fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from fti.model.target import typed_label
from fti.project import Dataset, Project, Tables
from fti.project.labels import label_rows
from fti.storage.periods import day_spans
from fti.stores.lake.store import Lake
from fti.times import TIME
from fti.versions.fingerprint import unit_hashes

HASH = "__hash"


def entity_rows(project: Project, tables: Tables, start: datetime, until: datetime) -> pl.DataFrame:
    """One row per prediction of `[start, until)` whose label was known by `until`, oldest first.

    Columns: the request fields, the label, `known_at` and `event_timestamp`, the moment of prediction.
    """
    label = project.label
    rows = typed_label(label_rows(project, tables).with_columns(label.moment()), label.name, project.model.task)
    asked = pl.col(TIME).is_between(start, until, closed="left")
    return rows.filter(asked & (pl.col("known_at") < until)).sort(TIME, *label.key)


def labelled_rows(project: Project, lake: Lake, cut: Dataset) -> tuple[pl.DataFrame, float]:
    """The rows of the dataset, and the share that they are of all labelled rows: 1 unless these are over
    `cut.max_rows`."""
    label = project.label
    if num_rows(project, lake) <= cut.max_rows:
        tables = lake.raw(project.name, label.sources, start=cut.start, end=cut.until + label.horizon)
        return sampled(entity_rows(project, tables, cut.start, cut.until), cut.max_rows, label.key)
    kept, seen = pl.DataFrame(), 0
    for rows in _by_chunk(project, lake, cut):
        seen += rows.height
        hashed = _hashed(rows, label.key)
        kept = _lowest(pl.concat([kept, hashed]) if kept.width else hashed, cut.max_rows)
    return kept.drop(HASH).sort(TIME, *label.key), kept.height / max(seen, 1)


def sampled(rows: pl.DataFrame, max_rows: int, key: tuple[str, ...]) -> tuple[pl.DataFrame, float]:
    """At most `max_rows` of `rows`, those with the lowest hashes of `key`, in their order; the share that they are."""
    if rows.height <= max_rows:
        return rows, 1.0
    return _lowest(_hashed(rows, key), max_rows).drop(HASH), max_rows / rows.height


def num_rows(project: Project, lake: Lake) -> int:
    """Rows of the largest table that labels come from."""
    tables = (f"{project.name}/raw/{name}" for name in project.label.sources)
    return max(lake.num_rows(table) for table in tables)


def _hashed(rows: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    """With a hash that is not the one of a random split: the rows with the lowest ones would all train."""
    return rows.with_columns(pl.Series(HASH, unit_hashes(rows.select(key), b"max_rows")))


def _lowest(hashed: pl.DataFrame, max_rows: int) -> pl.DataFrame:
    """The `max_rows` rows with the lowest hashes, in their order."""
    if hashed.height <= max_rows:
        return hashed
    limit = hashed[HASH].bottom_k(max_rows).max()
    return hashed.filter(pl.col(HASH) <= limit).head(max_rows)


def _by_chunk(project: Project, lake: Lake, cut: Dataset) -> Iterator[pl.DataFrame]:
    """The labelled rows, made of the raw rows of `chunk_days` at a time and those that tell their labels."""
    label, ahead = project.label, project.label.horizon + project.label.delay
    for start, end in day_spans(cut.start, cut.until, project.chunk_days):
        until = min(end + ahead, cut.until + label.horizon)
        tables = lake.raw(project.name, label.sources, start=start, end=max(until, end))
        rows = entity_rows(project, tables, cut.start, cut.until)
        yield rows.filter(pl.col(TIME).is_between(start, end, closed="left"))
