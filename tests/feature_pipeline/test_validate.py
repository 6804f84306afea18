"""A broken rule is told with column, rule, count and an example row."""

import polars as pl
import pytest

from feature_pipeline.batch.validate import Rules, judge
from fti.project import expect

SCHEMA = {"id": pl.Int64, "kind": pl.String, "speed": pl.Float64}
ROWS = pl.DataFrame({"id": [1, 2, 3], "kind": ["a", "b", "a"], "speed": [1.5, 20.0, None]}, schema=SCHEMA)


def told(rows, *expectations):
    return list(judge(rows, Rules(suite="s", schema=SCHEMA, key=("id",), expectations=expectations)).problems)


def test_valid_rows_break_nothing():
    assert told(ROWS, expect("expect_column_values_to_be_between", column="speed", min_value=0, max_value=20)) == []
    assert told(ROWS.clear(), expect("expect_column_values_to_be_in_set", column="kind", value_set=["a"])) == []


def test_a_missing_column_is_told_alone():
    assert told(ROWS.drop("kind"), expect("expect_column_values_to_be_in_set", column="kind", value_set=["z"])) == [
        "column 'kind' breaks 'is present' (columns are id, speed) in 3 of 3 rows"
    ]


def test_a_wrong_type_is_told_with_both_types():
    (text,) = told(ROWS.with_columns(pl.col("speed").cast(pl.String)))
    assert text == (
        "column 'speed' breaks 'has type Float64' (it has type String) in 3 of 3 rows; "
        "for example id=1, kind=a, speed=1.5"
    )


def test_null_and_repeated_keys_are_told():
    (text,) = told(pl.concat([ROWS, ROWS.head(1)]))
    assert text == "column 'id' breaks 'is unique, it is the key' in 1 of 4 rows; for example id=1, kind=a, speed=1.5"
    (text,) = told(ROWS.with_columns(id=pl.Series([1, None, 3])))
    assert text.startswith(
        "column 'id' breaks 'is never null, it is part of the key' in 1 of 3 rows; for example id=None"
    )


@pytest.mark.parametrize(
    ("expectation", "text"),
    [
        (
            expect("expect_column_values_to_be_in_set", column="kind", value_set=["a"]),
            "column 'kind' breaks expect_column_values_to_be_in_set(value_set=['a']) in 1 of 3 rows; "
            "for example id=2, kind=b, speed=20.0",
        ),
        (
            expect("expect_column_values_to_be_between", column="speed", min_value=0, max_value=10),
            "column 'speed' breaks expect_column_values_to_be_between(min_value=0, max_value=10) in 1 of 3 rows; "
            "for example id=2, kind=b, speed=20.0",
        ),
        (
            expect("expect_column_values_to_not_be_null", column="speed"),
            "column 'speed' breaks expect_column_values_to_not_be_null() in 1 of 3 rows; "
            "for example id=3, kind=a, speed=None",
        ),
        (
            expect("expect_table_row_count_to_be_between", min_value=5),
            "column '(table)' breaks expect_table_row_count_to_be_between(min_value=5) in 3 of 3 rows",
        ),
    ],
)
def test_a_broken_expectation_is_told_with_an_example(expectation, text):
    assert told(ROWS, expect("expect_column_values_to_be_unique", column="id"), expectation) == [text]


def test_an_expectation_on_a_column_that_is_not_there_fails():
    (text,) = told(ROWS, expect("expect_column_values_to_not_be_null", column="weight"))
    assert "column 'weight' breaks" in text
