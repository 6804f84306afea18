"""Columns in another type: equal, or refused by name."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from fti.errors import DataError
from fti.values import exact, unequal

NAN, INF = float("nan"), float("inf")
NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)

EQUAL: list[tuple[list[Any], Any, Any, list[Any]]] = [
    ([1, None, 2**31 - 1], pl.Int64, pl.Int32, [1, None, 2**31 - 1]),
    ([0, 255], pl.Int64, pl.UInt8, [0, 255]),
    ([2**63], pl.UInt64, pl.Int128, [2**63]),
    ([2**53, -(2**53)], pl.Int64, pl.Float64, [2.0**53, -(2.0**53)]),
    ([1.0, None, -0.0], pl.Float64, pl.Int64, [1, None, 0]),
    ([0, 1, None], pl.Int8, pl.Boolean, [False, True, None]),
    ([True, None, False], pl.Boolean, pl.Int64, [1, None, 0]),
    (
        [0.1, NAN, INF, -INF, None, 16777217.0],
        pl.Float64,
        pl.Float32,
        [0.10000000149011612, NAN, INF, -INF, None, 2**24],
    ),
    ([0.5, NAN], pl.Float32, pl.Float64, [0.5, NAN]),
    ([Decimal("0.10")], pl.Decimal(10, 2), pl.Float64, [0.1]),
    ([Decimal("7.00")], pl.Decimal(10, 2), pl.Int64, [7]),
    (["a", "", "null", None], pl.String, pl.Categorical, ["a", "", "null", None]),
    (["a", "b"], pl.Categorical, pl.String, ["a", "b"]),
    ([date(2024, 7, 1)], pl.Date, pl.Datetime("us", "UTC"), [datetime(2024, 7, 1, tzinfo=UTC)]),
    ([NOON], pl.Datetime("ns", "Europe/Berlin"), pl.Datetime("us", "UTC"), [NOON]),
    ([NOON.replace(tzinfo=None)], pl.Datetime("ms"), pl.Datetime("us", "UTC"), [NOON]),
    ([timedelta(seconds=1)], pl.Duration("ns"), pl.Duration("ms"), [timedelta(seconds=1)]),
    ([[1, None, 3], [], None], pl.List(pl.Int64), pl.List(pl.Int8), [[1, None, 3], [], None]),
    ([[1, 2]], pl.Array(pl.Int64, 2), pl.List(pl.Float64), [[1.0, 2.0]]),
    ([{"a": 1}, None], pl.Struct({"a": pl.Int64}), pl.Struct({"a": pl.Int8}), [{"a": 1}, None]),
    ([None, None], pl.String, pl.Int64, [None, None]),
    ([None], pl.Null, pl.List(pl.Int64), [None]),
    ([], pl.String, pl.Datetime("us", "UTC"), []),
]

REFUSED: list[tuple[list[Any], Any, Any, list[bool]]] = [
    ([1.5, 2.0, None], pl.Float64, pl.Int64, [True, False, False]),
    ([NAN, INF, 1e19], pl.Float64, pl.Int64, [True, True, True]),
    ([2.0**63], pl.Float64, pl.Int64, [True]),
    ([2, -1, 1], pl.Int64, pl.Boolean, [True, True, False]),
    ([0.5, NAN, 1.0], pl.Float64, pl.Boolean, [True, True, False]),
    ([1e300, 1.0, -1e39, 1e-60], pl.Float64, pl.Float32, [True, False, True, True]),
    ([-1, 300, 255], pl.Int64, pl.UInt8, [True, True, False]),
    ([2**63], pl.UInt64, pl.Int64, [True]),
    ([2**53 + 1, 2**63 - 1, None], pl.Int64, pl.Float64, [True, True, False]),
    ([2**24 + 1], pl.Int32, pl.Float32, [True]),
    ([2**64 - 1], pl.UInt64, pl.Float64, [True]),
    ([Decimal("123456789012345678.90")], pl.Decimal(38, 2), pl.Float64, [True]),
    ([0.123], pl.Float64, pl.Decimal(10, 2), [True]),
    (["7", None], pl.String, pl.Int64, [True, False]),
    ([7], pl.Int64, pl.String, [True]),
    (["2024-07-01"], pl.String, pl.Date, [True]),
    ([0], pl.Int64, pl.Datetime("us", "UTC"), [True]),
    ([NOON], pl.Datetime("us", "UTC"), pl.Int64, [True]),
    ([NOON], pl.Datetime("us", "UTC"), pl.Date, [True]),
    ([b"a"], pl.Binary, pl.String, [True]),
    ([date(9999, 1, 1)], pl.Date, pl.Datetime("ns"), [True]),
    (["a", "z"], pl.String, pl.Enum(["a"]), [False, True]),
    ([[1, None], [300], None, []], pl.List(pl.Int64), pl.List(pl.Int8), [False, True, False, False]),
    ([[1.5], [1.0, 2.5, 3.5]], pl.List(pl.Float64), pl.List(pl.Int64), [True, True]),
    ([[1], [1, 2]], pl.List(pl.Int64), pl.Array(pl.Int64, 2), [True, False]),
    ([{"a": 1}, {"a": 300}], pl.Struct({"a": pl.Int64}), pl.Struct({"a": pl.Int8}), [False, True]),
    ([{"a": 1}], pl.Struct({"a": pl.Int64}), pl.Struct({"b": pl.Int64}), [True]),
]


@pytest.mark.parametrize(("values", "own", "dtype", "wanted"), EQUAL)
def test_what_a_type_can_hold_is_equal(values: list[Any], own: Any, dtype: Any, wanted: list[Any]) -> None:
    found = exact(pl.Series("x", values, own), dtype)
    assert found.dtype == dtype
    assert found.name == "x"
    assert found.eq_missing(pl.Series(wanted, dtype=dtype)).all()


@pytest.mark.parametrize(("values", "own", "dtype", "changed"), REFUSED)
def test_what_a_type_cannot_hold_is_refused(values: list[Any], own: Any, dtype: Any, changed: list[bool]) -> None:
    column = pl.Series("x", values, own)
    assert unequal(column, dtype).to_list() == changed
    with pytest.raises(DataError, match="column 'x'"):
        exact(column, dtype)


def test_a_refusal_names_column_row_value_and_remedy() -> None:
    column = pl.Series("amount", [1.0, None, 2.5, 3.5])
    with pytest.raises(DataError) as error:
        exact(column, pl.Int64, of="feature view sales", row=lambda place: f"shop {'abcd'[place]}")
    for part in ("feature view sales", "'amount'", "Int64", "2.5", "shop c", "2 of 4 rows", "Correct"):
        assert part in str(error.value)


def test_nanoseconds_that_microseconds_cannot_hold_are_refused() -> None:
    column = pl.Series("t", [1_000, 1_001]).cast(pl.Datetime("ns", "UTC"))
    assert unequal(column, pl.Datetime("us", "UTC")).to_list() == [False, True]


def test_a_long_value_is_shortened() -> None:
    with pytest.raises(DataError) as error:
        exact(pl.Series("t", ["x" * 10_000]), pl.Int64)
    assert len(str(error.value)) < 400
