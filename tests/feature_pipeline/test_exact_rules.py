"""Rules on values that pandas would change: large numbers beside a null, NaN; and rules that cannot be computed."""

from dataclasses import replace
from datetime import UTC, date, datetime

import polars as pl
import pytest

from feature_pipeline.batch.expectations import arguments_of, check_expectations, run_suite, shipped_names
from feature_pipeline.batch.quarantine import split
from feature_pipeline.batch.validate import Rules, judge
from fti.errors import DataError
from fti.project import Source, expect
from fti.projects.flights import project as flights
from fti.times import UTC_TIME

LARGE = 2**53
INTEGERS = (pl.Int64, pl.UInt64, pl.Int128)


def bad(values: pl.Series, *rules, **columns: pl.Series) -> list[int]:
    """Numbers of the rows that `split` sets aside."""
    rows = pl.DataFrame({"id": range(len(values)), "value": values, **columns}, schema_overrides={"id": pl.Int64})
    source = Source(name="rows", read=lambda *_: rows, schema=dict(rows.schema), key=("id",), expectations=rules)
    good, aside = split(source, rows)
    assert sorted([*good["id"], *aside["id"]]) == list(range(len(values)))
    assert good.select(rows.columns).equals(rows.filter(pl.col("id").is_in(good["id"].to_list())))
    return aside["id"].to_list()


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("null", [[None], []])
def test_large_whole_numbers_are_compared_exactly(dtype, null) -> None:
    values = pl.Series([LARGE, LARGE + 1, *null], dtype=dtype)
    assert bad(values, expect("expect_column_values_to_be_in_set", column="value", value_set=[LARGE])) == [1]
    assert bad(values, expect("expect_column_values_to_not_be_in_set", column="value", value_set=[LARGE])) == [0]
    assert bad(values, expect("expect_column_values_to_be_between", column="value", max_value=LARGE)) == [1]
    assert bad(values, expect("expect_column_values_to_be_unique", column="value")) == []
    twice = pl.Series([LARGE + 1, LARGE, LARGE + 1, *null], dtype=dtype)
    assert bad(twice, expect("expect_column_values_to_be_unique", column="value")) == [0, 2]
    largest = expect("expect_column_max_to_be_between", column="value", max_value=LARGE)
    (outcome,) = run_suite("rows", values.to_frame("value"), [largest])
    assert not outcome.success


def test_small_whole_numbers_of_every_width_go_on_as_before() -> None:
    for dtype in (pl.Int8, pl.UInt16, pl.Int64, pl.Int128):
        values = pl.Series([1, 5, None], dtype=dtype)
        assert bad(values, expect("expect_column_values_to_be_between", column="value", max_value=4)) == [1]
        assert bad(values, expect("expect_column_values_to_not_be_null", column="value")) == [2]


NAN = pl.Series([1.0, float("nan"), None, 9.0])


@pytest.mark.parametrize(
    ("rule", "arguments", "expected"),
    [
        ("expect_column_values_to_be_between", {"min_value": 0, "max_value": 5}, [1, 3]),
        ("expect_column_values_to_be_between", {"min_value": 0}, [1]),
        ("expect_column_values_to_be_between", {"min_value": 0, "mostly": 0.5}, []),
        ("expect_column_values_to_be_in_set", {"value_set": [1.0, 9.0]}, [1]),
        ("expect_column_values_to_not_be_in_set", {"value_set": [9.0]}, [3]),
        ("expect_column_values_to_not_be_null", {}, [1, 2]),
        ("expect_column_values_to_be_unique", {}, []),
    ],
)
def test_nan_meets_no_rule_that_asks_for_a_number(rule, arguments, expected) -> None:
    assert bad(NAN, expect(rule, column="value", **arguments)) == expected


def test_nan_outside_of_a_condition_is_not_asked() -> None:
    rule = expect(
        "expect_column_values_to_be_between",
        column="value",
        min_value=0,
        row_condition='kind == "a"',
        condition_parser="pandas",
    )
    assert bad(NAN, rule, kind=pl.Series(["b", "b", "b", "a"])) == []
    assert bad(NAN, rule, kind=pl.Series(["b", "a", "b", "a"])) == [1]


def test_a_condition_may_ask_for_a_column_that_no_rule_names() -> None:
    condition = {"row_condition": "other > 2", "condition_parser": "pandas"}
    rule = expect("expect_column_values_to_be_between", column="value", max_value=5, **condition)
    assert bad(pl.Series([9, 9]), rule, other=pl.Series([1, 3])) == [1]


MOMENTS = pl.Series([datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 3, tzinfo=UTC)], dtype=UTC_TIME)


def test_a_rule_that_cannot_be_computed_is_told_as_such_and_split_agrees() -> None:
    rule = expect("expect_column_values_to_be_between", column="value", min_value=date(2024, 1, 2))
    message = "expect_column_values_to_be_between.* cannot be computed .*: correct the rule"
    rules = Rules(suite="rows", schema={"value": UTC_TIME}, key=("value",), expectations=(rule,))
    (problem,) = judge(MOMENTS.to_frame("value"), rules).problems
    assert "rows" not in problem.partition("(")[0]
    with pytest.raises(DataError, match=message):
        bad(MOMENTS, rule)
    exact = expect("expect_column_values_to_be_between", column="value", min_value=datetime(2024, 1, 2, tzinfo=UTC))
    assert bad(MOMENTS, exact) == [0]


@pytest.mark.parametrize(
    ("column", "type", "arguments", "message"),
    [
        ("temp", "expect_column_values_to_be_between", {"min_valeu": 1}, "has no argument 'min_valeu'; .* 'min_value'"),
        ("temp", "expect_column_values_to_be_in_set", {"values": [1]}, "has no argument 'values'; .* 'value_set'"),
        ("temp", "expect_column_values_to_be_between", {"max_value": LARGE + 1}, "Choose a bound that"),
        ("time_hour", "expect_column_values_to_be_between", {"min_value": date(2013, 1, 1)}, "give a datetime with"),
        (
            "time_hour",
            "expect_column_values_to_be_between",
            {"max_value": datetime(2013, 1, 1)},
            "give a datetime with",
        ),
    ],
)
def test_a_wrong_argument_fails_at_the_declaration(column, type, arguments, message) -> None:
    weather = next(source for source in flights.sources if source.name == "weather")
    wrong = replace(weather, expectations=(expect(type, column=column, **arguments),))
    with pytest.raises(DataError, match=message):
        check_expectations(replace(flights, sources=(wrong,)))


def test_the_arguments_that_are_read_from_the_text_are_those_of_the_classes() -> None:
    import great_expectations  # noqa: F401  # fills the registry
    from great_expectations.expectations.registry import get_expectation_impl

    for name in shipped_names():
        assert arguments_of(name) == set(get_expectation_impl(name).__fields__) - {"library_metadata"}, name
