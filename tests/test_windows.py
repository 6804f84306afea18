"""Rolling statistics against a loop that anybody can check."""

import math
import statistics
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fti.errors import DataError
from fti.views import window_sums, windows
from fti.views.windows import parse_window, rolling_statistics, window_names

T0 = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = {"entity": pl.String, "kind": pl.Int64, "event_timestamp": pl.Datetime("us", "UTC"), "value": pl.Int64}
HOUR = timedelta(hours=1)
events = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]), st.integers(0, 1), st.integers(0, 300), st.none() | st.integers(-50, 50)
    ),
    max_size=25,
)


def frame(rows):
    moved = [(entity, kind, T0 + timedelta(minutes=minute), value) for entity, kind, minute, value in rows]
    return pl.DataFrame(moved, schema=SCHEMA, orient="row")


KINDS = ("count", "sum", "mean", "share", "std")


@settings(max_examples=150, deadline=None)
@given(rows=events, piece=st.sampled_from([1, 1 << 16]))
@example(rows=[("a", 1, 0, 0)] * 5 + [("a", 1, 1, 1)], piece=1)  # equal values deviate by nothing, whatever the mean
def test_windows_hold_what_a_loop_finds(rows, piece):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "_PIECE", piece)  # an entity a piece, or all in one
        made = rolling_statistics(
            frame(rows),
            entity=("entity", "kind"),
            statistics={f"of_{kind}": ("value", kind) for kind in KINDS} | {"kind": ("kind", "sum")},
            windows=("30m", "2h"),
            prefix="x",
        )
    known = [row for row in rows if row[0] is not None]
    names = window_names("x", [*(f"of_{kind}" for kind in KINDS), "kind"], ["30m", "2h"])
    assert made.columns == ["entity", "kind", "event_timestamp", *names]
    assert made.height == len({row[:3] for row in known})
    for entity, kind, time, *found in made.iter_rows():
        expected = []
        for minutes in (30, 120):
            inside = [
                (value, number)
                for name, number, minute, value in known
                if (name, number) == (entity, kind) and timedelta(0) <= time - at(minute) < timedelta(minutes=minutes)
            ]
            expected += [len(inside), *said_of([value for value, _ in inside if value is not None])]
            expected.append(kind * len(inside))
        assert found == [None if value is None else pytest.approx(value, rel=1e-9) for value in expected]


def said_of(values):
    """The statistics of `KINDS`, the slow and obvious way."""
    mean = statistics.fmean(values) if values else None
    share = statistics.fmean(value != 0 for value in values) if values else None
    return [len(values), sum(values), mean, share, statistics.stdev(values) if len(values) > 1 else None]


def at(minute):
    return T0 + timedelta(minutes=minute)


def one_entity(values, **columns):
    """An event an hour of one entity."""
    hours = [T0 + hour * HOUR for hour in range(len(values))]
    return pl.DataFrame({"entity": ["a"] * len(values), "event_timestamp": hours, "value": values} | columns)


def last_of(rows, kind, window):
    """The statistic of the last event's window."""
    made = rolling_statistics(
        rows, entity=["entity"], statistics={"said": ("value", kind)}, windows=[window], prefix="x"
    )
    return made[f"x_said_{window}"][-1]


def test_a_small_spread_about_a_large_mean_is_found():
    noise = np.random.default_rng(0).normal(0, 1e-3, 5000)
    values = 1e9 + noise
    inside = values[-24:]
    assert last_of(one_entity(values), "std", "24h") == pytest.approx(np.std(inside - 1e9, ddof=1), rel=1e-6)
    assert last_of(one_entity(values), "mean", "24h") == pytest.approx(inside.mean(), rel=1e-15)


def test_a_huge_value_that_has_left_the_window_leaves_nothing_behind():
    values = [0.1, 1e18, -3e17, 0.1, 0.2, 0.3]
    assert last_of(one_entity(values), "sum", "3h") == pytest.approx(0.6, rel=1e-12)
    assert last_of(one_entity(values), "mean", "3h") == pytest.approx(0.2, rel=1e-12)


def test_the_neighbour_of_a_huge_entity_is_not_disturbed():
    rows = pl.concat([one_entity([1e200, 3e205]), one_entity([0.1, 0.2]).with_columns(entity=pl.lit("b"))])
    assert last_of(rows, "sum", "2h") == pytest.approx(0.3, rel=1e-12)
    assert last_of(rows, "std", "2h") == pytest.approx(statistics.stdev([0.1, 0.2]), rel=1e-9)


def test_entities_that_share_a_unit_keep_their_digits():
    random = np.random.default_rng(3)
    large, small = random.normal(40_000, 1, 3000), random.normal(1, 0.1, 50)
    rows = pl.concat([one_entity(large), one_entity(small).with_columns(entity=pl.lit("b"))])
    assert last_of(rows, "sum", "6h") == pytest.approx(math.fsum(small[-6:]), rel=1e-15)
    assert last_of(rows, "std", "6h") == pytest.approx(statistics.stdev(small[-6:]), rel=1e-12)


def test_a_value_that_is_not_finite_spoils_only_its_windows():
    rows = one_entity([1.0, float("nan"), float("inf"), 2.0, 4.0, float("-inf"), 5.0, 7.0])
    made = rolling_statistics(
        rows, entity=["entity"], statistics={"mean": ("value", "mean")}, windows=["2h"], prefix="x"
    )
    assert made["x_count_2h"].to_list() == [1, 2, 2, 2, 2, 2, 2, 2]
    assert made["x_mean_2h"].to_list() == [1.0, None, None, None, 3.0, None, None, 6.0]


def test_counts_and_whole_sums_are_exact_beyond_what_a_float32_holds():
    rows = one_entity([2**24 + 1, 2**52, 1])
    assert last_of(rows, "sum", "3h") == 2**24 + 2**52 + 2
    made = rolling_statistics(rows, entity=["entity"], statistics={}, windows=["3h"], prefix="x")
    assert made.schema["x_count_3h"] == pl.Int64


@pytest.mark.parametrize("num", [0, 1])
def test_no_events_and_one_event_have_the_same_columns(num):
    rows = one_entity([5.0, 6.0]).head(num)
    made = rolling_statistics(
        rows,
        entity=["entity"],
        statistics={f"of_{kind}": ("value", kind) for kind in KINDS},
        windows=["1h"],
        prefix="x",
    )
    assert made.drop("entity", "event_timestamp").rows() == [(1, 1, 5.0, 5.0, 1.0, None)][:num]
    assert set(made.dtypes[2:]) == {pl.Int64, pl.Float64}


def test_a_million_entities_over_a_century_are_right():
    moments = pl.DataFrame({"event_timestamp": [datetime(1950, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)]})
    rows = moments.join(pl.DataFrame({"entity": np.arange(1_000_000), "value": 1.5}), how="cross")
    made = rolling_statistics(
        rows, entity=["entity"], statistics={"sum": ("value", "sum")}, windows=["36500d", "40000d"], prefix="x"
    )
    counted = made.group_by("event_timestamp").agg(pl.col("^x_.*$").unique().first()).sort("event_timestamp")
    assert counted.drop("event_timestamp").rows() == [(1, 1.5, 1, 1.5), (1, 1.5, 2, 3.0)]


@pytest.mark.parametrize("window", ["6", "h", "1.5h", "2w", ""])
def test_a_window_that_is_none_says_how_to_write_one(window):
    with pytest.raises(ValueError, match="write a whole number and m, h or d"):
        parse_window(window)


@pytest.mark.parametrize("dtype", [pl.Datetime("ns"), pl.Datetime("ms", "Europe/Berlin"), pl.Date])
def test_times_keep_their_type_and_a_statistic_may_have_two_names(dtype):
    rows = one_entity([1, 2, None, 4], event_timestamp=[T0 + day * timedelta(days=1) for day in range(4)]).with_columns(
        pl.col("event_timestamp").cast(dtype)
    )
    both = {"one": ("value", "sum"), "other": ("value", "sum"), "number": ("value", "count")}
    made = rolling_statistics(rows, entity=["entity"], statistics=both, windows=["2d"], prefix="x")
    assert made["event_timestamp"].equals(rows["event_timestamp"])
    assert made["x_one_2d"].to_list() == made["x_other_2d"].to_list() == [1, 3, 2, 4]
    assert made["x_number_2d"].to_list() == [1, 2, 1, 1]
    assert made["x_count_2d"].to_list() == [1, 2, 2, 2]


def test_the_number_of_rows_has_its_name_alone() -> None:
    rows = pl.DataFrame({"id": ["a"], "event_timestamp": [datetime(2013, 1, 1)], "count": [1.0]})
    with pytest.raises(DataError, match="number of rows"):
        rolling_statistics(rows, entity=["id"], statistics={"count": ("count", "mean")}, windows=["1h"], prefix="x")


def rolled(values, dtype, window="5m"):
    """Sum and mean of the values, a minute apart, in windows of five; and what exact arithmetic says."""
    moments = [T0 + timedelta(minutes=minute) for minute in range(len(values))]
    column = pl.Series(values, dtype=dtype)
    made = rolling_statistics(
        pl.DataFrame({"entity": ["a"] * len(values), "event_timestamp": moments, "value": column}),
        entity=["entity"],
        statistics={kind: ("value", kind) for kind in ("sum", "mean", "std")},
        windows=[window],
        prefix="x",
    )
    inside = [[v for v in column[max(0, at - 4) : at + 1].to_list() if v is not None] for at in range(len(values))]
    sums = [float(sum(map(Fraction, held))) for held in inside]
    means = [float(sum(map(Fraction, held)) / len(held)) if held else math.nan for held in inside]
    return made["x_sum_5m"].to_list(), made["x_mean_5m"].to_list(), made["x_std_5m"].to_list(), sums, means


LARGE = {
    "around 1.7e18": (pl.Int64, [1_700_000_000_000_000_000 + number for number in range(40)]),
    "1e17 to 3e18": (pl.Int64, [10**17 * (1 + number % 30) for number in range(90)]),
    "the ends of Int64": (pl.Int64, [2**63 - 1, -(2**63)] * 20 + [2**63 - 1] * 10 + [-(2**63)] * 10),
    "the upper half of UInt64": (pl.UInt64, [2**63, 2**64 - 1, 2**63 + 1] * 10),
    "small ones as UInt64": (pl.UInt64, [1, 2, 3] * 4),
    "with nulls": (pl.Int64, [None, 2**62, None, None, None, None, None, 2**62 + 1, 2**62] * 5),
    "of 128 bits": (pl.Int128, [2**100, -(2**100), 5, 7, 2**63]),
    "small types": (pl.Int8, [127, -128] * 10),
}


@pytest.mark.parametrize("kind", LARGE)
def test_sums_of_whole_numbers_do_not_overflow(kind):
    dtype, values = LARGE[kind]
    found_sums, found_means, _, sums, means = rolled(values, dtype)
    assert found_sums == sums
    assert [math.nan if mean is None else mean for mean in found_means] == pytest.approx(means, rel=3e-16, nan_ok=True)


@pytest.mark.parametrize("huge", [1e15, 1e30, 1e300, -1e300])
def test_a_huge_value_does_not_outlive_its_window(huge):
    calm = [0.5 + 0.25 * (number % 7) for number in range(40)]
    values = [*calm, huge, *calm]
    found_sums, found_means, deviations, sums, means = rolled(values, pl.Float64)
    assert found_sums == pytest.approx(sums, rel=1e-14)
    assert found_means == pytest.approx(means, rel=1e-14)
    without = rolled([*calm, 0.0, *calm], pl.Float64)[2]
    assert deviations[46:] == pytest.approx(without[46:], rel=1e-9)
    assert deviations[1:40] == pytest.approx(without[1:40], rel=1e-9)


NOISE = [float(value) for value in np.random.default_rng(7).normal(0, 1, 120)]
SPREADS = {
    f"after {huge:g}": (pl.Float64, [1000 + value for value in [*NOISE[:60], huge, *NOISE[60:]]])
    for huge in (1e6, 1e10, 1e13, -1e20, 1e100)
} | {
    "of all sizes": (pl.Float64, [value * 10.0 ** (19 * place % 41 - 20) for place, value in enumerate(NOISE)]),
    "equal ones after a huge one": (pl.Float64, [0.1] * 30 + [1e12] + [0.3] * 30),
    "beside nulls": (pl.Float64, [None if place % 3 else 1e9 + value / 1000 for place, value in enumerate(NOISE)]),
    "of large whole numbers": (pl.Int64, [17 * 10**17 + int(100 * value) for value in NOISE]),
    "of large ones beside nulls": (pl.Int64, [None if place % 3 else 2**62 + place for place in range(90)]),
    "over all of Int64": (pl.Int64, [2**63 - 1, -(2**63), 0] * 20),
    "in the upper half of UInt64": (pl.UInt64, [2**63 + int(100 * value) for value in NOISE]),
}


@pytest.mark.parametrize("many", [0, 64])
@pytest.mark.parametrize("kind", SPREADS)
def test_a_deviation_is_that_of_its_window_alone(kind, many, monkeypatch):
    monkeypatch.setattr(window_sums, "_MANY", many)  # how many doubtful windows are first tried without huge values
    dtype, values = SPREADS[kind]
    made = rolling_statistics(
        one_entity(pl.Series(values, dtype=dtype)),
        entity=["entity"],
        statistics={"std": ("value", "std")},
        windows=["12h"],
        prefix="x",
    )
    for end, found in enumerate(made["x_std_12h"].to_list(), 1):
        inside = [Fraction(value) for value in values[max(end - 12, 0) : end] if value is not None]
        expected = None if len(inside) < 2 else float(statistics.variance(inside)) ** 0.5
        assert found == (None if expected is None else pytest.approx(expected, rel=1e-9, abs=0)), (kind, end)


@pytest.mark.parametrize("values", [["1.5"], [b"x"], [T0], [HOUR], [[1.0]], [{"a": 1}]])
def test_what_has_no_sum_is_refused_by_name(values):
    with pytest.raises(DataError, match=r"column 'value' holds .*, which has no sum: make numbers of it"):
        rolled(values, None)
