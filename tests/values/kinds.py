"""Every kind of value that a table may bring, at its edges: what the stations of `stations.py` are asked to carry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from typing import Any

import polars as pl

INF, NAN = float("inf"), float("nan")
UNITS = ("ms", "us", "ns")
ZONES = (None, "UTC", "Europe/Berlin")


@dataclass(frozen=True)
class Kind:
    """Values of one type that share their fate at every station."""

    name: str
    dtype: Any
    values: tuple[Any, ...]
    """Different from one another, none of them null; moments and durations as numbers of their unit."""

    def series(self, values: Sequence[Any] | None = None) -> pl.Series:
        """`values` (all) and a null, in their type."""
        given = [*(self.values if values is None else values), None]
        inner = self.dtype.inner if isinstance(self.dtype, pl.List) else self.dtype
        if isinstance(inner, pl.Datetime | pl.Duration):
            return pl.Series("value", given, pl.Int64 if inner is self.dtype else pl.List(pl.Int64)).cast(self.dtype)
        return pl.Series("value", given, self.dtype)


def _integers() -> Iterator[Kind]:
    for bits in (8, 16, 32, 64):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        yield Kind(f"Int{bits}", getattr(pl, f"Int{bits}"), (low, -1, 0, 1, high))
    yield Kind("Int128", pl.Int128, (-(2**63), 0, 2**63 - 1))
    yield Kind("Int128, beyond 64 bits", pl.Int128, (-(2**127), -(2**63) - 1, 2**63, 2**127 - 1))
    for bits in (8, 16, 32, 64):
        yield Kind(f"UInt{bits}", getattr(pl, f"UInt{bits}"), (0, 1, 2 ** (bits - 1) - 1))
        yield Kind(f"UInt{bits}, the upper half", getattr(pl, f"UInt{bits}"), (2 ** (bits - 1), 2**bits - 1))
    yield Kind("Int64, beyond 2**53", pl.Int64, (2**53, 2**53 + 1, -(2**53) - 1))


def _floats() -> Iterator[Kind]:
    for bits, small, large in ((32, 1e-45, 3.4e38), (64, 5e-324, 1.7e308)):
        dtype = getattr(pl, f"Float{bits}")
        yield Kind(f"Float{bits}", dtype, (0.1, 0.25, 1.1, 7.0, -2.5, small, large))
        yield Kind(f"Float{bits}, zero of either sign", dtype, (0.0, -0.0))
        yield Kind(f"Float{bits}, NaN", dtype, (NAN,))
        yield Kind(f"Float{bits}, infinite", dtype, (INF, -INF))


def _times() -> Iterator[Kind]:
    factor = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
    seconds = (0, -1, 1_700_000_000)
    for unit in UNITS:
        whole = tuple(second * factor[unit] for second in seconds)
        parts = tuple(value + 1 for value in whole)
        parts_named = "of nanoseconds" if unit == "ns" else "of parts of a second"
        for zone in ZONES:
            name = f"Datetime({unit}, {zone or 'no zone'})"
            yield Kind(name, pl.Datetime(unit, zone), whole)
            yield Kind(f"{name}, {parts_named}", pl.Datetime(unit, zone), parts)
        yield Kind(f"Duration({unit})", pl.Duration(unit), whole + parts)


TEXTS = (" ", "null", "Null", "NA", "None", "nan", "1", "1.10", "1.1", "007", "1E5", "true", "Zürich", 'a"b,\nc')


def _others() -> Iterator[Kind]:
    yield Kind("Decimal", pl.Decimal(38, 2), (Decimal("1.10"), Decimal("-0.01"), Decimal("12345678901234567890.12")))
    yield Kind("Boolean", pl.Boolean, (True, False))
    yield Kind("String", pl.String, TEXTS)
    yield Kind("String, empty", pl.String, ("",))
    yield Kind("String, with a NUL", pl.String, ("a\x00b", "a\x00", "\x00"))
    yield Kind("Binary", pl.Binary, (b"", b"\x00\xff", b"NA"))
    yield Kind("Date", pl.Date, (date(1970, 1, 1), date(2013, 2, 28), date(1969, 12, 31)))
    yield Kind("Date, at the ends", pl.Date, (date(1, 1, 1), date(9999, 12, 31)))
    yield Kind("Time", pl.Time, (time(0), time(23, 59, 59, 999_999)))
    yield Kind("Categorical", pl.Categorical, ("b", "a", "NA"))
    yield Kind("Enum", pl.Enum(["b", "a", "NA"]), ("b", "a", "NA"))


def _lists(scalars: Sequence[Kind]) -> Iterator[Kind]:
    for kind in scalars:
        first, last = kind.values[0], kind.values[-1]
        yield Kind(f"List of {kind.name}", pl.List(kind.dtype), ([first, last], [first, None, last], [None], []))


SCALARS = (*_integers(), *_floats(), *_others(), *_times())
STRUCT = pl.Struct({"number": pl.Int64, "text": pl.String})
NESTED = (
    Kind("Struct", STRUCT, ({"number": 2**53 + 1, "text": "NA"}, {"number": None, "text": ""})),
    Kind("Struct of nulls", STRUCT, ({"number": None, "text": None},)),
    Kind("Array", pl.Array(pl.Float32, 2), ([0.1, 1.1], [0.25, None])),
)
KINDS = (*SCALARS, *_lists(SCALARS), *NESTED)
