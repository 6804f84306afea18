"""Rolling statistics against a loop that anybody can check."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fti.windows import parse_window, rolling_statistics, window_names

T0 = datetime(2013, 1, 1, tzinfo=UTC)
SCHEMA = {"entity": pl.String, "kind": pl.Int64, "event_timestamp": pl.Datetime("us", "UTC"), "value": pl.Int64}
events = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", None]), st.integers(0, 1), st.integers(0, 300), st.none() | st.integers(-50, 50)
    ),
    max_size=25,
)


def frame(rows):
    moved = [(entity, kind, T0 + timedelta(minutes=minute), value) for entity, kind, minute, value in rows]
    return pl.DataFrame(moved, schema=SCHEMA, orient="row")


@settings(max_examples=150, deadline=None)
@given(rows=events)
def test_windows_hold_what_a_loop_finds(rows):
    made = rolling_statistics(
        frame(rows), entity=("entity", "kind"), means={"value": "value"}, windows=("30m", "2h"), prefix="x"
    )
    known = [row for row in rows if row[0] is not None]
    assert made.columns == ["entity", "kind", "event_timestamp", *window_names("x", ["value"], ["30m", "2h"])]
    assert made.height == len({row[:3] for row in known})
    for entity, kind, time, *found in made.iter_rows():
        expected = []
        for minutes in (30, 120):
            inside = [
                value
                for name, number, minute, value in known
                if (name, number) == (entity, kind) and timedelta(0) <= time - at(minute) < timedelta(minutes=minutes)
            ]
            values = [value for value in inside if value is not None]
            expected += [len(inside), sum(values) / len(values) if values else None]
        assert found == [None if value is None else pytest.approx(value, rel=1e-6) for value in expected]


def at(minute):
    return T0 + timedelta(minutes=minute)


@pytest.mark.parametrize("window", ["6", "h", "1.5h", "2w", ""])
def test_a_window_that_is_none_says_how_to_write_one(window):
    with pytest.raises(ValueError, match="write a whole number and m, h or d"):
        parse_window(window)
