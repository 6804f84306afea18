"""Rolling statistics over the time windows of many entities at once, as pure functions on polars frames.

One pass of prefix sums serves every window: rows lie by (entity, time), both packed into one integer, and a window is
the stretch between two positions, found by one merge. A window at time t holds the events of `(t - window, t]`.
Prefix sums of real numbers carry their rounding error along (Knuth's TwoSum), so that a window's sum is as exact as if
it were summed alone; a standard deviation is taken about its entity's mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Literal

import numpy as np
import polars as pl

UNITS = {"m": 60, "h": 3600, "d": 86400}
Statistic = tuple[str, Literal["count", "sum", "mean", "share", "std"]]
"""A column and what to say of its values in a window; nulls are not counted in.

`count`, `sum` (0 of no value), `mean`, `share` (of true or non-zero values), `std` (of a sample, so of two or more).
"""
_PIECE = 1 << 16
_ONE = np.ones(1)
_SIZE, _PLACE = "__size", "__place"
_ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""Share of a sum of squares that its rounding may be: what is left of equal values when their mean is taken off."""


def parse_window(window: str) -> timedelta:
    """`"90m"`, `"6h"` or `"30d"`."""
    try:
        return timedelta(seconds=int(window[:-1]) * UNITS[window[-1]])
    except (KeyError, ValueError, IndexError):
        raise ValueError(f"window {window!r}: write a whole number and m, h or d, for example '6h' or '30d'") from None


def window_names(prefix: str, statistics: Iterable[str], windows: Sequence[str]) -> list[str]:
    """Names of the columns that `rolling_statistics` makes."""
    names = ["count", *statistics]
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
    rows, sizes = _by_entity(events, [*entity], time, sorted(columns - {*entity, time}))
    micros = rows[time].dt.epoch("us").to_numpy()
    last = _last_of_moments(micros, sizes)
    made = _filled(rows, micros, sizes, last, statistics, windows)
    keys = rows.select(*entity, time)
    keys = keys if len(last) == keys.height else keys[last]
    names = window_names(prefix, statistics, windows)
    return keys.hstack([_series(name, values) for name, values in zip(names, made, strict=True)])


def _filled(
    rows: pl.DataFrame,
    micros: np.ndarray,
    sizes: np.ndarray,
    last: np.ndarray,
    statistics: Mapping[str, Statistic],
    windows: Sequence[str],
) -> list[np.ndarray]:
    """The columns of all windows, in the order of `window_names`, made piece by piece on all processors."""
    widths = [int(parse_window(window).total_seconds() * 1_000_000) for window in windows]
    low = micros.min() if rows.height else 0
    span = int(micros.max(initial=low) - low) + max(widths) + 1
    kinds = ["count", *(kind for _, kind in statistics.values())] * len(windows)
    made = [np.empty(len(last), np.int64 if kind == "count" else np.float64) for kind in kinds]

    def fill(piece: tuple[slice, np.ndarray]) -> None:
        place, lengths = piece
        packed = np.repeat(np.arange(len(lengths)) * span, lengths) + (micros[place] - low)
        here = slice(*np.searchsorted(last, [place.start, place.stop]))
        ends = last[here] + (1 - place.start)
        found = _measures(rows[place], lengths, statistics, ends, _firsts(packed, ends, widths))
        for target, values in zip(made, found, strict=True):
            target[here] = values

    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        list(pool.map(fill, _pieces(sizes, span)))
    return made


def _measures(
    rows: pl.DataFrame,
    lengths: np.ndarray,
    statistics: Mapping[str, Statistic],
    ends: np.ndarray,
    firsts: Iterable[np.ndarray],
) -> Iterator[np.ndarray]:
    """The count and the statistics of each window, in their order, from `rows` of entities of `lengths` rows.

    A piece of some ten thousand rows: what is made on the way stays in the processor's cache.
    """
    kinds: dict[str, set[str]] = {column: set() for column, _ in statistics.values()}
    for column, kind in statistics.values():
        kinds[column].add(kind)
    columns = {name: _Column.of(rows[name], wanted, lengths) for name, wanted in kinds.items()}
    for first in firsts:
        number = ends - first
        found = {name: column.between(first, ends, number) for name, column in columns.items()}
        yield number
        yield from (found[name][kind] for name, kind in statistics.values())


def _series(name: str, values: np.ndarray) -> pl.Series:
    """`values` as they lie in memory, NaN as null."""
    import pyarrow as pa

    known = None
    if values.dtype == np.float64:
        known = pa.py_buffer(np.packbits(~np.isnan(values), bitorder="little"))
    dtype = pa.from_numpy_dtype(values.dtype)
    return pl.Series(name, pa.Array.from_buffers(dtype, len(values), [known, pa.py_buffer(values)]))


def _by_entity(
    events: pl.DataFrame, entity: list[str], time: str, columns: list[str]
) -> tuple[pl.DataFrame, np.ndarray]:
    """The events sorted by entity and time, and how many each entity has."""
    rows = events.select(*entity, time, *columns).drop_nulls([*entity, time])
    if not rows[time].is_sorted():
        rows = rows.sort(time, maintain_order=True)
    groups = rows.group_by(entity).agg(pl.all(), pl.len().alias(_SIZE)).sort(entity)
    sizes = groups[_SIZE].to_numpy().astype(np.int64)
    return groups.drop(_SIZE).explode(time, *columns), sizes


def _pieces(sizes: np.ndarray, span: int) -> list[tuple[slice, np.ndarray]]:
    """Rows of whole entities, with how many each has: few enough for a cache, and to be packed with time in 63 bits."""
    starts = np.append(0, np.cumsum(sizes))
    group = starts[:-1] // _PIECE + np.arange(len(sizes)) // (np.iinfo(np.int64).max // span)
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1), len(sizes)]
    return [(slice(starts[low], starts[high]), sizes[low:high]) for low, high in pairwise(edges)]


def _last_of_moments(micros: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The last row of each entity at each of its moments."""
    is_last = np.append(micros[1:] != micros[:-1], True)[: len(micros)]
    is_last[np.cumsum(sizes) - 1] = True
    return np.flatnonzero(is_last)


def _firsts(packed: np.ndarray, ends: np.ndarray, widths: Sequence[int]) -> Iterator[np.ndarray]:
    """For each width, where the windows that stop before `ends` start: both ascend, so one merge finds all."""
    places = pl.DataFrame({"at": packed, _PLACE: np.arange(1, len(packed) + 1)}).set_sorted("at")
    for width in widths:
        limits = pl.DataFrame({"at": packed[ends - 1] - width}).set_sorted("at")
        yield limits.join_asof(places, on="at")[_PLACE].fill_null(0).to_numpy()


@dataclass(frozen=True)
class _Sums:
    """Running sums with a leading 0, in parts that add up."""

    parts: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> _Sums:
        """Of whole numbers exact, of real numbers with what each addition has rounded away as a second part."""
        total = np.zeros(len(values) + 1, values.dtype)
        np.cumsum(values, out=total[1:])
        if values.dtype == np.int64:
            return cls((total,))
        added = total[1:] - total[:-1]
        lost = np.zeros_like(total)
        np.cumsum((total[:-1] - (total[1:] - added)) + (values - added), out=lost[1:])
        return cls((total, lost))

    def between(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """The sums of `values[first:last]`."""
        found: np.ndarray = self.parts[0][last] - self.parts[0][first]
        for part in self.parts[1:]:
            found += part[last] - part[first]
        return found


@dataclass(frozen=True)
class _Column:
    """Running sums of a column: of its known values, of those that are infinite or NaN, of what the statistics need.

    Real values are summed in their entity's unit (`units`, by row), so that no entity drowns another.
    """

    sums: Mapping[str, _Sums]
    units: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, column: pl.Series, kinds: set[str], lengths: np.ndarray) -> _Column:
        """For statistics `kinds` of a piece that holds entities of `lengths` rows."""
        known = column.is_not_null().to_numpy()
        whole = column.dtype.is_integer() or column.dtype == pl.Boolean
        values = column.cast(pl.Int64 if whole else pl.Float64).fill_null(0).to_numpy()
        sums, units = ({} if known.all() else {"number": known.astype(np.int64)}), {}
        if not np.isfinite(values).all():
            sums["wild"] = (~np.isfinite(values)).astype(np.int64)
            values = np.where(np.isfinite(values), values, 0.0)
        if kinds & {"sum", "mean"}:
            sums["total"], units["total"] = (values, _ONE) if whole else _scaled(values, lengths)
        if "share" in kinds:
            sums["true"] = (values != 0).astype(np.int64)
        if "std" in kinds:
            offset = np.where(known, values - _means(values, known, lengths), 0.0)
            sums["offset"], units["offset"] = _scaled(offset, lengths)
            sums["square"] = sums["offset"] ** 2
        return cls({name: _Sums.of(each) for name, each in sums.items()}, units)

    def between(self, first: np.ndarray, last: np.ndarray, number: np.ndarray) -> dict[str, np.ndarray]:
        """The statistics of the `number` rows `first..last - 1`, NaN where nothing can be said."""
        found = {name: sums.between(first, last) for name, sums in self.sums.items()}
        units = {name: unit if unit is _ONE else unit[last - 1] for name, unit in self.units.items()}
        number = found.get("number", number)
        made: dict[str, np.ndarray] = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            if "total" in found:
                total = found["total"] * units["total"]
                made |= {"sum": total, "mean": total / number}
            if "true" in found:
                made["share"] = found["true"] / number
            if "square" in found:
                squares = found["square"] - found["offset"] ** 2 / number
                squares = np.where(squares > _ROUNDING * found["square"], squares, 0.0)
                made["std"] = np.sqrt(np.where(number > 1, squares, np.nan) / (number - 1)) * units["offset"]
        for values in made.values() if "wild" in found else ():
            values[found["wild"] > 0] = np.nan
        return made | {"count": number}


def _means(values: np.ndarray, known: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The mean of each entity's known values, at each of its rows."""
    starts = np.cumsum(lengths) - lengths
    number = np.maximum(np.add.reduceat(known.astype(np.int64), starts), 1)
    means: np.ndarray = np.repeat(np.add.reduceat(values / np.repeat(number, lengths), starts), lengths)
    return means


def _scaled(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`values` as multiples, below 1, of a power of two that suits their entity, and that power at each row."""
    starts = np.cumsum(lengths) - lengths
    exponent = np.frexp(np.maximum.reduceat(np.abs(values), starts))[1].clip(-1000, 1000)
    return values * np.repeat(np.ldexp(1.0, -exponent), lengths), np.repeat(np.ldexp(1.0, exponent), lengths)
