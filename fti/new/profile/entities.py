"""Rows by entity: snapshots or events, duplicates, order."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from fti.new.profile.profiles import Entities
from fti.tables.findings import Finding, hint, listed, warning

SNAPSHOT_ROWS = 1.5
"""Mean rows per entity under which a table is a snapshot."""


def rows_as_entities(num_rows: int) -> tuple[Entities, list[Finding]]:
    """Every row is about somebody else, since no entity was named."""
    found = Entities(
        num_entities=num_rows, median_rows=1.0, max_rows=1, kind="snapshot", duplicates=0, backwards=0, null_keys=0,
        at_once=1, median_gap=None,
    )  # fmt: skip
    message = "There is no --entity: every row is taken as an entity of its own, called by its row number."
    remedy = "Name the column that says whom a row is about, if there is one: its history can then tell something."
    return found, [hint("no_entity", message, remedy)]


def entities_of(
    rows: pl.DataFrame, entity: Sequence[str], moments: pl.Series | None, *, factor: float
) -> tuple[Entities, list[Finding]]:
    """Counts over `rows`, all rows of some entities in file order; one in `factor` of the entities is among them."""
    keyed = rows.select(pl.col(entity)).hstack([moments.alias("__time")] if moments is not None else [])
    nulls = keyed.filter(pl.any_horizontal(pl.col(entity).is_null())).height
    keyed = keyed.drop_nulls(list(entity))
    sizes = keyed.group_by(entity).len()["len"]
    mean = float(sizes.mean() or 0)  # type: ignore[arg-type]
    unit = [*entity, *(["__time"] if moments is not None else [])]
    whole = keyed.drop_nulls()
    backwards = 0
    if moments is not None:
        step = whole.select(pl.col("__time").diff().over(entity))
        backwards = step.filter(pl.col("__time") < pl.duration()).height
    result = Entities(
        num_entities=round(len(sizes) * factor),
        median_rows=float(sizes.median() or 0),  # type: ignore[arg-type]
        max_rows=max(sizes.to_list(), default=0),
        kind="snapshot" if mean < SNAPSHOT_ROWS else "events",
        duplicates=whole.height - whole.select(unit).n_unique() if whole.height else 0,
        backwards=backwards,
        null_keys=nulls,
        at_once=int(whole.group_by(unit).len()["len"].max() or 1),  # type: ignore[arg-type]
        median_gap=_median_gap(keyed, entity) if moments is not None else None,
    )
    return result, _findings(result, entity, moments, rows.height)


def _median_gap(keyed: pl.DataFrame, entity: Sequence[str]) -> timedelta | None:
    """Median time between neighbouring rows of an entity that have different times."""
    gaps = keyed.drop_nulls().unique().sort("__time").select(pl.col("__time").diff().over(entity)).to_series()
    gap = gaps.filter(gaps > timedelta(0)).median()
    return gap if isinstance(gap, timedelta) else None


def _findings(found: Entities, entity: Sequence[str], moments: pl.Series | None, rows: int) -> list[Finding]:
    key = listed(entity)
    notes = []
    if found.null_keys:
        message = f"{found.null_keys:,} rows have no {key}."
        notes.append(warning("null_keys", message, "These rows are left out.", *entity))
    if found.duplicates:
        unit = f"{key} and {listed([moments.name])}" if moments is not None else key
        message = f"{found.duplicates:,} rows repeat the {unit} of another row."
        remedy = (
            "Copies are left out, other rows moved apart by a microsecond; add a column to the entity if it is one."
        )
        if moments is None:
            remedy = "Name the time of a row with --timestamp if they are events; add a column to the entity if not."
        notes.append(warning("duplicates", message, remedy, *entity))
    if found.backwards and found.backwards > 0.001 * rows:
        message = f"The time goes backwards in {found.backwards:,} rows of an entity, in the order of the file."
        notes.append(hint("time_backwards", message, "Rows are sorted by time; nothing to do."))
    return notes
