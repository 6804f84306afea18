"""Rolling statistics over the time windows of many entities at once, as pure functions on polars frames.

One pass of prefix sums serves every window: rows are taken by (entity, time) into pieces that fit a processor's cache,
where both are packed into one integer; a window, the events of `(t - window, t]`, is the stretch between two positions,
found by one merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import accumulate, pairwise
from typing import Any, Literal

import numpy as np
import polars as pl

from fti.errors import DataError
from fti.views.window_sums import Array, ColumnSums, Values

UNITS = {"m": 60, "h": 3600, "d": 86400}
Statistic = tuple[str, Literal["count", "sum", "mean", "share", "std"]]
"""A column and what to say of its values in a window, nulls not counted in: `count`, `sum` (0 of no value), `mean`,
`share` (of true or non-zero values), `std` (of a sample, so of two or more)."""
COUNT = "count"
"""What each window's number of rows is called; no statistic's name."""
_PIECE = 1 << 15
_PLACE, _SIZE = "__place", "__size"
_Run = Callable[..., Iterable[Any]]
"""`map`, here or on all processors."""


def parse_window(window: str) -> timedelta:
    """`"90m"`, `"6h"` or `"30d"`."""
    try:
        return timedelta(seconds=int(window[:-1]) * UNITS[window[-1]])
    except (KeyError, ValueError, IndexError):
        raise ValueError(f"window {window!r}: write a whole number and m, h or d, for example '6h' or '30d'") from None


def window_names(prefix: str, statistics: Iterable[str], windows: Sequence[str]) -> list[str]:
    """Names of the columns that `rolling_statistics` makes."""
    names = [COUNT, *statistics]
    if COUNT in statistics:
        raise DataError(f"{COUNT!r} is the number of rows in a window: give the statistic of that name another one")
    return [f"{prefix}_{name}_{window}" for window in windows for name in names]


def rolling_statistics(
    events: pl.DataFrame,
    *,
    entity: Sequence[str],
    statistics: Mapping[str, Statistic],
    windows: Sequence[str],
    prefix: str,
    time: str = "event_timestamp",
) -> pl.DataFrame:
    """Statistics of every window, at each moment an entity saw an event.

    Returns one row per (entity, time), sorted by both, with the columns of `window_names`: `count`, the events in the
    window, and the named `statistics`. Counts are Int64, the rest Float64; null where nothing can be said, also where
    a window holds a value that is not finite.

    >>> from datetime import datetime
    >>> hours = [datetime(2013, 1, 1, hour) for hour in (6, 7, 9)]
    >>> events = pl.DataFrame({"shop": "a", "event_timestamp": hours, "sales": [1, 2, 6]})
    >>> made = rolling_statistics(
    ...     events, entity=["shop"], statistics={"sales": ("sales", "mean")}, windows=["3h"], prefix="shop"
    ... )
    >>> made["shop_count_3h"].to_list(), made["shop_sales_3h"].to_list()
    ([1, 2, 2], [1.0, 1.5, 4.0])
    """
    columns = {column for column, _ in statistics.values()}
    rows = events.select(*entity, time, *sorted(columns - {*entity, time})).drop_nulls([*entity, time])
    if not rows[time].is_sorted():
        rows = rows.sort(time, maintain_order=True)
    groups = rows.select(*entity).with_row_index(_PLACE).group_by(*entity).agg(_PLACE, pl.len().alias(_SIZE))
    history = _History(rows, time, groups.sort(*entity), [*map(parse_window, windows)])
    values = {column: Values.of(rows[column]) for column in columns}
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        run = pool.map if len(history.pieces) > 1 else map
        last = list(run(history.last, history.pieces))
        keys = pool.submit(history.keys, last)
        made = _filled(history, last, values, statistics, run)
        found = run(_series, window_names(prefix, statistics, windows), made)
        return keys.result().hstack(list(found))


@dataclass(frozen=True, kw_only=True)
class Rolling:
    """Rolling statistics as a value: all that `rolling_statistics` is told but the events and their entity."""

    prefix: str
    """First part of the names of the features."""
    statistics: Mapping[str, Statistic]
    """Name -> a column and what to say of it."""
    windows: tuple[str, ...]
    """`"90m"`, `"6h"` or `"30d"`."""
    time: str = "event_timestamp"
    """Column that says when an event became known."""
    dtype: Any = pl.Float64
    """Type of the features, counts included."""

    @property
    def names(self) -> list[str]:
        """Names of the features."""
        return window_names(self.prefix, self.statistics, self.windows)

    @property
    def longest(self) -> timedelta:
        """The longest window."""
        return max(map(parse_window, self.windows), default=timedelta(0))

    def of(self, events: pl.DataFrame, entity: Sequence[str]) -> pl.DataFrame:
        """The statistics of every entity at each moment it saw an event."""
        made = rolling_statistics(
            events,
            entity=entity,
            statistics=self.statistics,
            windows=self.windows,
            prefix=self.prefix,
            time=self.time,
        )
        return made.cast(dict.fromkeys(self.names, self.dtype))


@dataclass(frozen=True)
class _Piece:
    """Rows of whole entities, few enough for a cache, and how many each has."""

    rows: slice
    lengths: Array


class _History:
    """The rows by entity and time, taken piece by piece from a frame in order of time."""

    def __init__(self, rows: pl.DataFrame, time: str, groups: pl.DataFrame, widths: Sequence[timedelta]) -> None:
        self._time, self._groups = rows[time], groups
        self._micros = rows[time].dt.epoch("us").to_numpy()
        self._order = groups[_PLACE].explode().to_numpy()
        self._sorted = np.empty(rows.height, np.int64)
        self._low = int(self._micros[0]) if rows.height else 0
        self.widths = [width // timedelta(microseconds=1) for width in widths]
        self._span = int(self._micros[-1] - self._low if rows.height else 0) + max(self.widths, default=0) + 1
        self.pieces = _pieces(groups[_SIZE].to_numpy().astype(np.int64), self._span)

    def rows_of(self, piece: _Piece) -> Array:
        """Where the rows of a piece lie in the frame."""
        return self._order[piece.rows].astype(np.intp)

    def last(self, piece: _Piece) -> Array:
        """The last row, within the piece, of each entity at each of its moments; the times are set down."""
        micros = self._micros.take(self.rows_of(piece), out=self._sorted[piece.rows], mode="clip")
        is_last = np.ones(len(micros), bool)
        np.not_equal(micros[1:], micros[:-1], out=is_last[:-1])
        is_last[np.cumsum(piece.lengths) - 1] = True
        return np.flatnonzero(is_last)

    def packed(self, piece: _Piece) -> Array:
        """Entity and time of each row of a piece, in one integer."""
        starts = np.arange(len(piece.lengths)) * self._span - self._low
        packed: Array = np.repeat(starts, piece.lengths)
        packed += self._sorted[piece.rows]
        return packed

    def keys(self, last: Sequence[Array]) -> pl.DataFrame:
        """Entities and times, at the rows `last` of each piece."""
        frame = self._groups.drop(_SIZE).explode(_PLACE)
        if getattr(self._time.dtype, "time_unit", None) == "us":
            times = _series(self._time.name, self._sorted).cast(self._time.dtype)
        else:
            times = self._time.gather(self._order)
        frame = frame.drop(_PLACE).with_columns(times)
        if sum(map(len, last)) == frame.height:
            return frame
        return frame[np.concatenate([piece.rows.start + own for piece, own in zip(self.pieces, last, strict=True)])]


def _pieces(sizes: Array, span: int) -> list[_Piece]:
    """Few enough rows for a cache, and entities for their number and time to be packed in 62 bits."""
    starts = np.append(0, np.cumsum(sizes))
    group = starts[:-1] // _PIECE + np.arange(len(sizes)) // (np.iinfo(np.int64).max // (2 * span))
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1), len(sizes)]
    return [_Piece(slice(starts[low], starts[high]), sizes[low:high]) for low, high in pairwise(edges)]


def _filled(
    history: _History,
    last: Sequence[Array],
    values: Mapping[str, Values],
    statistics: Mapping[str, Statistic],
    run: _Run,
) -> list[Array]:
    """The columns of all windows, in the order of `window_names`, made piece by piece on all processors."""
    places = list(accumulate(map(len, last), initial=0))
    kinds = ["count", *(kind for _, kind in statistics.values())]
    made = [np.empty(places[-1], np.int64 if kind == "count" else np.float64) for _ in history.widths for kind in kinds]

    def fill(piece: _Piece, last: Array, start: int) -> None:
        columns = [column[start : start + len(last)] for column in made]
        rows = history.rows_of(piece)
        own = {name: column.take(rows) for name, column in values.items()}
        _fill(own, history.packed(piece), history.widths, piece.lengths, last + 1, statistics, columns)

    list(run(fill, history.pieces, last, places))
    return made


def _fill(
    values: Mapping[str, Values],
    packed: Array,
    widths: Sequence[int],
    lengths: Array,
    ends: Array,
    statistics: Mapping[str, Statistic],
    targets: Sequence[Array],
) -> None:
    """The count and the statistics of each window of a piece, to the `targets` in their order."""
    named: dict[str, dict[str, list[int]]] = {}
    for place, (column, kind) in enumerate(statistics.values(), 1):
        named.setdefault(column, {}).setdefault(kind, []).append(place)
    sums = {name: ColumnSums.of(values[name], set(wanted), lengths, ends) for name, wanted in named.items()}
    for window, first in enumerate(_firsts(packed, ends, widths)):
        count, *own = targets[window * (1 + len(statistics)) :][: 1 + len(statistics)]
        number = np.subtract(ends, first, out=count).astype(np.float64)
        for name, wanted in named.items():
            sums[name].fill(first, number, {kind: own[places[0] - 1] for kind, places in wanted.items()})
            for places in wanted.values():
                for place in places[1:]:
                    own[place - 1][:] = own[places[0] - 1]


def _firsts(packed: Array, ends: Array, widths: Sequence[int]) -> Iterator[Array]:
    """For each width, where the windows that stop before `ends` start: both ascend, so one merge finds all.

    A stable sort of two ascending runs is a merge. The last bit tells a window's limit from an event, which comes
    first when both are at one time.
    """
    events, asked = packed << 1, np.arange(len(ends))
    limits = (events if len(ends) == len(packed) else events[ends - 1]) + 1
    both = np.empty(len(events) + len(limits), np.int64)
    for width in widths:
        both[: len(events)] = events
        np.subtract(limits, width << 1, out=both[len(events) :])
        both.sort(kind="stable")
        both &= 1
        first = np.flatnonzero(both.view(np.bool_)[::8])
        first -= asked
        yield first


def _series(name: str, values: Array) -> pl.Series:
    """`values` as they lie in memory, NaN as null."""
    import pyarrow as pa

    known = None
    if values.dtype == np.float64:
        known = pa.py_buffer(np.packbits(~np.isnan(values), bitorder="little"))
    dtype = pa.from_numpy_dtype(values.dtype)
    return pl.Series(name, pa.Array.from_buffers(dtype, len(values), [known, pa.py_buffer(values)]))
