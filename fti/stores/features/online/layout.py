"""How the row of one feature view is packed: which features it has, of which type, and where each lies.

After the section's header come one bit per feature (set: not null), the columns of fixed width, type by type, the ends
of the values of any length, these values, and a checksum. Features are sorted by type and name, so their order in a
view's schema does not matter. A layout's `fingerprint` is in every section's header: a row of another layout is never
misread; its features that have kept name and type are found through the layout that the store remembers under that
fingerprint.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any

import numpy as np
import orjson

from fti.stores.features.online.checksum import SIZE, padded, sealed
from fti.stores.features.online.sections import HEADER
from fti.stores.features.online.types import FIXED

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
Feature = tuple[str, str]
"""Name and Feast type."""
_ORDER = {"<i8": 0, "<f8": 1, "<i4": 2, "<f4": 3, "|u1": 4}


@dataclass(frozen=True)
class Layout:
    """Features in the order in which they lie in a row."""

    features: tuple[Feature, ...]
    checked: bool = True
    """Whether sections end with a checksum; the store wrote them without one once."""

    @classmethod
    def of(cls, features: Iterable[Feature]) -> Layout:
        """The layout of features given in any order."""
        return cls(tuple(sorted(features, key=_place)))

    @classmethod
    def from_json(cls, text: str | bytes, fingerprint: int) -> Layout | None:
        """The layout of this fingerprint; None where `text` is damaged."""
        try:
            features = tuple((name, dtype) for name, dtype in orjson.loads(text))
        except ValueError:
            return None
        return next((own for own in (cls(features), cls(features, False)) if own.fingerprint == fingerprint), None)

    @cached_property
    def json(self) -> bytes:
        """What the store remembers."""
        return orjson.dumps(self.features)

    @cached_property
    def fingerprint(self) -> int:
        kind = b"checked" if self.checked else b""
        return int.from_bytes(blake2b(self.json, digest_size=4, person=kind).digest(), "little")

    @cached_property
    def bitmap(self) -> int:
        """Bytes of the bits that say what is not null."""
        number = (len(self.features) + 7) // 8
        return padded(number) if self.checked else number

    @cached_property
    def blocks(self) -> dict[str, tuple[int, int, int]]:
        """Type of fixed width -> first byte of its columns, number of its columns, place of the first one's bit."""
        blocks: dict[str, tuple[int, int, int]] = {}
        start = self.bitmap
        for place, (_, dtype) in enumerate(self.features[: len(self.features) - self.num_tails]):
            first, number, bit = blocks.get(dtype, (start, 0, place))
            blocks[dtype] = (first, number + 1, bit)
            start += np.dtype(FIXED[dtype].numpy).itemsize
        return blocks

    @cached_property
    def places(self) -> dict[Feature, tuple[int, int]]:
        """Feature of fixed width -> its bit and its first byte."""
        places: dict[Feature, tuple[int, int]] = {}
        for dtype, (first, number, bit) in self.blocks.items():
            width = np.dtype(FIXED[dtype].numpy).itemsize
            places |= {self.features[bit + own]: (bit + own, first + own * width) for own in range(number)}
        return places

    @cached_property
    def tails(self) -> dict[Feature, int]:
        """Feature of any length -> its number among those."""
        return {feature: place for place, feature in enumerate(self.features[len(self.features) - self.num_tails :])}

    @cached_property
    def num_tails(self) -> int:
        """Features of any length; they come last."""
        return sum(dtype not in FIXED for _, dtype in self.features)

    @cached_property
    def ends(self) -> int:
        """First byte of the ends of the values of any length."""
        return self.bitmap + sum(np.dtype(FIXED[t].numpy).itemsize * n for t, (_, n, _) in self.blocks.items())

    @cached_property
    def size(self) -> int:
        """Bytes of a row before its values of any length."""
        return self.ends + 4 * self.num_tails

    def pack(
        self,
        view: int,
        events: np.ndarray[Any, Any],
        created: np.ndarray[Any, Any],
        columns: Mapping[str, Any],
        keys: Sequence[bytes] = (),
    ) -> list[bytes]:
        """Sections of rows of the entities `keys`. Columns of fixed width are (values, not null) arrays, others lists
        of bytes or None."""
        number = len(events)
        rows = np.zeros((number, HEADER.size + self.size), np.uint8)
        body = rows[:, HEADER.size :]
        self._pack_fixed(body, columns)
        tails = [columns[name] for name, _ in self.features[len(self.features) - self.num_tails :]]
        values = _join_tails(tails, number, body[:, self.ends : self.size])
        stride = HEADER.size + self.size
        lengths = [padded(stride + len(value)) + SIZE for value in values]
        for start, width, column in (
            (0, 8, np.full(number, view, "<u8")),
            (8, 4, np.array(lengths, "<u4")),
            (12, 4, np.full(number, self.fingerprint, "<u4")),
            (16, 8, events.astype("<i8")),
            (24, 8, created.astype("<i8")),
        ):
            rows[:, start : start + width] = _as_bytes(column, width)
        raw = rows.tobytes()
        return [
            sealed((raw[place * stride : (place + 1) * stride] + value).ljust(length - SIZE, b"\0"), key)
            for place, (value, length, key) in enumerate(zip(values, lengths, keys or [b""] * number, strict=True))
        ]

    def _pack_fixed(self, body: Bytes, columns: Mapping[str, Any]) -> None:
        """What is not null and the columns of fixed width into `body`."""
        valid = np.zeros((len(body), len(self.features)), bool)
        for dtype, (first, count, bit) in self.blocks.items():
            width = np.dtype(FIXED[dtype].numpy).itemsize
            for place, (name, _) in enumerate(self.features[bit : bit + count]):
                values, present = columns[name]
                valid[:, bit + place] = present
                encoded = np.where(present, values, 0).astype(FIXED[dtype].numpy)
                body[:, first + place * width : first + (place + 1) * width] = _as_bytes(encoded, width)
        for place, (name, _) in enumerate(self.features[len(self.features) - self.num_tails :]):
            valid[:, len(self.features) - self.num_tails + place] = [value is not None for value in columns[name]]
        if self.features:
            bits = np.packbits(valid, axis=1, bitorder="little")
            body[:, : bits.shape[1]] = bits

    def tail(self, row: bytes, place: int) -> bytes | None:
        """The value number `place` of any length in a row."""
        bit = len(self.features) - self.num_tails + place
        if not row[bit >> 3] >> (bit & 7) & 1:
            return None
        start = int.from_bytes(row[self.ends + 4 * place - 4 : self.ends + 4 * place], "little") if place else 0
        end = int.from_bytes(row[self.ends + 4 * place : self.ends + 4 * place + 4], "little")
        return row[self.size + start : self.size + end]


def _place(feature: Feature) -> tuple[int, str, str]:
    name, dtype = feature
    return (_ORDER[FIXED[dtype].numpy] if dtype in FIXED else 9, dtype, name)


def _as_bytes(column: np.ndarray[Any, Any], width: int) -> Bytes:
    return np.ascontiguousarray(column).view(np.uint8).reshape(-1, width)


def _join_tails(tails: Sequence[Sequence[bytes | None]], number: int, ends: Bytes) -> list[bytes]:
    """The values of any length of each row, joined; where each ends is written to `ends`."""
    if not tails:
        return [b""] * number
    lengths = np.array([[len(value or b"") for value in tail] for tail in tails], np.int64).reshape(len(tails), number)
    ends[:] = _as_bytes(np.ascontiguousarray(lengths.cumsum(axis=0).T.astype("<u4")), 4).reshape(number, -1)
    return [b"".join(value or b"" for value in row) for row in zip(*tails, strict=True)]
