"""Rows that differ have different fingerprints; the same rows have the same one, however they are stored."""

import itertools

import polars as pl
import pytest

from fti.errors import DataError
from fti.versions.fingerprint import fingerprint

INF, NAN = float("inf"), float("nan")
STRUCT = pl.Struct({"a": pl.Float64})
DIFFERENT = {
    "floats": (pl.Float64, [None, NAN, INF, -INF, 0.0, 1.0]),
    "small floats": (pl.Float32, [None, NAN, INF, -INF, 0.1]),
    "lists": (pl.List(pl.Float64), [None, [], [None], [NAN], [INF], [-INF], [0.0], [NAN, None], [None, NAN]]),
    "arrays": (pl.Array(pl.Float64, 1), [None, [None], [NAN], [INF]]),
    "lists of lists": (pl.List(pl.List(pl.Float64)), [[[NAN]], [[None]], [[]], [None], []]),
    "structs": (STRUCT, [None, {"a": None}, {"a": NAN}, {"a": INF}]),
    "bytes": (pl.Binary, [None, b"", b"\x00", b"\xff", b"None", b"b''"]),
    "lists of bytes": (pl.List(pl.Binary), [None, [], [None], [b""], [b"\xff"]]),
    "text": (pl.String, [None, "", "null", "NaN", "inf", "None"]),
    "texts": (pl.List(pl.String), [None, [], [None], [""], ["a", "b"], ["a,b"], ['a","b']]),
}


@pytest.mark.parametrize("kind", DIFFERENT)
def test_different_values_have_different_fingerprints(kind):
    dtype, values = DIFFERENT[kind]
    frames = [pl.DataFrame({"id": [1], "v": pl.Series([value], dtype=dtype)}) for value in values]
    for one, other in itertools.combinations(frames, 2):
        assert fingerprint(one, ["id"]) != fingerprint(other, ["id"]), (one["v"], other["v"])


@pytest.mark.parametrize("kind", DIFFERENT)
def test_order_and_chunks_are_no_part_of_it(kind):
    dtype, values = DIFFERENT[kind]
    rows = pl.DataFrame({"id": range(len(values)), "v": pl.Series(values, dtype=dtype)})
    turned = pl.concat([rows.tail(2), rows.head(-2)], rechunk=False).select("v", "id")
    assert fingerprint(rows, ["id"]) == fingerprint(turned, ["id"])


def test_which_row_is_infinite_matters():
    rows = pl.DataFrame({"id": [1, 2], "v": [INF, None], "w": [1.0, 2.0]})
    turned = rows.with_columns(v=pl.Series([None, INF]))
    other = rows.with_columns(v="w", w="v")
    assert len({fingerprint(frame, ["id"]) for frame in (rows, turned, other)}) == 3


def test_rows_without_such_values_keep_the_fingerprint_that_they_had():
    rows = pl.DataFrame({"id": [2, 1], "x": [0.1, None], "t": ["a", ""], "l": [[1.5], None]})
    assert fingerprint(rows, ["id"]) == "1117f0849054"


def test_objects_are_refused_by_name():
    with pytest.raises(DataError, match="column 'v' holds Python objects"):
        fingerprint(pl.DataFrame({"id": [1], "v": pl.Series([object()], dtype=pl.Object)}), ["id"])
