"""Where everything lies in the joined values of rows that have the same sections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fti.stores.online.layout import Layout
from fti.stores.online.sections import HEADER, NEVER
from fti.stores.online.types import FIXED

Array = np.ndarray[Any, Any]
_HEAD, _EVENT = 16, slice(16, 24)


class Place(NamedTuple):
    """A wanted view's section: where it begins in a row, and its layout."""

    start: int
    layout: Layout


class Columns(NamedTuple):
    """The wanted features of one type."""

    bytes: Array
    """Places of their bytes in a row."""
    bits: Array
    """Places of their bits among the row's bits."""
    absent: Array | None
    """Columns that the row lacks."""


@dataclass(frozen=True)
class Shape:
    """How rows of this shape are read: a table of bytes, of which columns are taken."""

    widths: list[int]
    """Bytes of each value of a row."""
    size: int
    num_views: int
    meta: Array
    """Places of the sections' heads, the wanted ones' times, and their bits."""
    heads: Array
    """What the heads are."""
    num_times: int
    there: Array | None
    """Places of the views that the row has; None: all."""
    columns: dict[str, Columns]

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Sequence[tuple[int, str]]],
        num_views: int,
        found: Mapping[int, Place],
        widths: list[int],
        heads: Sequence[int],
        row: bytes,
    ) -> Shape:
        """The shape of `row`, whose sections begin at `heads`, for `columns`: type -> (place of the view, name)."""
        there = sorted(found)
        head = _spans((start, _HEAD) for start in heads)
        times = _spans((found[place].start + _EVENT.start, 8) for place in there)
        first_bits, bits, number = {}, [], 0
        for place in there:
            start, layout = found[place]
            bits.append((start + HEADER.size, layout.bitmap))
            first_bits[place] = number
            number += 8 * layout.bitmap
        return cls(
            widths,
            sum(widths),
            num_views,
            np.concatenate([head, times, _spans(bits)]),
            np.frombuffer(row, np.uint8)[head] if heads else np.zeros(0, np.uint8),
            len(there),
            None if len(there) == num_views else np.array(there, np.intp),
            {dtype: _columns(dtype, own, found, first_bits) for dtype, own in columns.items()},
        )

    def read(self, raw: bytes) -> tuple[Array, Array, dict[str, tuple[Array, Array]], list[Any], bool] | None:
        """The fields of `Rows` of all rows at once; None when one has another shape after all."""
        table = np.frombuffer(raw, np.uint8).reshape(-1, self.size)
        meta = table.take(self.meta, 1)
        first = len(self.heads)
        last = first + 8 * self.num_times
        if first and (meta[:, :first] != self.heads).any():
            return None
        bits = np.unpackbits(meta[:, last:], 1, None, "little")
        fixed = {}
        for dtype, (places, own, absent) in self.columns.items():
            values, valid = table.take(places, 1).view(FIXED[dtype].numpy), bits.take(own, 1)
            if absent is not None:
                values[:, absent], valid[:, absent] = 0, 0
            fixed[dtype] = (values, valid)
        events = np.ascontiguousarray(meta[:, first:last]).view("<i8")
        if self.there is None:
            return np.ones(events.shape, bool), events, fixed, [], True
        all_events = np.full((len(table), self.num_views), NEVER)
        all_events[:, self.there] = events
        found = np.zeros(all_events.shape, bool)
        found[:, self.there] = True
        return found, all_events, fixed, [], False


def _spans(spans: Any) -> Array:
    """(first, number) of bytes to their places."""
    parts = [np.arange(first, first + number) for first, number in spans]
    return np.concatenate(parts) if parts else np.zeros(0, np.intp)


def _columns(
    dtype: str, wanted: Sequence[tuple[int, str]], found: Mapping[int, Place], first_bits: Mapping[int, int]
) -> Columns:
    width = np.dtype(FIXED[dtype].numpy).itemsize
    spans, bits, absent = [], [], []
    for column, (place, name) in enumerate(wanted):
        start, layout = found.get(place, (0, None))
        own = None if layout is None else layout.places.get((name, dtype))
        if own is None:
            absent.append(column)
        bit, first = own or (0, 0)
        spans.append((start + HEADER.size + first if own else 0, width))
        bits.append(first_bits[place] + bit if own else 0)
    return Columns(_spans(spans), np.array(bits, np.intp), np.array(absent, np.intp) if absent else None)
