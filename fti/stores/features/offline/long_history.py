"""Point-in-time joins with histories that do not fit into memory: read twice, part by part.

The first time only keys and times are read, and each question keeps the place of the newest row that it may know. The
second time the features of these rows are read, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import polars as pl

from fti.stores.features.offline.questions import Questions
from fti.stores.features.offline.search import gathered

MANY_CELLS = 120_000_000
"""Rows times columns from which on a history is read in parts: about 1 GB."""
PART_CELLS, PART_ROWS = 16_000_000, 2_000_000
_FIRST = -(1 << 63)


def is_long(rows: pl.LazyFrame) -> bool:
    """Whether these rows are too many to be held beside others."""
    width = len(rows.collect_schema())
    return int(rows.select(pl.len()).collect(engine="streaming").item()) * width > MANY_CELLS


@dataclass(frozen=True)
class Places:
    """For each question the row that answers it, by its number among all rows, -1 without one."""

    row: np.ndarray
    known: np.ndarray
    """When that row became known, UTC microseconds."""
    key: np.ndarray
    """Hash of its keys: with the time it tells whether the files are still those that were searched."""


def newest_in_parts(
    questions: Questions,
    moments: pl.Series,
    rows: pl.LazyFrame,
    *,
    keys: Mapping[str, str],
    time: str,
    features: list[str],
    ttl: timedelta,
) -> pl.DataFrame:
    """`features` of the newest of `rows` for each of `questions`, asked at `moments` (UTC); null where there is none.

    `rows` have no null among the columns of `keys`, which maps them to their names in `questions`, and `time`, UTC; of
    two rows of one moment the later one counts. ComputeError when the rows are others the second time.
    """
    found = _search(questions, rows.select(*keys, time), keys, time)
    if ttl > timedelta(0):
        age = moments.dt.epoch("us").fill_null(0).to_numpy() - found.known
        found.row[(found.row >= 0) & (age > ttl // timedelta(microseconds=1))] = -1
    return _gathered(found, rows.select(*keys, time, *features), list(keys), time, features)


def _search(questions: Questions, rows: pl.LazyFrame, keys: Mapping[str, str], time: str) -> Places:
    best = Places(
        np.full(questions.number, -1, np.int64),
        np.full(questions.number, _FIRST, np.int64),
        np.zeros(questions.number, np.uint64),
    )
    for first, part in _parts(rows):
        moments = part[time].dt.epoch("us")
        row = questions.newest(part.select(pl.col(own).alias(asked) for own, asked in keys.items()), moments)
        known = moments.to_numpy()
        places = np.flatnonzero((row >= 0) & (known.take(row, mode="clip") >= best.known))
        row = row[places]
        best.row[places], best.known[places] = row + first, known[row]
        best.key[places] = _hashes(part[row], list(keys))
    return best


def _gathered(found: Places, rows: pl.LazyFrame, keys: list[str], time: str, features: list[str]) -> pl.DataFrame:
    answers, asked = [rows.select(features).head(0).collect()], [np.empty(0, np.int64)]
    for first, part in _parts(rows):
        places = np.flatnonzero((found.row >= first) & (found.row < first + part.height))
        answer = part[found.row[places] - first]
        same = answer[time].dt.epoch("us").to_numpy() == found.known[places]
        if not (same & (_hashes(answer, keys) == found.key[places])).all():
            raise pl.exceptions.ComputeError("rows of the history were replaced while they were read")
        answers.append(answer.select(features))
        asked.append(places)
    places = np.concatenate(asked)
    if len(places) != np.count_nonzero(found.row >= 0):
        raise pl.exceptions.ComputeError("rows of the history were removed while they were read")
    place = np.full(len(found.row), -1, np.int64)
    place[places] = np.arange(len(places))
    return gathered(pl.concat(answers), place, features)


def _parts(rows: pl.LazyFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """The rows in order with the number of the first one, part by part."""
    first, size = 0, min(PART_ROWS, max(1, PART_CELLS // max(1, len(rows.collect_schema()))))
    for part in rows.collect_batches(chunk_size=size, maintain_order=True, engine="streaming"):
        if part.height:
            yield first, part
        first += part.height


def _hashes(rows: pl.DataFrame, keys: list[str]) -> np.ndarray:
    return rows.select(keys).hash_rows().to_numpy() if keys else np.zeros(rows.height, np.uint64)
