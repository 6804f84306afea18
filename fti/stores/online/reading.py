"""Values of the online store to columns, without an object per value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fti.stores.online.layout import Bytes, Feature, Layout
from fti.stores.online.sections import HEADER, NEVER, Section, walk
from fti.stores.online.types import FIXED

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rows:
    """What a read found of one view, a row per asked entity; zero or None where nothing was found."""

    found: Array
    """Whether the entity is online."""
    events: Array
    """When its row happened, microseconds."""
    fixed: dict[str, tuple[Array, Array]]
    """Type -> values and whether they are not null, both [rows, wanted features of this type]."""
    tails: list[list[bytes | None]]
    """A list per wanted feature of any length."""

    def take(self, places: Array) -> Rows:
        """The rows at `places`."""
        fixed = {dtype: (values[places], valid[places]) for dtype, (values, valid) in self.fixed.items()}
        tails = [[tail[place] for place in places] for tail in self.tails]
        return Rows(self.found[places], self.events[places], fixed, tails)


@dataclass
class Wanted:
    """Features of one view, asked for again and again; learns the layouts that it meets."""

    view: int
    features: tuple[Feature, ...]
    pickers: dict[int, Picker] = field(default_factory=dict)

    @property
    def types(self) -> list[str]:
        """Types of fixed width, in the order of `Rows.fixed`."""
        return [dtype for dtype in FIXED if any(dtype == own for _, own in self.features)]

    def of_type(self, dtype: str) -> list[str]:
        """Features of this type, in the order of the columns of `Rows.fixed[dtype]`."""
        return [name for name, own in self.features if own == dtype]

    @property
    def tails(self) -> list[Feature]:
        return [feature for feature in self.features if feature[1] not in FIXED]

    def picker(self, fingerprint: int, layout: Callable[[int], Layout]) -> Picker:
        """How rows of this layout are read."""
        if fingerprint not in self.pickers:
            self.pickers[fingerprint] = Picker.of(layout(fingerprint), self)
        return self.pickers[fingerprint]


@dataclass(frozen=True)
class Picker:
    """Where the wanted features lie in rows of one layout."""

    layout: Layout
    fixed: tuple[tuple[str, bool, Array, Array, Array], ...]
    """Type, whether the block is wanted as it is, and columns: in the answer, in the block, in the bits."""
    tails: tuple[tuple[int, int], ...]
    """Place among the values of any length and place among the bits; (-1, -1) when the layout lacks it."""
    width: dict[str, int]

    @classmethod
    def of(cls, layout: Layout, wanted: Wanted) -> Picker:
        bits = {feature: bit for bit, feature in enumerate(layout.features)}
        fixed = []
        for dtype in wanted.types:
            names = wanted.of_type(dtype)
            there = [place for place, name in enumerate(names) if (name, dtype) in bits]
            bit = np.array([bits[names[place], dtype] for place in there], np.intp)
            if there:
                _, count, first = layout.blocks[dtype]
                whole = len(names) == count and bool((bit == np.arange(first, first + count)).all())
                fixed.append((dtype, whole, np.array(there), bit - first, bit))
        first_tail = len(layout.features) - layout.num_tails
        tails = tuple((bits[own] - first_tail, bits[own]) if own in bits else (-1, -1) for own in wanted.tails)
        return cls(layout, tuple(fixed), tails, {dtype: len(wanted.of_type(dtype)) for dtype in wanted.types})

    def read(self, body: Bytes) -> dict[str, tuple[Array, Array]]:
        """Columns of fixed width."""
        valid = self.layout.valid(body)
        answer = {}
        for dtype, whole, there, columns, bits in self.fixed:
            block = self.layout.block(body, dtype)
            if whole:
                answer[dtype] = (block, valid[:, bits[0] : bits[-1] + 1])
                continue
            values, present = np.zeros((len(body), self.width[dtype]), block.dtype), np.zeros_like(valid, shape=(0, 0))
            present = np.zeros(values.shape, np.uint8)
            values[:, there], present[:, there] = block[:, columns], valid[:, bits]
            answer[dtype] = (values, present)
        return answer

    def read_tails(self, bodies: Sequence[bytes]) -> list[list[bytes | None]]:
        """Values of any length."""
        return [
            [
                self.layout.tail(body, place) if place >= 0 and body[bit >> 3] >> (bit & 7) & 1 else None
                for body in bodies
            ]
            for place, bit in self.tails
        ]


def decode(values: Sequence[bytes | None], views: Sequence[Wanted], layout: Callable[[int], Layout]) -> list[Rows]:
    """What `values`, one per entity, hold of `views`. `layout` looks up a layout by its fingerprint."""
    places = [place for place, value in enumerate(values) if value is not None]
    present = [value for value in values if value is not None]
    same = _same_sections(present)
    if same is None:
        return [_scattered(values, view, layout) for view in views]
    table, sections = same
    by_view = {section.view: section for section in sections}
    answer = []
    for view in views:
        section = by_view.get(view.view)
        if section is None:
            answer.append(nothing(view, len(values)))
            continue
        head = section.start + HEADER.size
        body = table[:, head : section.start + section.length]
        events = np.ascontiguousarray(table[:, section.start + 16 : section.start + 24]).view("<i8")[:, 0]
        picker = view.picker(section.layout, layout)
        bodies = [value[head : section.start + section.length] for value in present] if picker.tails else []
        answer.append(_placed(len(values), places, events, picker, body, bodies, view))
    return answer


def nothing(view: Wanted, number: int) -> Rows:
    """Rows of which none is online."""
    fixed = {}
    for dtype in view.types:
        shape = (number, len(view.of_type(dtype)))
        fixed[dtype] = (np.zeros(shape, FIXED[dtype].numpy), np.zeros(shape, np.uint8))
    return Rows(np.zeros(number, bool), np.full(number, NEVER), fixed, [[None] * number for _ in view.tails])


def _same_sections(values: list[bytes]) -> tuple[Bytes, list[Section]] | None:
    """The values as one table and where its sections begin, when all values have the same sections."""
    if not values or len(set(map(len, values))) > 1:
        return None
    table = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
    sections = list(walk(values[0]))
    for section in sections:
        heads = np.ascontiguousarray(table[:, section.start : section.start + 16]).view("<u8")
        if len(values) > 1 and (heads != heads[0]).any():
            return None
    return table, sections


def _scattered(values: Sequence[bytes | None], view: Wanted, layout: Callable[[int], Layout]) -> Rows:
    """The rows of one view out of values whose sections differ."""
    by_layout: dict[int, list[tuple[int, int, bytes]]] = {}
    for place, value in enumerate(values):
        for section in walk(value) if value is not None else ():
            if section.view == view.view:
                body = value[section.start + HEADER.size : section.start + section.length]  # type: ignore[index]
                by_layout.setdefault(section.layout, []).append((place, section.event, body))
                break
    answer = nothing(view, len(values))
    for fingerprint, found in by_layout.items():
        picker = view.picker(fingerprint, layout)
        size = picker.layout.size
        table = np.frombuffer(b"".join(body[:size] for _, _, body in found), np.uint8).reshape(len(found), size)
        events = np.array([event for _, event, _ in found], np.int64)
        rows = [place for place, _, _ in found]
        _put(answer, rows, events, picker, table, [body for _, _, body in found])
    return answer


def _placed(
    number: int, places: list[int], events: Array, picker: Picker, body: Bytes, bodies: list[bytes], view: Wanted
) -> Rows:
    """Rows of one layout; as they are when every entity has one and every feature is there."""
    if len(places) == number and len(picker.fixed) == len(view.types):
        return Rows(np.ones(number, bool), events, picker.read(body), picker.read_tails(bodies))
    answer = nothing(view, number)
    _put(answer, places, events, picker, body, bodies)
    return answer


def _put(answer: Rows, places: list[int], events: Array, picker: Picker, body: Bytes, bodies: Sequence[bytes]) -> None:
    answer.found[places] = True
    answer.events[places] = events
    for dtype, (values, valid) in picker.read(body).items():
        answer.fixed[dtype][0][places], answer.fixed[dtype][1][places] = values, valid
    for column, tail in zip(answer.tails, picker.read_tails(bodies), strict=True):
        for place, value in zip(places, tail, strict=True):
            column[place] = value
