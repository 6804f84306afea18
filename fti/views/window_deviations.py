"""Standard deviations of windows that running sums cannot tell, since other values' rounding is all that is left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
_EXACT = 2**53
_GATHERED = 1 << 20
"""Rows of the windows that are looked at together."""


@dataclass(frozen=True)
class Deviations:
    """The values of a column, for deviations that are taken window by window."""

    values: Array
    """Float64."""
    known: Array | None
    lengths: Array
    """Rows of each entity."""
    ends: Array

    def rows(self, first: Array, chosen: Array) -> int:
        """How many rows the `chosen` windows have in all."""
        return int((self.ends[chosen] - first[chosen]).sum())

    def of(self, first: Array, number: Array, chosen: Array) -> Array:
        """Standard deviations of the `chosen` windows, of `number` known values each, which are two or more."""
        firsts, ends, number = first[chosen], self.ends[chosen], number[chosen]
        made = np.zeros(len(firsts))
        varied = np.flatnonzero(self._runs.take(ends - 1) > firsts)
        lengths = ends[varied] - firsts[varied]
        group = np.cumsum(lengths) // _GATHERED
        for own in np.split(varied, np.flatnonzero(np.diff(group)) + 1) if len(varied) else ():
            made[own] = self._of_some(firsts[own], ends[own] - firsts[own], number[own])
        return made

    @cached_property
    def _runs(self) -> Array:
        """Row -> the first row from which on all known values up to it are equal."""
        rows = np.arange(len(self.values))
        values = self.values
        if self.known is not None:
            values = values.take(np.maximum.accumulate(np.where(self.known, rows, 0)))
        changed = np.append(False, values[1:] != values[:-1])
        runs: Array = np.maximum.accumulate(np.where(changed, rows, 0))
        return runs

    def _of_some(self, firsts: Array, lengths: Array, number: Array) -> Array:
        """Of a few windows: from the lowest value of each, in a unit that suits it."""
        starts = np.cumsum(lengths) - lengths
        rows = np.arange(lengths.sum()) + np.repeat(firsts - starts, lengths)
        values, known = self.values.take(rows), None if self.known is None else self.known.take(rows)
        low = np.minimum.reduceat(values if known is None else np.where(known, values, np.inf), starts)
        high = np.maximum.reduceat(values if known is None else np.where(known, values, -np.inf), starts)
        exponent = np.frexp(np.maximum(np.abs(low), np.abs(high)))[1].clip(-1000, 1000)
        values *= np.repeat(np.ldexp(1.0, -exponent), lengths)
        values -= np.repeat(low * np.ldexp(1.0, -exponent), lengths)
        inside = 1.0 if known is None else known.astype(np.float64)
        values *= inside
        values -= np.repeat(np.add.reduceat(values, starts) / number, lengths)
        values *= inside
        rest = np.add.reduceat(values, starts)
        squares = np.maximum(np.add.reduceat(values * values, starts) - rest * rest / number, 0.0)
        found: Array = np.sqrt(squares / (number - 1.0)) * np.ldexp(1.0, exponent)
        return found


def real(values: Array, known: Array | None, lengths: Array) -> Array:
    """`values` as Float64. Whole numbers that this does not hold: how far each lies above the lowest of its entity."""
    if values.dtype.kind not in "iu" or not len(values) or max(int(values.max()), -int(values.min())) <= _EXACT:
        return values.astype(np.float64, copy=False)
    there = values if known is None else np.where(known, values, np.iinfo(values.dtype).max)
    lowest = np.minimum.reduceat(there, np.cumsum(lengths) - lengths)
    above: Array = (values - np.repeat(lowest, lengths)).view(np.uint64).astype(np.float64)
    return above if known is None else above * known
