"""What each station refuses, by kind: read by the tests, which try it, and by `docs/values.py`, which tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pytest

from tests.values.kinds import Kind
from tests.values.stations import REFUSALS, Station


def no_number(kind: Kind) -> bool:
    """All but numbers of any width, decimals and booleans."""
    return not (kind.dtype.is_numeric() or kind.dtype == pl.Boolean)


def no_category(kind: Kind) -> bool:
    """Lists, structs and bytes."""
    return bool(kind.dtype.is_nested() or kind.dtype == pl.Binary)


def no_feature(kind: Kind) -> bool:
    """What has no equal among Feast's types, alone or in a list."""
    return (
        "Duration" in kind.name
        or kind.name.endswith(("Time", "of nanoseconds", "beyond 64 bits", "UInt64, the upper half"))
        or kind.name == "List of Decimal"
    )


def no_field(kind: Kind) -> bool:
    """What JSON or a request field has no word for."""
    fits = kind.dtype in (pl.String, pl.Boolean, pl.Date) or kind.dtype.is_integer() or kind.dtype.is_float()
    zoned = isinstance(kind.dtype, pl.Datetime) and kind.dtype.time_zone is not None
    edges = ("NaN", "infinite", "empty", "at the ends", "of nanoseconds", "beyond 64 bits")
    return not (fits or zoned) or kind.name.endswith(edges)


def no_line(kind: Kind) -> bool:
    """What the prediction log keeps no column of."""
    plain = kind.dtype in (pl.String, pl.Boolean, pl.Date, pl.Datetime("us", "UTC"), pl.List(pl.String))
    lists = kind.dtype == pl.List(pl.Float64)
    return not (plain or lists or kind.dtype.is_float() or (kind.dtype.is_integer() and kind.dtype != pl.Int128))


@dataclass(frozen=True)
class Refused:
    """The kinds that a station refuses, and in words what and why."""

    kinds: Callable[[Kind], bool]
    about: str


FEATURES = Refused(
    no_feature,
    "durations, times of day, parts of a microsecond, whole numbers over 64 bits (unsigned: over 63), lists of "
    "decimals: Feast has no type that holds them",
)
REFUSED = {
    "reader": Refused(
        lambda kind: kind.name == "Decimal" or (kind.name.startswith("Datetime") and "nanoseconds" in kind.name),
        "decimals that neither 64 bits nor a float hold, and parts of a microsecond",
    ),
    "windows": Refused(no_number, "what is no number: text, times, durations, lists, structs"),
    "offline store": FEATURES,
    "online store": FEATURES,
    "Feast's materialize": FEATURES,
    "category": Refused(no_category, "bytes, lists and structs: they are no one category"),
    "number": Refused(no_number, "what is no number, also text unless every value of it is a number"),
    "request": Refused(
        no_field,
        "types that a request field cannot have; NaN and infinity, which JSON lacks; empty text; years before 1900 and "
        "from 2200 on; parts of a microsecond; whole numbers over 64 bits",
    ),
    "prediction log": Refused(
        no_line,
        "all but text, booleans, whole numbers of up to 64 bits, floats, dates, datetimes of microseconds in UTC, "
        "lists of texts and of 64-bit floats",
    ),
    "drift reference": Refused(no_category, "bytes, lists and structs: they are neither a number nor one category"),
}
"""Station -> what it refuses; one that is not here keeps every value."""


def require_equal_or_refused(station: Station, kind: Kind) -> None:
    """In order, turned around, and turned around one by one."""
    turned = kind.series(kind.values[::-1])
    for values, many in ((kind.series(), True), (turned, True), (turned, False)):
        if station.name in REFUSED and REFUSED[station.name].kinds(kind):
            with pytest.raises(REFUSALS, match=r"value|the body is not JSON"):
                station.carry(kind, values, many)
        else:
            found, right = station.carry(kind, values, many)
            assert found == right
