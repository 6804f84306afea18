"""Rolling statistics over the time windows of many entities at once, as pure functions on polars frames.

One pass of prefix sums serves every window: rows lie by (entity, time), both packed into one integer; a window, the
events of `(t - window, t]`, is the stretch between two positions, found by one merge. Prefix sums carry their rounding
error along (Knuth's TwoSum), as if a window were summed alone; a deviation is taken about its entity's mean.
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
"""A column and what to say of its values in a window, nulls not counted in: `count`, `sum` (0 of no value), `mean`,
`share` (of true or non-zero values), `std` (of a sample, so of two or more)."""
_PIECE = 1 << 15
_SIZE, _SHARED = "__size", 16
"""Powers of two by which the largest values of entities that are summed in one unit may differ: `_SHARED`."""
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

    pieces = _pieces(sizes, span)
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        list((pool.map if len(pieces) > 1 else map)(fill, pieces))
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
    columns = {name: _Column.of(rows[name], wanted, lengths, ends) for name, wanted in kinds.items()}
    for first in firsts:
        number = ends - first
        found = {name: column.since(first, number) for name, column in columns.items()}
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
    """Rows of whole entities, with how many each has: few enough for a cache, and to be packed with time in 62 bits."""
    starts = np.append(0, np.cumsum(sizes))
    group = starts[:-1] // _PIECE + np.arange(len(sizes)) // (np.iinfo(np.int64).max // (2 * span))
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1), len(sizes)]
    return [(slice(starts[low], starts[high]), sizes[low:high]) for low, high in pairwise(edges)]


def _last_of_moments(micros: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The last row of each entity at each of its moments."""
    is_last = np.append(micros[1:] != micros[:-1], True)[: len(micros)]
    is_last[np.cumsum(sizes) - 1] = True
    return np.flatnonzero(is_last)


def _firsts(packed: np.ndarray, ends: np.ndarray, widths: Sequence[int]) -> Iterator[np.ndarray]:
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
        yield np.flatnonzero((both & 1).astype(bool)) - asked


@dataclass(frozen=True)
class _Sums:
    """Running sums with a leading 0, in parts that add up, and what they are where the windows end."""

    parts: tuple[np.ndarray, ...]
    ends: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, values: np.ndarray, ends: np.ndarray) -> _Sums:
        """Of whole numbers exact, of real numbers with what each addition has rounded away as a second part."""
        total = np.zeros(len(values) + 1, np.float64 if values.dtype == np.float64 else np.int64)
        np.cumsum(values, dtype=total.dtype, out=total[1:])
        parts: tuple[np.ndarray, ...] = (total,)
        if values.dtype == np.float64:
            before, after = total[:-1], total[1:]
            added = after - before
            rounded = values - added
            rounded += before - np.subtract(after, added, out=added)
            lost = np.zeros_like(total)
            np.cumsum(rounded, out=lost[1:])
            parts = (total, lost)
        return cls(parts, tuple(part[1:] if len(ends) == len(values) else part.take(ends) for part in parts))

    def since(self, first: np.ndarray) -> np.ndarray:
        """The sums from the rows `first` to where the windows end."""
        sums = (end - part.take(first) for part, end in zip(self.parts, self.ends, strict=True))
        total: np.ndarray = next(sums)
        for part in sums:
            total += part
        return total


@dataclass(frozen=True)
class _Column:
    """Running sums of a column: of its known values, of those that are infinite or NaN, of what the statistics need.

    Real values are summed in a unit (`units`, by window) that suits their entity, so that no entity drowns another.
    """

    sums: Mapping[str, _Sums]
    units: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, column: pl.Series, kinds: set[str], lengths: np.ndarray, ends: np.ndarray) -> _Column:
        """For statistics `kinds` of windows that stop before `ends`, in a piece of entities of `lengths` rows."""
        known = column.is_not_null().to_numpy() if column.null_count() else None
        whole = column.dtype.is_integer() or column.dtype == pl.Boolean
        values = column.cast(pl.Int64 if whole else pl.Float64).fill_null(0).to_numpy()
        sums, units = ({} if known is None else {"number": known}), {}
        finite = np.isfinite(values)
        if not finite.all():
            sums["wild"], values = ~finite, np.where(finite, values, 0.0)
        if "share" in kinds:
            sums["true"] = values != 0
        if kinds & {"sum", "mean"} and whole:
            sums["total"] = values
        elif kinds & {"sum", "mean"}:
            sums["total"], units["total"] = _scaled(values, lengths)
        if "std" in kinds:
            sums["offset"], units["offset"] = _offsets(values.astype(np.float64, copy=False), known, lengths)
            sums["square"] = sums["offset"] ** 2
        at_ends = {name: unit[ends - 1] for name, unit in units.items() if len(unit) > 1}
        return cls({name: _Sums.of(each, ends) for name, each in sums.items()}, units | at_ends)

    def since(self, first: np.ndarray, number: np.ndarray) -> dict[str, np.ndarray]:
        """The statistics of the `number` rows from `first` on, NaN where nothing can be said."""
        found = {name: sums.since(first) for name, sums in self.sums.items()}
        number = found.get("number", number)
        made, counted = {"count": number}, number.astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            if "total" in found:
                made["sum"] = found["total"] * self.units.get("total", 1.0)
                made["mean"] = made["sum"] / counted
            if "true" in found:
                made["share"] = found["true"] / counted
            if "square" in found:
                made["std"] = _deviations(found["square"], found["offset"], counted) * self.units["offset"]
        for name, values in made.items() if "wild" in found else ():
            if name != "count":
                values[found["wild"] > 0] = np.nan
        return made


def _deviations(square: np.ndarray, offset: np.ndarray, number: np.ndarray) -> np.ndarray:
    """Standard deviations of `number` values from the sums of their offsets and squares; NaN of fewer than two."""
    left: np.ndarray = square - offset * offset / number
    left[left <= _ROUNDING * square] = 0.0
    left[number < 2] = np.nan
    left /= number - 1
    np.sqrt(left, out=left)
    return left


def _offsets(values: np.ndarray, known: np.ndarray | None, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far each value lies from the mean of its entity's known values, as multiples of a unit; 0 if unknown."""
    scaled, unit = _scaled(values, lengths)
    starts = np.cumsum(lengths) - lengths
    number = lengths if known is None else np.maximum(np.add.reduceat(known, starts, dtype=np.int64), 1)
    offsets = scaled - np.repeat(np.add.reduceat(scaled, starts) / number, lengths)
    offsets, inner = _scaled(offsets if known is None else offsets * known, lengths)
    return offsets, unit * inner


def _scaled(values: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`values` as multiples, about 1 at most, of a power of two, and that power: one for all rows where it can be.

    Entities share a unit as long as the smallest of them keeps about as many digits as a sum can carry.
    """
    starts = np.cumsum(lengths) - lengths
    exponent = np.frexp(np.maximum.reduceat(np.abs(values), starts))[1].clip(-1000, 1000)
    highest = exponent.max(initial=-1000)
    if highest - exponent.min(initial=1000) <= _SHARED:
        return values * np.ldexp(1.0, -highest), np.ldexp(np.ones(1), highest)
    return values * np.repeat(np.ldexp(1.0, -exponent), lengths), np.repeat(np.ldexp(1.0, exponent), lengths)
