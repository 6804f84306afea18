"""Values of the online store to columns, without an object per value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fti.stores.online.layout import Feature, Layout
from fti.stores.online.sections import HEADER, NEVER, Section, starts, walk
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

    columns: Array
    """Places among the layout's columns of this type."""
    bits: Array
    """Places among the layout's features."""
    places: Array
    """Places among the wanted ones."""


@dataclass(frozen=True)
class Learned:
    """How rows of one view and layout are read."""

    layout: Layout
    picks: dict[str, Pick]
    tails: list[int]
    """Places of the wanted features among the layout's ones of any length, -1 where it lacks one."""
    complete: bool
    """Whether the layout has every wanted feature."""


@dataclass(frozen=True)
class Shape:
    """Where everything lies in values that have the same sections, all wanted views among them and complete."""

    row: np.dtype[Any]
    """A value as a structure: `head`, `time`, `bits` and a block per type, each with the number of its view."""
    number: int
    picks: dict[str, tuple[list[str], Array, Array | None]]
    """Type -> fields, bits of the wanted columns, and their places among the fields' columns; None: as they are."""

    def read(self, values: Sequence[bytes]) -> Rows | None:
        """All rows at once; None when a value has another shape after all."""
        table = np.frombuffer(b"".join(values), self.row)
        views = range(self.number)
        heads = np.concatenate([table[f"head{view}"] for view in views], axis=1)
        if (heads != heads[0]).any():
            return None
        events = np.concatenate([table[f"time{view}"] for view in views], axis=1)
        bits = np.unpackbits(np.concatenate([table[f"bits{view}"] for view in views], axis=1), 1, None, "little")
        fixed = {}
        for dtype, (fields, own_bits, places) in self.picks.items():
            block = np.concatenate([table[name] for name in fields], axis=1)
            fixed[dtype] = (block if places is None else block.take(places, axis=1), bits.take(own_bits, axis=1))
        return Rows(np.ones(events.shape, bool), events, fixed, [])


@dataclass
class Group:
    """Views of the same entities, asked for again and again; learns the layouts and shapes that it meets."""

    views: Sequence[Wanted]
    _learned: dict[tuple[int, int], Learned] = field(default_factory=dict)
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
        key = b"".join([values[0][start : start + HEAD] for start in starts(values[0])])
        if key not in self._shapes:
            self._shapes[key] = self._shape(values[0], layout)
        shape = self._shapes[key]
        return None if shape is None else shape.read(values)

    def _shape(self, value: bytes, layout: LayoutOf) -> Shape | None:
        """The shape of `value`; None when a view or a feature is not in it."""
        sections = {section.view: section for section in walk(value)}
        if any(view.view not in sections for view in self.views):
            return None
        found = [sections[view.view] for view in self.views]
        learned = [self._learn(place, section.layout, layout) for place, section in enumerate(found)]
        if not all(own.complete for own in learned):
            return None
        fields: list[tuple[str, Any, int]] = []
        for view, (section, own) in enumerate(zip(found, learned, strict=True)):
            body = section.start + HEADER.size
            fields += [(f"head{view}", ("<u8", (2,)), section.start), (f"time{view}", ("<i8", (1,)), body - 16)]
            fields.append((f"bits{view}", ("u1", (own.layout.bitmap,)), body))
            for dtype in own.picks:
                first, count, _ = own.layout.blocks[dtype]
                fields.append((f"{dtype}{view}", (FIXED[dtype].numpy, (count,)), body + first))
        names, formats, offsets = map(list, zip(*fields, strict=True))
        row = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": len(value)})
        return Shape(row, len(found), {dtype: _together(learned, dtype) for dtype in self.types})

    def _learn(self, place: int, fingerprint: int, layout: LayoutOf) -> Learned:
        """How rows of one view and layout are read."""
        key = (place, fingerprint)
        if key not in self._learned:
            own, view = layout(fingerprint), self.views[place]
            picks = {dtype: pick(own, view, dtype) for dtype in self.types if view.of_type(dtype)}
            picks = {dtype: found for dtype, found in picks.items() if len(found.bits)}
            first = len(own.features) - own.num_tails
            there = {feature: number for number, feature in enumerate(own.features[first:])}
            tails = [there.get(feature, -1) for feature in view.tails]
            complete = set(view.features) <= set(own.features)
            self._learned[key] = Learned(own, picks, tails, complete)
        return self._learned[key]

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
            self._put(answer, place, rows, bodies, self._learn(place, fingerprint, layout))
        return answer

    def _put(self, answer: Rows, view: int, rows: list[int], bodies: list[bytes], learned: Learned) -> None:
        """Bodies of one view and layout into their places."""
        own = learned.layout
        table = np.frombuffer(b"".join(body[: own.size] for body in bodies), np.uint8).reshape(len(bodies), own.size)
        bits = np.unpackbits(table[:, : own.bitmap], axis=1, bitorder="little")
        for dtype, found in learned.picks.items():
            before = sum(len(other.of_type(dtype)) for other in self.views[:view])
            where = np.ix_(np.array(rows), before + found.places)
            values, valid = answer.fixed[dtype]
            first, count, _ = own.blocks[dtype]
            numpy = np.dtype(FIXED[dtype].numpy)
            block = np.ascontiguousarray(table[:, first : first + count * numpy.itemsize]).view(numpy)
            values[where], valid[where] = block[:, found.columns], bits[:, found.bits]
        mine = (column for column, (place, _) in zip(answer.tails, self.tails, strict=True) if place == view)
        for column, place in zip(mine, learned.tails, strict=True):
            for row, body in zip(rows, bodies, strict=True) if place >= 0 else ():
                column[row] = own.tail(body, place)


def pick(layout: Layout, view: Wanted, dtype: str) -> Pick:
    """Where the features of `dtype` that `view` wants lie in rows of `layout`."""
    there = {feature: bit for bit, feature in enumerate(layout.features)}
    names = view.of_type(dtype)
    places = [place for place, name in enumerate(names) if (name, dtype) in there]
    bits = np.array([there[names[place], dtype] for place in places], np.intp)
    first_bit = layout.blocks[dtype][2] if dtype in layout.blocks else 0
    return Pick(bits - first_bit, bits, np.array(places, np.intp))


def _together(learned: Sequence[Learned], dtype: str) -> tuple[list[str], Array, Array | None]:
    """The fields of one type in a `Shape`, and where the wanted features lie in them."""
    fields, bits, places = [], [], []
    bit, place = 0, 0
    for view, own in enumerate(learned):
        if dtype in own.picks:
            fields.append(f"{dtype}{view}")
            bits.append(own.picks[dtype].bits + bit)
            places.append(own.picks[dtype].columns + place)
            place += own.layout.blocks[dtype][1]
        bit += own.layout.bitmap * 8
    wanted = np.concatenate(places)
    return fields, np.concatenate(bits), None if np.array_equal(wanted, np.arange(place)) else wanted


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
