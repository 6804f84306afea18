"""Values of the online store to columns, without an object per value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fti.stores.online.layout import Bytes, Feature, Layout
from fti.stores.online.sections import HEADER, NEVER, Section, walk
from fti.stores.online.types import FIXED

Array = np.ndarray[Any, Any]
LayoutOf = Callable[[int], Layout]
HEAD = 16
"""Bytes of a header that tell the shape of a section: view, length, layout."""


@dataclass(frozen=True)
class Rows:
    """What a read found, a row per asked entity; zero or None where nothing was found."""

    found: Array
    """[rows, views]: whether the entity is online."""
    events: Array
    """[rows, views]: when its row happened, microseconds."""
    fixed: dict[str, tuple[Array, Array]]
    """Type -> values and whether they are not null, both [rows, wanted features of this type]."""
    tails: list[list[bytes | None]]
    """A list of rows per wanted feature of any length."""

    def take(self, places: Array) -> Rows:
        """The rows at `places`."""
        fixed = {dtype: (values[places], valid[places]) for dtype, (values, valid) in self.fixed.items()}
        tails = [[tail[place] for place in places] for tail in self.tails]
        return Rows(self.found[places], self.events[places], fixed, tails)


@dataclass(frozen=True)
class Wanted:
    """Features asked of one view: (name, Feast type)."""

    view: int
    features: tuple[Feature, ...]

    def of_type(self, dtype: str) -> list[str]:
        """Features of this type, in order."""
        return [name for name, own in self.features if own == dtype]

    @property
    def tails(self) -> list[Feature]:
        """Features of any length, in order."""
        return [feature for feature in self.features if feature[1] not in FIXED]


@dataclass(frozen=True)
class Pick:
    """Where the wanted features of one view and type lie in rows of one layout."""

    columns: slice | Array
    """Bytes of the row."""
    bits: Array
    """Bits of the row."""
    places: Array | None
    """Which of the wanted ones the layout has; None: all."""


@dataclass(frozen=True)
class Shape:
    """Where everything lies in values that all have the same sections, each view among them and complete."""

    heads: Array
    """Bytes of the heads of the wanted sections."""
    times: Array
    bitmaps: Array
    picks: dict[str, tuple[list[slice | Array], Array]]
    """Type -> bytes of its columns, bits of its columns among those of `bitmaps`."""


@dataclass
class Group:
    """Views of the same entities, asked for again and again; learns the layouts and shapes that it meets."""

    views: Sequence[Wanted]
    _picks: dict[tuple[int, int], tuple[Layout, dict[str, Pick], list[int]]] = field(default_factory=dict)
    _shapes: dict[bytes, Shape | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = [dtype for view in self.views for _, dtype in view.features]
        self.types = [dtype for dtype in FIXED if dtype in wanted]
        self.names = {dtype: [name for view in self.views for name in view.of_type(dtype)] for dtype in self.types}
        self.tails = [(place, name) for place, view in enumerate(self.views) for name, _ in view.tails]

    def decode(self, values: Sequence[bytes | None], layout: LayoutOf) -> Rows:
        """What `values`, one per entity, hold. `layout` looks up a layout by its fingerprint."""
        if values and not self.tails and None not in values:
            rows = self._alike(values, layout)  # type: ignore[arg-type]
            if rows is not None:
                return rows
        return self._scattered(values, layout)

    def _alike(self, values: Sequence[bytes], layout: LayoutOf) -> Rows | None:
        """The answer when all values have the same sections: a handful of operations on one table."""
        if len(set(map(len, values))) > 1:
            return None
        number = len(values)
        table = np.frombuffer(b"".join(values), np.uint8).reshape(number, -1)
        key = b"".join(values[0][section.start : section.start + HEAD] for section in walk(values[0]))
        if key not in self._shapes:
            self._shapes[key] = self._shape(values[0], layout)
        shape = self._shapes[key]
        if shape is None:
            return None
        if number > 1:
            heads = table.take(shape.heads, axis=1)
            if (heads != heads[0]).any():
                return None
        events = table.take(shape.times, axis=1).view("<i8")
        bits = np.unpackbits(table.take(shape.bitmaps, axis=1), axis=1, bitorder="little")
        fixed = {}
        for dtype, (columns, own_bits) in shape.picks.items():
            block = _bytes(table, columns).view(FIXED[dtype].numpy)
            fixed[dtype] = (block, bits.take(own_bits, axis=1))
        return Rows(np.ones((number, len(self.views)), bool), events, fixed, [])

    def _shape(self, value: bytes, layout: LayoutOf) -> Shape | None:
        """The shape of `value`; None when a view or a feature is not in it."""
        sections = {section.view: section for section in walk(value)}
        if any(view.view not in sections for view in self.views):
            return None
        found = [sections[view.view] for view in self.views]
        learned = [self._pick(place, section.layout, layout) for place, section in enumerate(found)]
        if any(pick.places is not None for _, picks, _ in learned for pick in picks.values()):
            return None
        bodies = [section.start + HEADER.size for section in found]
        bitmaps = [np.arange(body, body + own.bitmap) for body, (own, _, _) in zip(bodies, learned, strict=True)]
        bits = np.cumsum([0, *(len(bitmap) * 8 for bitmap in bitmaps)])
        blocks = {}
        for dtype in self.types:
            parts = [
                (_shifted(picks[dtype].columns, body), picks[dtype].bits + bit)
                for (_, picks, _), body, bit in zip(learned, bodies, bits, strict=False)
                if dtype in picks
            ]
            blocks[dtype] = ([columns for columns, _ in parts], np.concatenate([bit for _, bit in parts]))
        heads = np.concatenate([np.arange(section.start, section.start + HEAD) for section in found])
        times = np.concatenate([np.arange(section.start + HEAD, section.start + HEAD + 8) for section in found])
        return Shape(heads, times, np.concatenate(bitmaps), blocks)

    def _pick(self, place: int, fingerprint: int, layout: LayoutOf) -> tuple[Layout, dict[str, Pick], list[int]]:
        """How rows of one view and layout are read."""
        key = (place, fingerprint)
        if key not in self._picks:
            own, view = layout(fingerprint), self.views[place]
            picks = {dtype: pick(own, view, dtype) for dtype in self.types if view.of_type(dtype)}
            first = len(own.features) - own.num_tails
            there = {feature: number for number, feature in enumerate(own.features[first:])}
            self._picks[key] = (own, picks, [there.get(feature, -1) for feature in view.tails])
        return self._picks[key]

    def nothing(self, number: int) -> Rows:
        """Rows of which none is online."""
        fixed = {}
        for dtype in self.types:
            shape = (number, len(self.names[dtype]))
            fixed[dtype] = (np.zeros(shape, FIXED[dtype].numpy), np.zeros(shape, np.uint8))
        found = np.zeros((number, len(self.views)), bool)
        return Rows(found, np.full(found.shape, NEVER), fixed, [[None] * number for _ in self.tails])

    def _scattered(self, values: Sequence[bytes | None], layout: LayoutOf) -> Rows:
        """The answer when values differ: their sections are sorted by view and layout, then read alike."""
        places = {view.view: place for place, view in enumerate(self.views)}
        parts: dict[tuple[int, int], list[tuple[int, bytes, Section]]] = {}
        for row, value in enumerate(values):
            for section in walk(value) if value is not None else ():
                if section.view in places:
                    key = (places[section.view], section.layout)
                    parts.setdefault(key, []).append((row, value, section))  # type: ignore[arg-type]
        answer = self.nothing(len(values))
        for (place, fingerprint), found in parts.items():
            rows = [row for row, _, _ in found]
            answer.found[rows, place] = True
            answer.events[rows, place] = [section.event for _, _, section in found]
            bodies = [value[own.start + HEADER.size : own.start + own.length] for _, value, own in found]
            self._put(answer, place, rows, bodies, self._pick(place, fingerprint, layout))
        return answer

    def _put(self, answer: Rows, view: int, rows: list[int], bodies: list[bytes], learned: Any) -> None:
        """Bodies of one view and layout into their places."""
        own, picks, tails = learned
        table = np.frombuffer(b"".join(body[: own.size] for body in bodies), np.uint8).reshape(len(bodies), own.size)
        bits = np.unpackbits(table[:, : own.bitmap], axis=1, bitorder="little")
        for dtype, found in picks.items():
            first = sum(len(before.of_type(dtype)) for before in self.views[:view])
            columns = first + (np.arange(len(found.bits)) if found.places is None else found.places)
            where = np.ix_(np.array(rows), columns)
            values, valid = answer.fixed[dtype]
            values[where] = _bytes(table, [found.columns]).view(FIXED[dtype].numpy)
            valid[where] = bits[:, found.bits]
        mine = (column for column, (place, _) in zip(answer.tails, self.tails, strict=True) if place == view)
        for column, place in zip(mine, tails, strict=True):
            for row, body in zip(rows, bodies, strict=True) if place >= 0 else ():
                column[row] = own.tail(body, place)


def pick(layout: Layout, view: Wanted, dtype: str) -> Pick:
    """Where the features of `dtype` that `view` wants lie in rows of `layout`."""
    there = {feature: bit for bit, feature in enumerate(layout.features)}
    names = view.of_type(dtype)
    places = [place for place, name in enumerate(names) if (name, dtype) in there]
    bits = np.array([there[names[place], dtype] for place in places], np.intp)
    width = np.dtype(FIXED[dtype].numpy).itemsize
    first, _, bit = layout.blocks.get(dtype, (0, 0, 0))
    starts = first + (bits - bit) * width
    columns: slice | Array = (starts[:, None] + np.arange(width)).reshape(-1)
    if len(starts) and (np.diff(starts) == width).all():
        columns = slice(int(starts[0]), int(starts[-1]) + width)
    return Pick(columns, bits, None if len(places) == len(names) else np.array(places, np.intp))


def _bytes(table: Bytes, columns: Sequence[slice | Array]) -> Bytes:
    """These columns side by side, each row's bytes next to each other."""
    parts = [table[:, own] if isinstance(own, slice) else table.take(own, axis=1) for own in columns]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


def _shifted(columns: slice | Array, by: int) -> slice | Array:
    return slice(columns.start + by, columns.stop + by) if isinstance(columns, slice) else columns + by


def rows_of(group: Group, values: Sequence[bytes | None], layout: LayoutOf) -> Iterator[tuple[int, dict[str, Any]]]:
    """(event time, feature -> stored value or None) by row, or (NEVER, {}): for one view, value by value."""
    rows = group.decode(values, layout)
    columns: dict[str, list[Any]] = {}
    for dtype, (block, valid) in rows.fixed.items():
        for place, name in enumerate(group.names[dtype]):
            pairs = zip(block[:, place].tolist(), valid[:, place].tolist(), strict=True)
            columns[name] = [value if present else None for value, present in pairs]
    columns.update(zip((name for _, name in group.tails), rows.tails, strict=True))
    found, events = rows.found[:, 0].tolist(), rows.events[:, 0].tolist()
    for row, online in enumerate(found):
        yield (events[row], {name: column[row] for name, column in columns.items()}) if online else (NEVER, {})
