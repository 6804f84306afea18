"""The drift statistics: quiet on the data they were made from, loud on a shift, honest about small samples."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fti import drift

ROWS = 12_000


@pytest.fixture(scope="module")
def training() -> pl.DataFrame:
    """Twelve weeks in which the mean of `warm` moves a little from week to week."""
    random = np.random.default_rng(3)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    hours = np.arange(ROWS) * (12 * 7 * 24 / ROWS)
    week = (hours // 168).astype(int)
    return pl.DataFrame(
        {
            "event_timestamp": [start + timedelta(hours=float(hour)) for hour in hours],
            "warm": random.normal(0.3 * np.sin(week), 1.0),
            "gap": [None if value < 0.1 else value for value in random.random(ROWS)],
            "kind": random.choice(["a", "b", "c"], ROWS, p=[0.5, 0.3, 0.2]),
        }
    )


@pytest.fixture(scope="module")
def reference(training: pl.DataFrame) -> dict:
    return drift.reference(training, numeric=["warm", "gap"], categorical=["kind"])


def drifted(frame: pl.DataFrame, reference: dict) -> set[str]:
    return set(drift.compare(frame, reference).filter("drifted")["feature"])


def test_every_training_week_is_within_the_limits(training: pl.DataFrame, reference: dict) -> None:
    week = pl.col("event_timestamp").dt.truncate("7d")
    weeks = training.with_columns(week=week).partition_by("week")
    assert all(drifted(week, reference) == set() for week in weeks)


def test_a_shift_a_new_category_and_more_nulls_are_found(training: pl.DataFrame, reference: dict) -> None:
    window = training.tail(2000)
    assert drifted(window.with_columns(pl.col("warm") + 1.5), reference) == {"warm"}
    assert drifted(window.with_columns(kind=pl.lit("new")), reference) == {"kind"}
    assert drifted(window.with_columns(gap=pl.lit(None, pl.Float64)), reference) == {"gap"}


def test_a_handful_of_rows_is_no_evidence(training: pl.DataFrame, reference: dict) -> None:
    assert drifted(training.filter(pl.col("kind") == "a").head(5), reference) == set()


def test_the_most_drifted_feature_comes_first(training: pl.DataFrame, reference: dict) -> None:
    table = drift.compare(training.with_columns(pl.col("warm") + 3), reference)
    assert table["feature"][0] == "warm"
    assert table["distance"].is_between(0, 1).all()
