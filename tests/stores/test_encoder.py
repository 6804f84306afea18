"""A value has one code, whatever rows are beside it."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import numpy as np
import polars as pl
import pytest

from fti.errors import DataError
from fti.model.encoder import FEW_ROWS, Encoder

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def categories(values):
    """An encoder of one categorical column, as a bundle holds it."""
    frame = values.alias("c").to_frame()
    return Encoder.from_json(Encoder.fit(frame, numeric=[], categorical=["c"]).to_json()), frame


COLUMNS = {
    "Float32": pl.Series([0.1, 0.25, 1.1, 7.0], dtype=pl.Float32),
    "Float64": pl.Series([0.1, 1 / 3, 1e300, 7.0, float("inf")]),
    "whole seconds": pl.Series([NOON, NOON + timedelta(seconds=1)]),
    "milliseconds": pl.Series([NOON, NOON + timedelta(milliseconds=1)]).dt.cast_time_unit("ms"),
    "nanoseconds": pl.Series([1, 1_000, 1_000_000_000]).cast(pl.Datetime("ns")),
    "a zone": pl.Series([NOON, NOON + timedelta(hours=1)]).dt.convert_time_zone("America/New_York"),
    "no zone": pl.Series([NOON, NOON + timedelta(microseconds=1)]).dt.replace_time_zone(None),
    "dates": pl.Series([date(2026, 1, 1), date(1969, 12, 31)]),
    "times": pl.Series([time(0), time(0, 0, 0, 1)]),
    "durations": pl.Series([timedelta(0), timedelta(microseconds=1), timedelta(days=-1)]),
    "decimals": pl.Series([Decimal("1.10"), Decimal("1.01")]),
    "booleans": pl.Series([True, False]),
    "integers": pl.Series([-1, 7, 2**63 - 1]),
    "unsigned": pl.Series([0, 2**64 - 1], dtype=pl.UInt64),
    "categorical": pl.Series(["b", "a"], dtype=pl.Categorical),
    "text": pl.Series(["1", "1.0", "true", "nan", ""]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_category_has_one_code_alone_and_among_many(kind):
    encoder, frame = categories(pl.concat([COLUMNS[kind], COLUMNS[kind].clear(1)]))
    codes = [encoder.encode(frame[at : at + 1])[0, 0] for at in range(frame.height)]
    assert sorted(codes) == list(range(frame.height)), "each value its own code, null none"
    many = pl.concat([frame] * FEW_ROWS).sample(fraction=1, shuffle=True, seed=1)
    expected = dict(zip(frame["c"].to_list(), codes, strict=True))
    if kind != "nanoseconds":  # whose digits Python does not hold
        assert encoder.encode(many)[:, 0].tolist() == [expected[value] for value in many["c"].to_list()]
    assert encoder.encode(pl.concat([frame] * FEW_ROWS))[: frame.height, 0].tolist() == codes


def test_equal_moments_in_other_units_and_zones_are_one_category():
    moments = pl.Series([NOON, NOON + timedelta(seconds=1)])
    encoder, frame = categories(moments)
    others = [
        moments.dt.cast_time_unit("ms"),
        moments.dt.cast_time_unit("ns"),
        moments.dt.convert_time_zone("Asia/Tokyo"),
    ]
    for other in others:
        assert encoder.encode(other.alias("c").to_frame()).tolist() == encoder.encode(frame).tolist()


def test_zero_has_no_sign_and_nan_is_missing():
    encoder, frame = categories(pl.Series([0.0, -0.0, float("nan"), None, 1.0]))
    assert encoder.categorical["c"] == ("0.0", "1.0")
    for rows in (frame, pl.concat([frame] * FEW_ROWS)):
        assert encoder.encode(rows)[:5, 0].tolist() == [1, 1, 0, 0, 2]


NUMBERS = {
    "beyond 2**53": pl.Series([2**53 + 1, -(2**60) - 2**36 - 1, 2**60 + 2**36 + 1]),
    "unsigned": pl.Series([2**64 - 1, 2**63 + 2**39 + 1], dtype=pl.UInt64),
    "decimals": pl.Series([Decimal("12345678901234567890.12"), Decimal("0.10")]),
    "booleans": pl.Series([True, False]),
    "floats": pl.Series([0.1, float("nan"), float("inf"), 1e300, -0.0]),
    "texts that are numbers": pl.Series(["1.5", "-7", "1e3"]),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_a_number_is_the_same_to_the_last_bit_alone_and_among_many(kind):
    frame = pl.concat([NUMBERS[kind], NUMBERS[kind].clear(1)]).alias("n").to_frame()
    encoder = Encoder.fit(frame, numeric=["n"], categorical=[])
    alone = np.concatenate([encoder.encode(frame[at : at + 1]) for at in range(frame.height)])
    among = encoder.encode(pl.concat([frame] * FEW_ROWS))[: frame.height]
    assert alone.tobytes() == among.tobytes()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pl.Series(["1.5", "fast"]), r"feature 'n' holds String, in row 1 'fast', which is no number"),
        (pl.Series([date(2026, 1, 1)]), r"feature 'n' holds Date, in row 0 .*list it in `Model.categorical`"),
        (pl.Series([timedelta(1)]), r"feature 'n' holds Duration.*, in row 0 .* seconds"),
        (pl.Series([[1.0]]), r"feature 'n' holds List\(Float64\), in row 0 \[1.0\]"),
    ],
)
def test_what_is_no_number_is_refused_before_training(values, message):
    with pytest.raises(DataError, match=message):
        Encoder.fit(values.alias("n").to_frame(), numeric=["n"], categorical=[])


@pytest.mark.parametrize("values", [pl.Series([b"a"]), pl.Series([["a"]]), pl.Series([{"a": 1}])])
def test_what_is_no_category_is_refused_before_training(values):
    with pytest.raises(DataError, match=r"feature 'c' holds .* no category: make text of it"):
        categories(values)
