"""How labelled rows become training, validation and test rows: by time, or at random by a hash of their key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import polars as pl

from fti.errors import DataError
from fti.project import Dataset, Project
from fti.stores.datasets.store import SPLITS
from fti.times import TIME
from fti.versions.fingerprint import unit_hashes

MIN_ENTITIES = 60
"""With fewer entities a random split draws rows: a split could miss what only some entities have."""


def split(rows: pl.DataFrame, cut: Dataset, *, key: Sequence[str] = ()) -> dict[str, pl.DataFrame]:
    """Train, validation and test rows of `[start, until)`, whose label was known by then.

    By time each follows the other. With `cut.shares` they are drawn by a hash of the columns `key`.
    """
    splits = _by_hash(rows, cut, key) if cut.shares else _by_time(rows, cut)
    empty = [name for name in SPLITS if splits[name].is_empty()]
    if empty:
        remedy = (
            "bring more rows, or give it a larger share"
            if cut.shares
            else "materialize the raw tables and features of that time, or move `until`"
        )
        raise DataError(
            f"no rows in the {' and '.join(empty)} split of {cut.start:%Y-%m-%d} .. {cut.until:%Y-%m-%d}: {remedy}."
        )
    return splits


def _by_time(rows: pl.DataFrame, cut: Dataset) -> dict[str, pl.DataFrame]:
    """A label that became known only after its split's end leaves: a model trained at that moment could not have
    learned from it."""
    test = cut.until - cut.test
    splits, start = {}, cut.start
    for name, end in zip(SPLITS, (test - cut.validation, test, cut.until), strict=True):
        splits[name] = rows.filter(_known_between(start, end))
        start = end
    return splits


def _by_hash(rows: pl.DataFrame, cut: Dataset, key: Sequence[str]) -> dict[str, pl.DataFrame]:
    assert cut.shares is not None
    assert key, "a random split needs the key that is hashed"
    rows = rows.filter(_known_between(cut.start, cut.until))
    ends = np.cumsum(cut.shares)
    chosen = pl.Series(np.searchsorted(ends[:-1] / ends[-1], unit_hashes(rows.select(key)), side="right"))
    return {name: rows.filter(chosen == place) for place, name in enumerate(SPLITS)}


def drawn_by(project: Project, rows: pl.DataFrame) -> tuple[str, ...]:
    """The columns whose hash draws the split of a row, where splits are drawn at random.

    Those of the entity, so that all its rows are in one split and the test rows are of entities that training has not
    seen. Where the entity itself is a feature, or there are few, the whole key: rows are drawn one by one.
    """
    key = project.label.key
    entity = tuple(name for name in key if name != project.label.time)
    if not entity or set(entity) & set(project.model.categorical) or rows.select(entity).n_unique() < MIN_ENTITIES:
        return key
    return entity


def _known_between(start: datetime, end: datetime) -> pl.Expr:
    return pl.col(TIME).is_between(start, end, closed="left") & (pl.col("known_at") < end)


def require_two_classes(rows: pl.DataFrame, name: str, task: str) -> None:
    """Raise DataError when the training rows have one label only: there is nothing to learn."""
    if task != "regression" and rows[name].n_unique() < 2:
        raise DataError(
            f"every row of the train split has the label {rows[name][0]!r}: there is nothing to learn. "
            "Bring rows with another label, or move the splits."
        )
