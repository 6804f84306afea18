"""Values of the online store to columns, without an object per value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from fti.errors import DataError
from fti.stores.features.online import checksum
from fti.stores.features.online.keys import shown
from fti.stores.features.online.layout import Feature, Layout
from fti.stores.features.online.sections import HEADER, NEVER, DamagedError, starts, walk
from fti.stores.features.online.shape import Array, Place, Shape
from fti.stores.features.online.types import FIXED

LayoutOf = Callable[[int], Layout]
HEAD = 16
"""Bytes of a header that tell the shape of a section: view, length, layout."""
MAX_SHAPES = 1024


@dataclass(slots=True)
class Rows:
    """What a read found, a row per asked row; zero or None where nothing was found."""

    events: Array
    """[rows, views]: when its row happened, microseconds; `NEVER` where the entity is not online."""
    fixed: dict[str, tuple[Array, Array]]
    """Type -> values and whether they are not null, both [rows, wanted features of this type]."""
    complete: bool = False
    """Whether everything was found."""
    tails: list[list[bytes | None]] = field(default_factory=list)
    """A list of rows per wanted feature of any length."""

    @property
    def found(self) -> Array:
        """[rows, views]: whether the entity is online."""
        return np.not_equal(self.events, NEVER)

    def put(self, where: Array, rows: Rows) -> None:
        """`rows`, without their features of any length, at the places `where`."""
        self.events[where] = rows.events
        for dtype, (values, valid) in rows.fixed.items():
            self.fixed[dtype][0][where], self.fixed[dtype][1][where] = values, valid


@dataclass(frozen=True)
class Wanted:
    """Features asked of one view: (name, Feast type)."""

    view: int
    features: tuple[Feature, ...]
    slot: int = 0
    """Which of a row's entities the view belongs to."""
    name: str = ""
    """Of the view, for people."""


@dataclass
class Group:
    """Views that are read together, again and again; learns the shapes that it meets.

    A row is asked for by the values of its `slots` entities.
    """

    views: Sequence[Wanted]
    slots: int = 1
    _shapes: dict[Any, Shape | None] = field(default_factory=dict)
    _last: Shape | None = None

    def __post_init__(self) -> None:
        wanted = [(place, feature) for place, view in enumerate(self.views) for feature in view.features]
        self.columns = {
            dtype: own for dtype in FIXED if (own := [(place, name) for place, (name, t) in wanted if t == dtype])
        }
        """Type of fixed width -> its features: place of the view, name."""
        self.names = {dtype: [name for _, name in own] for dtype, own in self.columns.items()}
        self.tails = [(place, feature[0]) for place, feature in wanted if feature[1] not in FIXED]
        self._tail_types = [feature for _, feature in wanted if feature[1] not in FIXED]
        self._places: dict[tuple[int, int], list[int]] = {}
        for place, view in enumerate(self.views):
            self._places.setdefault((view.slot, view.view), []).append(place)

    def decode(self, values: Sequence[bytes | None], layout: LayoutOf, keys: Sequence[bytes | None] = ()) -> Rows:
        """What `values` of the entities `keys`, row by row, hold. `layout` looks up a layout by its fingerprint.

        DataError, which names the entity, where a value is not what was written for it.
        """
        keys = keys or [b""] * len(values)
        try:
            if not self.tails and values:
                filled = cast("Sequence[bytes]", values)
                try:
                    raw = b"".join(filled)
                except TypeError:  # None among them
                    filled = [value or b"" for value in values]
                    raw = b"".join(filled)
                rows = self._alike(filled, raw, layout, keys) or self._by_length(filled, layout, keys)
                if rows is not None:
                    return rows
            self._verify(values, layout, keys)
            return self._scattered(values, layout)
        except DamagedError:
            self._verify(values, layout, keys)
            raise

    def _alike(
        self, values: Sequence[bytes], raw: bytes, layout: LayoutOf, keys: Sequence[bytes | None]
    ) -> Rows | None:
        """The answer when all rows have the same sections: a handful of operations on one table, `raw`."""
        found = None
        if self.slots == 1 and self._last is not None and len(raw) == self._last.size * len(values):
            found = self._last.read(raw)  # sections of a value are sorted, so rows begin where values do
        if found is None:
            lengths = list(map(len, values))
            widths = lengths[: self.slots]
            if len(values) > self.slots and lengths != widths * (len(values) // self.slots):
                return None
            if not raw:
                return self.nothing(len(values) // self.slots)
            found = self._last.read(raw) if self._last is not None and self._last.widths == widths else None
            if found is None:
                self._last = self._shape_of(values[: self.slots], widths, layout)
                found = None if self._last is None else self._last.read(raw)
        if found is None or self._last is None:
            return None
        owners, columns = found
        if not self._are_whole(raw, owners, keys, self._last.ends):
            self._verify(values, layout, keys)
        return Rows(*columns)

    def _are_whole(self, raw: bytes, owners: bytes, keys: Sequence[bytes | None], slots: Array) -> bool:
        """Whether all rows are what was written for `keys`, of which `slots` have sections."""
        if len(slots) < self.slots:
            keys = [keys[first + slot] for first in range(0, len(keys), self.slots) for slot in slots.tolist()]
        return len(slots) > 0 and checksum.is_whole(raw) and owners == checksum.owners(cast("Sequence[bytes]", keys))

    def _by_length(self, values: Sequence[bytes], layout: LayoutOf, keys: Sequence[bytes | None]) -> Rows | None:
        """The answer when a few shapes come among the rows, which the lengths of the values tell apart."""
        lengths = np.fromiter(map(len, values), np.int64, len(values)).reshape(-1, self.slots)
        kinds, kind_of = np.unique(lengths, axis=0, return_inverse=True)
        if len(kinds) == 1 or len(kinds) > 2 + len(lengths) // 8:
            return None
        answer = self.nothing(len(lengths))
        for kind in range(len(kinds)):
            places = np.flatnonzero(kind_of.reshape(-1) == kind)
            own = [first + slot for first in (places * self.slots).tolist() for slot in range(self.slots)]
            some = [values[place] for place in own]
            found = self._alike(some, b"".join(some), layout, [keys[place] for place in own])
            if found is None:
                return None
            answer.put(places, found)
        return answer

    def _verify(self, values: Sequence[bytes | None], layout: LayoutOf, keys: Sequence[bytes | None]) -> None:
        """Raise DataError for the first section that is not what was written for its entity."""
        for value, key in zip(values, keys, strict=True):
            view = None
            try:
                for section in walk(value or b""):
                    view = section.view
                    raw = cast(bytes, value)[section.start : section.start + section.length]
                    if layout(section.layout).checked and not (
                        checksum.is_whole(raw) and checksum.is_of(raw, key or b"")
                    ):
                        raise DamagedError("a checksum")
            except DamagedError:
                raise self._damaged(view, key) from None

    def _damaged(self, view: int | None, key: bytes | None) -> DataError:
        names = {wanted.view: wanted.name for wanted in self.views}
        known = [names[view]] if view in names else list(names.values())
        return DataError(
            f"the online row of {shown(key)} is damaged (feature view {' or '.join(known)}): its checksum is "
            "not that of what was written, so it is not used. Materialize its feature views again; where that does not "
            "help, remove what the online store holds and materialize all"
        )

    def _shape_of(self, values: Sequence[bytes], widths: list[int], layout: LayoutOf) -> Shape | None:
        """The shape of the row of `values`; None when a section may have another length in the next row."""
        heads = [starts(value) for value in values]
        key = tuple(b"".join([value[at : at + HEAD] for at in own]) for value, own in zip(values, heads, strict=True))
        if key not in self._shapes:
            found: dict[int, Place] = {}
            variable, is_checked, before = False, True, 0
            for slot, value in enumerate(values):
                for section in walk(value):
                    own = layout(section.layout)
                    variable |= own.num_tails > 0
                    is_checked &= own.checked
                    for place in self._places.get((slot, section.view), ()):
                        found[place] = Place(before + section.start, own)
                before += len(value)
            firsts = np.cumsum([0, *widths[:-1]]).tolist()
            at = [first + start for first, own in zip(firsts, heads, strict=True) for start in own]
            row, facts = b"".join(values), (self.columns, len(self.views), found, widths, at)
            self._keep(key, None if variable else Shape.of(*facts, row, is_checked=is_checked))
        return self._shapes[key]

    def _keep(self, key: Any, shape: Shape | None) -> None:
        if len(self._shapes) >= MAX_SHAPES:
            self._shapes.clear()
        self._shapes[key] = shape

    def nothing(self, number: int) -> Rows:
        """Rows of which none is online."""
        fixed = {}
        for dtype, names in self.names.items():
            shape = (number, len(names))
            fixed[dtype] = (np.zeros(shape, FIXED[dtype].numpy), np.zeros(shape, np.uint8))
        events = np.full((number, len(self.views)), NEVER)
        return Rows(events, fixed, False, [[None] * number for _ in self.tails])

    def _scattered(self, values: Sequence[bytes | None], layout: LayoutOf) -> Rows:
        """The answer when rows differ: the parts of fixed width of their sections, sorted by layouts, are alike."""
        answer = self.nothing(len(values) // self.slots)
        parts: dict[tuple[tuple[int, int], ...], tuple[list[int], list[bytes]]] = {}
        for row in range(answer.events.shape[0]):
            key, raws = [], []
            for slot, given in enumerate(values[row * self.slots : (row + 1) * self.slots]):
                value = given or b""
                for section in walk(value):
                    for place in self._places.get((slot, section.view), ()):
                        raw, own = value[section.start : section.start + section.length], layout(section.layout)
                        key.append((place, section.layout))
                        raws.append(raw[: HEADER.size + own.size])
                        if own.num_tails and self.tails:
                            self._put_tails(answer, row, place, own, raw[HEADER.size :])
            rows, joined = parts.setdefault(tuple(key), ([], []))
            rows.append(row)
            joined.append(b"".join(raws))
        for fingerprints, (rows, joined) in parts.items():
            if fingerprints:
                found = self._fixed_shape(fingerprints, layout).read(b"".join(joined))
                assert found is not None
                answer.put(np.array(rows), Rows(*found[1]))
        return answer

    def _fixed_shape(self, fingerprints: tuple[tuple[int, int], ...], layout: LayoutOf) -> Shape:
        """The shape of rows of these (place of the view, layout), without what has any length."""
        shape = self._shapes.get(fingerprints)
        if shape is None:
            found, start = {}, 0
            for place, fingerprint in fingerprints:
                found[place] = Place(start, layout(fingerprint))
                start += HEADER.size + found[place].layout.size
            shape = Shape.of(self.columns, len(self.views), found, [start], (), b"", is_checked=False)
            self._keep(fingerprints, shape)
        return shape

    def _put_tails(self, answer: Rows, row: int, place: int, layout: Layout, body: bytes) -> None:
        """The values of any length of one view."""
        for column, (own, _), feature in zip(answer.tails, self.tails, self._tail_types, strict=True):
            number = layout.tails.get(feature, -1) if own == place else -1
            if number >= 0:
                column[row] = layout.tail(body, number)
