"""Where everything lies in the joined values of rows that have the same sections."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fti.stores.features.online.checksum import SIZE
from fti.stores.features.online.layout import Layout
from fti.stores.features.online.sections import HEADER, NEVER
from fti.stores.features.online.types import FIXED

Array = np.ndarray[Any, Any]
Wanted = Sequence[tuple[int, str]]
"""Features of one type: place of the view, name."""
_BYTE, _OWNER, _TIME = np.dtype("u1"), np.dtype("<u4"), np.dtype("<i8")
_UNITS = {size: np.dtype(f"<u{size}") for size in (1, 2, 4, 8)}
_TYPES = {name: np.dtype(own.numpy) for name, own in FIXED.items()}
_HEAD, _EVENT = 16, 16
"""Bytes of a header before the event's time, and where that lies."""


class Place(NamedTuple):
    """A wanted view's section: where it begins in a row, and its layout."""

    start: int
    layout: Layout


class Columns(NamedTuple):
    """The wanted features of one type."""

    values: Array
    """Where their values lie in a row, in units."""
    bits: Array
    """Places of their bits among the row's bits."""
    absent: Array | None
    """Columns that the row lacks."""


@dataclass(frozen=True)
class Shape:
    """How rows of this shape are read: a table of units of a few bytes, of which columns are taken."""

    widths: list[int]
    """Bytes of each value of a row."""
    size: int
    unit: int
    """Bytes of a unit: as many as fit everywhere."""
    num_views: int
    meta: Array
    """Where the sections' heads, the wanted ones' times, and their bits lie, in units."""
    heads: bytes
    """What the heads are."""
    num_times: int
    there: Array | None
    """Places of the views that the row has; None: all."""
    columns: dict[str, Columns]
    ends: Array
    """Which slots' values have sections: the last of these says whose they are. Empty where sections say nothing."""

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Wanted],
        num_views: int,
        found: Mapping[int, Place],
        widths: list[int],
        heads: Sequence[int],
        row: bytes,
        *,
        is_checked: bool,
    ) -> Shape:
        """The shape of `row`, whose sections begin at `heads`, for `columns` by type."""
        ends = np.flatnonzero(widths) if is_checked else np.zeros(0, np.intp)
        owners = [(end - SIZE, SIZE) for end in np.cumsum(widths)[ends].tolist()]
        there = sorted(found)
        head = [(start, _HEAD) for start in heads]
        times = [(found[place].start + _EVENT, 8) for place in there]
        bits = [(found[place].start + HEADER.size, _bitmap(found[place].layout)) for place in there] or [(0, 1)]
        first_bits = dict(zip(there, itertools.accumulate([0, *(8 * number for _, number in bits)]), strict=False))
        spans = {dtype: _spans(dtype, own, found) for dtype, own in columns.items()}
        everything = itertools.chain(head, times, bits, owners, *spans.values(), [(0, sum(widths))])
        unit = math.gcd(8, *itertools.chain.from_iterable(everything))
        return cls(
            widths,
            sum(widths),
            unit,
            num_views,
            _units([*head, *times, *owners, *bits], unit),
            b"".join(row[start : start + _HEAD] for start in heads),
            len(there),
            None if len(there) == num_views else np.array(there, np.intp),
            {
                dtype: _columns(dtype, own, found, first_bits, _units(spans[dtype], unit))
                for dtype, own in columns.items()
            },
            ends,
        )

    def read(self, raw: bytes) -> tuple[bytes, tuple[Array, dict[str, tuple[Array, Array]], bool]] | None:
        """Whose the rows are, and event times, features and whether all views are there; None when a row has another
        shape."""
        table = np.frombuffer(raw, _UNITS[self.unit]).reshape(-1, self.size // self.unit)
        meta = table.take(self.meta, 1).view(_BYTE)
        first = len(self.heads)
        last = first + 8 * self.num_times
        if first and meta[:, :first].tobytes() != self.heads * len(meta):
            return None
        ends = last + SIZE * len(self.ends)
        owners = meta[:, last:ends].view(_OWNER)[:, ::2].tobytes()
        bits = np.unpackbits(meta[:, ends:], 1, None, "little")
        fixed = {}
        for dtype, (places, own, absent) in self.columns.items():
            values, valid = table.take(places, 1).view(_TYPES[dtype]), bits.take(own, 1)
            if absent is not None:
                values[:, absent], valid[:, absent] = 0, 0
            fixed[dtype] = (values, valid)
        events = meta[:, first:last].copy().view(_TIME)
        if self.there is None:
            return owners, (events, fixed, True)
        all_events = np.full((len(table), self.num_views), NEVER)
        all_events[:, self.there] = events
        return owners, (all_events, fixed, False)


def _bitmap(layout: Layout) -> int:
    """Bytes that are read of a layout's bits: without most of the zeros behind them."""
    return min(-(-len(layout.features) // 32) * 4, layout.bitmap)


def _units(spans: Sequence[tuple[int, int]], unit: int) -> Array:
    """(first, number) of bytes to places of units."""
    parts = [np.arange(first // unit, (first + number) // unit) for first, number in spans]
    return np.concatenate(parts) if parts else np.zeros(0, np.intp)


def _spans(dtype: str, wanted: Wanted, found: Mapping[int, Place]) -> list[tuple[int, int]]:
    """First byte and width of the features of one type; the row's first bytes where it lacks one."""
    width = np.dtype(FIXED[dtype].numpy).itemsize
    spans = []
    for place, name in wanted:
        start, layout = found.get(place, (0, None))
        own = None if layout is None else layout.places.get((name, dtype))
        spans.append((start + HEADER.size + own[1] if own else 0, width))
    return spans


def _columns(
    dtype: str, wanted: Wanted, found: Mapping[int, Place], first_bits: Mapping[int, int], values: Array
) -> Columns:
    own = [found[place].layout.places.get((name, dtype)) if place in found else None for place, name in wanted]
    absent = [column for column, there in enumerate(own) if there is None]
    bits = [first_bits[place] + there[0] if there else 0 for (place, _), there in zip(wanted, own, strict=True)]
    return Columns(values, np.array(bits, np.intp), np.array(absent, np.intp) if absent else None)
