"""Sums over windows of a few ten thousand rows, and the statistics made of them, as pure functions on numpy arrays.

Prefix sums carry their rounding error along (Knuth's TwoSum), as if a window were summed alone; a deviation is taken
about its entity's mean. Rows lie by entity and time; a window is the stretch from a row `first` to before a row `end`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from fti.errors import DataError
from fti.views.window_deviations import Deviations, real

Array = np.ndarray[Any, Any]
_SHARED, _PLAIN = 16, 400
"""Powers of two: by which the largest values of entities that are summed in one unit may differ, and up to which values
and their squares need no unit."""
_TOO_LARGE = 2**63
_HALF, _LOWER = 32, 0xFFFFFFFF
_HUGE, _CARRIED = 2.0**40, 2.0**48
"""Real values from which on, and by how much, the largest drown others in a running sum."""
_FAR, _MANY = 2.0**16, 64
"""By how much larger values are left out before many windows, of so many times all rows, are looked at one by one."""
_DOUBT = 2.0**-20
"""Share of a sum of squares below which what is left, once the mean is taken off, has lost too many of its digits."""


@dataclass(frozen=True)
class Values:
    """A column of numbers: its values, 0 where null, and which are known (None: all)."""

    values: Array
    """Int64 (UInt64) of whole numbers, else Float64; booleans as they are."""
    known: Array | None
    large: bool = False
    """Whether the sum of whole numbers may be more than 64 bits hold."""

    @classmethod
    def of(cls, column: pl.Series) -> Values:
        """Without a copy where there is no null and nothing to cast. DataError for a column that holds no numbers."""
        known = column.is_not_null().to_numpy() if column.null_count() else None
        if not (column.dtype.is_numeric() or column.dtype in (pl.Boolean, pl.Null)):
            raise DataError(
                f"column {column.name!r} holds {column.dtype}, which has no sum: make numbers of it before it "
                "is rolled, of a duration for example with `dt.total_seconds()`."
            )
        if known is not None:
            column = column.fill_null(False if column.dtype == pl.Boolean else 0)
        if not column.dtype.is_integer():
            return cls((column if column.dtype == pl.Boolean else column.cast(pl.Float64)).to_numpy(), known)
        low, high = _bounds(column)
        fits = {pl.Int64: (-_TOO_LARGE, _TOO_LARGE), pl.UInt64: (0, 2 * _TOO_LARGE)}
        dtype = next((kind for kind, (least, end) in fits.items() if least <= low and high < end), pl.Float64)
        large = dtype != pl.Float64 and max(high, -low) * len(column) >= _TOO_LARGE
        return cls(column.cast(dtype).to_numpy(), known, large)

    def take(self, rows: Array) -> Values:
        """The values of `rows`."""
        return Values(self.values.take(rows), None if self.known is None else self.known.take(rows), self.large)


def _bounds(column: pl.Series) -> tuple[int, int]:
    """The least and the largest whole number; 0 of none."""
    low: Any = column.min()
    high: Any = column.max()
    return low or 0, high or 0


@dataclass(frozen=True)
class _Sums:
    """Running sums with a leading 0, in parts that add up, and what they are where the windows end."""

    parts: tuple[Array, ...]
    ends: tuple[Array, ...]

    @classmethod
    def of(cls, values: Array, ends: Array, *, large: bool = False) -> _Sums:
        """Of whole numbers exact, of real numbers with what each addition has rounded away as a second part.

        `large` whole numbers, whose sums 64 bits may not hold, are summed in their upper and their lower 32 bits: as
        real numbers, of which both stay whole for two million values and more.
        """
        if large:
            upper, lower = values >> _HALF, values & _LOWER
            halves = (_Sums.of(upper * 2.0**32, ends), _Sums.of(lower.astype(np.float64), ends))
            return cls(halves[0].parts + halves[1].parts, halves[0].ends + halves[1].ends)
        total = np.empty(len(values) + 1, np.float64 if values.dtype == np.float64 else np.int64)
        total[0] = 0
        np.cumsum(values, dtype=total.dtype, out=total[1:])
        parts: tuple[Array, ...] = (total,)
        if values.dtype == np.float64:
            before, after = total[:-1], total[1:]
            added = after - before
            rounded = values - added
            np.subtract(after, added, out=added)
            rounded += np.subtract(before, added, out=added)
            lost = np.empty_like(total)
            lost[0] = 0.0
            np.cumsum(rounded, out=lost[1:])
            parts = (total, lost)
        return cls(parts, tuple(part[1:] if len(ends) == len(values) else part.take(ends) for part in parts))

    def since(self, first: Array, out: Array | None = None) -> Array:
        """The sums from the rows `first` to where the windows end."""
        taken = self.parts[0].take(first, mode="clip")
        total: Array = np.subtract(self.ends[0], taken, out=taken if out is None else out)
        for part, end in zip(self.parts[1:], self.ends[1:], strict=True):
            lost = part.take(first, mode="clip")
            total += np.subtract(end, lost, out=lost)
        return total


@dataclass(frozen=True)
class ColumnSums:
    """Running sums of a column: of its known values, of those that are infinite or NaN, of what the statistics need.

    Real values are summed in a unit (`units`, by window; none: 1) that suits their entity, so that no entity drowns
    another.
    """

    sums: Mapping[str, _Sums]
    units: Mapping[str, Array]
    calm: ColumnSums | None = None
    """Of the column without its huge values, beside which the others are lost: for windows that hold none of these."""
    alone: Deviations | None = None
    """For the deviations that running sums cannot tell."""

    @classmethod
    def of(cls, column: Values, kinds: set[str], lengths: Array, ends: Array) -> ColumnSums:
        """For statistics `kinds` of windows that stop before `ends`, in a piece of entities of `lengths` rows."""
        values, known = column.values, column.known
        sums: dict[str, Array] = {} if known is None else {"number": known}
        units: dict[str, Array] = {}
        whole = values.dtype != np.float64
        if not whole and not (finite := np.isfinite(values)).all():
            sums["wild"], values = ~finite, np.where(finite, values, 0.0)
        calm = alone = None
        if not whole and len(values) and (largest := max(values.max(), -values.min())) >= _HUGE:
            huge = np.abs(values) >= largest / _CARRIED
            if values[~huge].any():
                sums["huge"] = huge
                calm = cls.of(Values(np.where(huge, 0.0, values), known), kinds - {"count"}, lengths, ends)
        if "share" in kinds:
            sums["true"] = values if values.dtype == bool else values != 0
        if kinds & {"sum", "mean"}:
            sums["total"], unit = (values, None) if whole else _scaled(values, lengths)
            units |= {} if unit is None else {"total": unit}
        if "std" in kinds:
            numbers = real(values, known, lengths)
            alone = Deviations(numbers, known, lengths, ends)
            sums["offset"], unit = _offsets(numbers, known, lengths)
            sums["square"] = sums["offset"] * sums["offset"]
            units |= {} if unit is None else {"offset": unit}
        at_ends = {name: unit[ends - 1] for name, unit in units.items() if len(unit) > 1}
        made = {name: _Sums.of(each, ends, large=column.large and name == "total") for name, each in sums.items()}
        return cls(made, units | at_ends, calm, alone)

    def fill(self, first: Array, number: Array, targets: Mapping[str, Array]) -> None:
        """The statistics, by name, of the `number` (Float64) rows from `first` on; NaN where nothing can be said."""
        counted = self.sums["number"].since(first).astype(np.float64) if "number" in self.sums else number
        with np.errstate(invalid="ignore", divide="ignore"):
            if "count" in targets:
                targets["count"][:] = counted
            if "share" in targets:
                np.divide(self.sums["true"].since(first), counted, out=targets["share"])
            if "sum" in targets or "mean" in targets:
                total = self._scaled_back("total", self.sums["total"].since(first, targets.get("sum")))
                if "mean" in targets:
                    np.divide(total, counted, out=targets["mean"])
            if "std" in targets:
                self._deviate(first, counted, targets["std"])
        if self.calm is not None:
            calm = self.sums["huge"].since(first) == 0
            found = {name: np.empty_like(target) for name, target in targets.items() if name != "count"}
            self.calm.fill(first, number, found)
            for name, target in found.items():
                np.copyto(targets[name], target, where=calm)
        if "wild" in self.sums:
            wild = self.sums["wild"].since(first) > 0
            for name in targets.keys() - {"count"}:
                targets[name][wild] = np.nan

    def _deviate(self, first: Array, number: Array, out: Array) -> None:
        """Standard deviations to `out`; window by window where running sums tell too little."""
        offset, square = self.sums["offset"].since(first), self.sums["square"].since(first)
        doubtful = _deviations(square, offset, number, out)
        self._scaled_back("offset", out)
        if (
            self.alone is not None
            and self.alone.rows(first, doubtful) > _MANY * len(self.alone.values)
            and self._calmer
        ):
            holds, calmer = self._calmer
            calm = doubtful & (holds.since(first) == 0)
            found = np.empty_like(out)
            calmer.fill(first, (self.alone.ends - first).astype(np.float64), {"std": found})
            np.copyto(out, found, where=calm)
            doubtful &= ~calm
        if self.alone is not None and doubtful.any():
            out[doubtful] = self.alone.of(first, number, doubtful)

    @cached_property
    def _calmer(self) -> tuple[_Sums, ColumnSums] | None:
        """How often windows hold a value beside which the deviation of others is lost, and the sums without these."""
        assert self.alone is not None
        values, ends = self.alone.values, self.alone.ends
        size = np.abs(values)
        huge = size >= size.max(initial=0.0) / _FAR
        if not values[~huge].any():
            return None
        rest = Values(np.where(huge, 0.0, values), self.alone.known)
        return _Sums.of(huge, ends), ColumnSums.of(rest, {"std"}, self.alone.lengths, ends)

    def _scaled_back(self, name: str, values: Array) -> Array:
        """`values`, in place, times their unit."""
        if name in self.units:
            values *= self.units[name]
        return values


def _deviations(square: Array, offset: Array, number: Array, out: Array) -> Array:
    """Standard deviations of `number` values, to `out`, from the sums of their offsets and squares; NaN of fewer than
    two. Returns for which windows that tells too little."""
    offset *= offset
    offset /= number
    left: Array = np.subtract(square, offset, out=out)
    square *= _DOUBT
    doubtful: Array = left <= square
    left /= np.subtract(number, 1.0, out=square)
    np.sqrt(left, out=left)
    few = number < 2
    np.copyto(left, np.nan, where=few)
    doubtful &= ~few
    return doubtful


def _offsets(values: Array, known: Array | None, lengths: Array) -> tuple[Array, Array | None]:
    """How far each value lies from the mean of its entity's known values, as multiples of a unit; 0 if unknown."""
    scaled, unit = _scaled(values, lengths)
    starts = np.cumsum(lengths) - lengths
    number = lengths if known is None else np.maximum(np.add.reduceat(known, starts, dtype=np.int64), 1)
    offsets = scaled - np.repeat(np.add.reduceat(scaled, starts) / number, lengths)
    offsets, inner = _scaled(offsets if known is None else offsets * known, lengths)
    if unit is None or inner is None:
        return offsets, inner if unit is None else unit
    return offsets, unit * inner


def _scaled(values: Array, lengths: Array) -> tuple[Array, Array | None]:
    """`values` as multiples of a power of two, and that power: one for all rows where it can be, None if it is 1.

    Entities share a unit as long as the smallest of them keeps about as many digits as a sum can carry.
    """
    starts = np.cumsum(lengths) - lengths
    exponent = np.frexp(np.maximum.reduceat(np.abs(values), starts))[1].clip(-1000, 1000)
    lowest, highest = exponent.min(initial=1000), exponent.max(initial=-1000)
    if highest - lowest > _SHARED:
        return values * np.repeat(np.ldexp(1.0, -exponent), lengths), np.repeat(np.ldexp(1.0, exponent), lengths)
    if max(highest, -lowest) <= _PLAIN:
        return values, None
    return values * np.ldexp(1.0, -highest), np.ldexp(np.ones(1), highest)
