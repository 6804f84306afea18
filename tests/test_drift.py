"""The drift statistics: quiet on the data they were made from, loud on a shift, honest about small samples."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from fti.model import drift

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


def weeks(values: object, dtype: pl.DataType | None = None, *, rows: int = ROWS) -> pl.DataFrame:
    """Twelve weeks of one column `value`."""
    start = datetime(2024, 1, 1, tzinfo=UTC)
    moments = [start + timedelta(weeks=12) / rows * row for row in range(rows)]
    return pl.DataFrame({"event_timestamp": moments, "value": pl.Series(values, dtype=dtype)})


def known(values: object, *, numeric: bool = True, rows: int = ROWS) -> dict:
    names = ["value"], []
    numbers, texts = names if numeric else names[::-1]
    return drift.reference(weeks(values, rows=rows), numeric=numbers, categorical=texts)


def is_drift(values: object, reference: dict, dtype: pl.DataType | None = None) -> bool:
    return drifted(pl.DataFrame({"value": pl.Series(values, dtype=dtype)}), reference) == {"value"}


def flag(share: float, rows: int) -> np.ndarray:
    return (np.arange(rows) % round(1 / share) == 0).astype(float)


def test_a_constant_drifts_to_every_other_value_and_not_to_itself() -> None:
    reference = known([5.0] * ROWS)
    assert not is_drift([5.0] * 200, reference)
    for other in (0.0, 4.999, 5.001, 1e6, float("inf"), -float("inf"), float("nan"), None):
        assert is_drift([other] * 200, reference, pl.Float64), other
        assert is_drift([5.0] * 180 + [other] * 20, reference, pl.Float64), other
    assert drift.compare(pl.DataFrame({"value": [0.0] * 200}), reference)["distance"][0] == 1


@pytest.mark.parametrize("numeric", [True, False])
def test_a_flag_of_one_percent_drifts_both_ways(numeric: bool) -> None:
    reference = known(flag(0.01, ROWS), numeric=numeric)
    assert not is_drift(flag(0.01, 6000), reference)
    for share in (0.05, 0.1, 0.5, 1.0):
        assert is_drift(flag(share, 1000), reference), share
    assert is_drift([0.0] * 6000, reference)


@pytest.mark.parametrize("numeric", [True, False])
def test_a_column_that_was_always_null_drifts_when_it_has_values(numeric: bool) -> None:
    reference = known([None] * ROWS, numeric=numeric)
    assert not is_drift([None] * 300, reference, pl.Float64)
    assert is_drift([None] * 270 + [1.0] * 30, reference, pl.Float64)
    assert drift.compare(pl.DataFrame({"value": [1.0] * 300}), reference)["distance"][0] == 1


@pytest.mark.parametrize("numeric", [True, False])
def test_a_boolean_that_was_always_false_drifts_when_it_is_true(numeric: bool) -> None:
    reference = known([False] * ROWS, numeric=numeric)
    assert not is_drift([False] * 500, reference)
    assert is_drift([False] * 450 + [True] * 50, reference)
    assert is_drift([True] * 500, reference)


def test_what_was_capped_and_is_no_more_drifts_however_few_rows_it_is() -> None:
    random = np.random.default_rng(5)
    reference = known(np.minimum(random.normal(50, 28, ROWS), 100))
    window = np.minimum(random.normal(50, 28, 1000), 100)
    assert not is_drift(window, reference)
    free = np.where(window == 100, 1e6, window)
    table = drift.compare(pl.DataFrame({"value": free}), reference)
    assert table.select("drifted", "of").row(0) == (True, "new values")
    assert table["distance"][0] == pytest.approx((window == 100).mean())


@pytest.mark.parametrize("special", [float("inf"), float("nan"), None])
def test_what_was_always_there_is_no_drift_and_what_comes_anew_is(special: float | None) -> None:
    random = np.random.default_rng(6)

    def sample(rows: int, share: float) -> pl.Series:
        here = pl.Series(random.random(rows) < share)
        values = pl.DataFrame({"here": here, "value": random.normal(size=rows)})
        return values.select(pl.when("here").then(pl.lit(special, pl.Float64)).otherwise("value"))["literal"]

    reference = known(sample(ROWS, 0.3))
    assert not is_drift(sample(1000, 0.3), reference)
    assert is_drift(sample(1000, 0.5), reference)
    assert is_drift(sample(1000, 0.04), known(sample(ROWS, 0.0)))


@pytest.mark.parametrize("rows", [200, 1000])
@pytest.mark.parametrize("number", [2, 30, 50, 150])
def test_chance_knows_how_many_categories_there_are(number: int, rows: int) -> None:
    random = np.random.default_rng(number)
    reference = known(random.integers(0, number, ROWS).astype(str), numeric=False)
    calm = [is_drift(random.integers(0, number, rows).astype(str), reference) for _ in range(40)]
    assert sum(calm) <= 1
    assert is_drift(random.integers(0, number // 2, rows).astype(str), reference)


@pytest.mark.parametrize("numeric", [True, False])
def test_chance_knows_how_few_rows_training_had(numeric: bool) -> None:
    """Ninety rows a week, which are too few for a distance of their own."""
    random = np.random.default_rng(8)
    reference = known(random.integers(0, 20, 1080), numeric=numeric, rows=1080)
    assert min(reference["block_rows"]) >= drift.MIN_BLOCK_ROWS
    calm = [is_drift(random.integers(0, 20, 400), reference) for _ in range(40)]
    assert sum(calm) <= 1
    assert is_drift(random.integers(10, 20, 400), reference)


def test_small_weeks_do_not_hide_a_drift_of_large_windows() -> None:
    """Weeks of 110 rows lie 0.25 from the whole by chance; a window of 5,000 rows that does has changed."""
    random = np.random.default_rng(9)
    reference = known(random.integers(0, 50, 1320).astype(str), numeric=False, rows=1320)
    assert max(reference["features"]["value"]["block_distances"]) > 0.2
    shares = np.where(np.arange(50) < 25, 1.4, 0.6) / 50
    assert is_drift(random.choice(50, 5000, p=shares).astype(str), reference)


def test_weeks_that_went_beyond_the_others_say_how_much_is_usual() -> None:
    random = np.random.default_rng(10)
    warm = random.normal(size=ROWS)
    warm[5000:6000] += 1.5
    reference = known(warm)
    assert max(reference["features"]["value"]["block_outside"]) > 0
    assert drift.compare(pl.DataFrame({"value": warm[5000:6000]}), reference)["of"][0] == "spread"


def test_a_category_of_a_time_or_a_float_does_not_depend_on_the_rows_beside_it() -> None:
    moments = pl.Series([datetime(2024, 1, 1, 12, tzinfo=UTC), datetime(2024, 1, 1, 12, 0, 0, 500, tzinfo=UTC)] * 500)
    reference = known(moments, numeric=False, rows=1000)
    assert not is_drift(moments, reference)
    assert drift.distance(moments[:1], reference["features"]["value"]) == pytest.approx(0.5)
    floats = pl.Series([0.1, 1.1] * 500, dtype=pl.Float32)
    assert drift.distance(floats[:1], known(floats, numeric=False, rows=1000)["features"]["value"]) == 0.5


def test_references_of_versions_before_still_decide() -> None:
    features = {
        "number": {"edges": [1.0, 2.0], "shares": [0.5, 0.3, 0.1, 0.1], "block_distances": [0.05, 0.1]},
        "kind": {"values": ["a", "b"], "shares": [0.6, 0.3, 0.1], "block_distances": []},
    }
    old = {"rows": 5000, "blocks": 2, "features": features}
    rows = pl.DataFrame({"number": [0.5] * 5 + [1.5] * 3 + [2.5, None], "kind": ["a"] * 6 + ["b"] * 3 + [None]})
    same = drift.compare(pl.concat([rows] * 100), old)
    assert same["distance"].to_list() == [0.0, 0.0]
    assert same["limit"].sort().to_list()[1] == 0.1
    other = pl.DataFrame({"number": [2.5] * 1000, "kind": ["c"] * 1000})
    assert drifted(other, old) == {"number", "kind"}
