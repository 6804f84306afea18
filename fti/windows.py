"""Rolling statistics over the time windows of many entities at once, as pure functions on polars frames.

One cumulative sum per value serves every window: rows are sorted by (entity, time), both packed into one integer, and
a window is two positions found by binary search. A window at time t holds the events of `(t - window, t]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

import numpy as np
import polars as pl

UNITS = {"m": 60, "h": 3600, "d": 86400}


def parse_window(window: str) -> timedelta:
    """`"90m"`, `"6h"` or `"30d"`."""
    try:
        return timedelta(seconds=int(window[:-1]) * UNITS[window[-1]])
    except (KeyError, ValueError, IndexError):
        raise ValueError(f"window {window!r}: write a whole number and m, h or d, for example '6h' or '30d'") from None


def window_names(prefix: str, means: Sequence[str], windows: Sequence[str]) -> list[str]:
    """Names of the columns that `rolling_statistics` makes."""
    return [f"{prefix}_{name}_{window}" for window in windows for name in ("count", *means)]


def rolling_statistics(
    events: pl.DataFrame,
    *,
    entity: Sequence[str],
    means: Mapping[str, str],
    windows: Sequence[str],
    prefix: str,
    time: str = "event_timestamp",
) -> pl.DataFrame:
    """Count and means of every window, at each moment an entity saw an event.

    `means` maps a statistic's name to the column of `events` that it averages; nulls are not counted in. `count` is
    the number of events in the window. Returns one row per (entity, time), sorted by both, with the columns of
    `window_names`; a mean over no value is null. Values are summed as float64, so whole numbers are exact.
    """
    rows = events.drop_nulls([*entity, time]).sort(*entity, time)
    packed = _pack(rows, entity, time, max(parse_window(window) for window in windows))
    last = np.flatnonzero(np.append(packed[1:] != packed[:-1], True)) if rows.height else np.empty(0, np.int64)
    sums = {name: _prefix_sums(rows[column]) for name, column in means.items()}
    columns: dict[str, np.ndarray] = {}
    for window in windows:
        width = int(parse_window(window).total_seconds() * 1_000_000)
        first = np.searchsorted(packed, packed[last] - width, side="right")
        columns[f"{prefix}_count_{window}"] = (last + 1 - first).astype(np.float32)
        for name, (total, number) in sums.items():
            count = number[last + 1] - number[first]
            with np.errstate(invalid="ignore", divide="ignore"):
                columns[f"{prefix}_{name}_{window}"] = ((total[last + 1] - total[first]) / count).astype(np.float32)
    statistics = pl.DataFrame(columns).fill_nan(None)
    return rows.select(*entity, time)[last].hstack(statistics)


def _pack(rows: pl.DataFrame, entity: Sequence[str], time: str, longest: timedelta) -> np.ndarray:
    """(entity, time) of sorted rows as one ascending integer, entities further apart than the longest window."""
    micros = rows[time].dt.epoch("us").to_numpy()
    if not len(micros):
        return np.empty(0, np.int64)
    span = int(micros.max() - micros.min()) + int(longest.total_seconds() * 1_000_000) + 1
    code = rows.select(pl.struct(entity).rle_id()).to_series().to_numpy().astype(np.int64)
    if int(code[-1] + 1) * span > np.iinfo(np.int64).max:
        raise ValueError(f"{int(code[-1]) + 1} entities over {span / 8.64e10:.0f} days do not fit; cut the time range")
    packed: np.ndarray = code * span + (micros - micros.min())
    return packed


def _prefix_sums(values: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """Running sum and running number of the non-null values, each with a leading 0."""
    known = values.is_not_null().to_numpy()
    total = np.concatenate([[0.0], np.cumsum(values.cast(pl.Float64).fill_null(0.0).to_numpy())])
    return total, np.concatenate([[0], np.cumsum(known)])
