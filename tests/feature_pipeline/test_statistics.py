"""Statistics and their plots: right on plain columns, and no column can break them."""

import xml.dom.minidom
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from feature_pipeline.batch.plots import picture
from feature_pipeline.batch.statistics import by_partition, profile

TIMES = [datetime(2024, 1, day, 12, tzinfo=UTC) for day in (1, 1, 2)]


def test_a_numeric_column_is_described():
    (found,) = profile(pl.DataFrame({"x": [1.0, 2.0, 3.0, 10.0, None]}))
    assert found.statistics == {"mean": 4.0, "std": found.statistics["std"], "min": 1.0, "q25": 1.75} | {
        "median": 2.5,
        "q75": 4.75,
        "max": 10.0,
    }
    assert round(found.statistics["std"], 6) == 4.082483
    assert (found.num_rows, found.num_nulls, found.null_share) == (5, 1, 0.2)
    assert sum(found.histogram) == 4
    assert found.histogram[0] == found.histogram[-1] == 1


def test_text_is_counted():
    (found,) = profile(pl.DataFrame({"kind": ["b", "a", "b", None]}))
    assert found.top == (("b", 2), ("a", 1))
    assert found.num_unique == 2


def test_days_have_numbers_that_can_be_plotted():
    rows = pl.DataFrame({"at": TIMES, "x": [1, 3, None], "kind": ["a", None, "b"]})
    assert by_partition(rows, pl.col("at").dt.date()) == {
        date(2024, 1, 1): {"num_rows": 2, "null_share": 1 / 6, "mean_x": 2.0},
        date(2024, 1, 2): {"num_rows": 1, "null_share": 1 / 3},
    }
    assert by_partition(rows.clear(), pl.col("at").dt.date()) == {}


@settings(max_examples=200, deadline=None)
@given(arrays(np.float64, st.integers(0, 6)), st.lists(st.none() | st.text(), min_size=6, max_size=6))
def test_no_column_breaks_the_picture(numbers, texts):
    rows = pl.DataFrame({"x<y": pl.Series(numbers).extend_constant(None, 6 - len(numbers)), "&": texts})
    profiles = profile(rows)
    finite = np.isfinite(numbers).sum()
    assert sum(profiles[0].histogram) == finite
    drawn = "".join(character for character in picture(profiles, title="<t>") if character.isprintable())
    xml.dom.minidom.parseString(drawn)
