"""Rows that break a rule are set aside with the reason; the good ones go on, up to the source's limit."""

import dataclasses
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from feature_pipeline.batch.chunks import fingerprints
from feature_pipeline.batch.expectations import check_expectations, shipped_names, suite
from feature_pipeline.batch.ingest import ingest
from feature_pipeline.batch.quarantine import split
from feature_pipeline.batch.transform import judge_views
from feature_pipeline.batch.validate import Rules, judge
from feature_pipeline.definitions import definitions
from fti.errors import DataError, NotReadyError
from fti.project import Source, expect
from fti.projects.flights import project as flights
from fti.stores.lake.store import Lake
from tests.feature_pipeline.tiny import SCHEMAS, project

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SCHEMA = {"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "kind": pl.String, "low": pl.Int64, "high": pl.Int64}
GOOD = [(number, START + timedelta(hours=number), "a", 1, 2) for number in range(48)]
QUARANTINE = "shop/quarantine/orders"


def frame(*changes):
    """Two days of good rows, with `(place, {column: value})` changed."""
    rows = pl.DataFrame(GOOD, schema=SCHEMA, orient="row").to_dicts()
    for place, values in changes:
        rows[place] |= values
    return pl.DataFrame(rows, schema=SCHEMA)


def source(rows, **fields):
    kinds = expect("expect_column_values_to_be_in_set", column="kind", value_set=["a", "b"])
    pairs = expect("expect_column_pair_values_a_to_be_greater_than_b", column_A="high", column_B="low")
    values = {"expectations": (kinds, pairs), "key": ("id",), "timestamp": "at"} | fields
    return Source(name="orders", read=lambda start, end: rows, schema=SCHEMA, **values)


def run(lake, known, days=2):
    shop = dataclasses.replace(flights, name="shop")
    return list(ingest(lake, shop, known, START, START + days * DAY, chunk_days=days))


BAD = (
    (3, {"id": None}),
    (5, {"kind": "z"}),
    (30, {"kind": "z", "high": 0}),
    (40, {"id": 41}),
    (47, {"at": START + 9 * DAY}),
)
"""A null key, an unknown kind, two rules at once, the key of the row after it, another day."""
REASONS = {
    None: "id: 'is never null, it is part of the key'",
    5: "kind: expect_column_values_to_be_in_set(value_set=['a', 'b'])",
    30: "kind: expect_column_values_to_be_in_set(value_set=['a', 'b']); "
    "high, low: expect_column_pair_values_a_to_be_greater_than_b(column_A=high, column_B=low)",
    41: "id: 'is unique, it is the key'",
    47: "at: 'lies in 2024-01-01 00:00 .. 2024-01-03 00:00'",
}


def test_bad_rows_are_set_aside_with_every_reason(tmp_path):
    lake = Lake(str(tmp_path))
    (chunk,) = run(lake, source(frame(*BAD), max_quarantined_share=0.2))
    assert chunk.verdict.problems == ()
    kept = lake.load("shop/raw/orders")
    assert kept["id"].to_list() == [number for number in range(47) if number not in (3, 5, 30, 40)]
    assert kept.columns == list(SCHEMA)
    aside = lake.load(QUARANTINE)
    assert dict(aside.select("id", "__reason").iter_rows()) == REASONS
    assert [str(day) for day in lake.days(QUARANTINE)] == ["2024-01-01", "2024-01-02"]
    assert aside.filter(pl.col("id") == 47)["__day"].item() == START


def test_a_rerun_gives_the_same_state_and_mended_days_leave_the_quarantine(tmp_path):
    lake = Lake(str(tmp_path))
    first, last = START.date(), (START + DAY).date()
    run(lake, source(frame(*BAD), max_quarantined_share=0.2))
    before = fingerprints(lake, QUARANTINE, first, last)
    run(lake, source(frame(*BAD), max_quarantined_share=0.2))
    assert fingerprints(lake, QUARANTINE, first, last) == before
    run(lake, source(frame(BAD[2]), max_quarantined_share=0.2))
    assert lake.days(QUARANTINE) == [last]
    assert lake.load("shop/raw/orders").height == 47
    run(lake, source(frame()))
    assert lake.days(QUARANTINE) == []


def test_over_the_limit_nothing_is_written(tmp_path):
    lake = Lake(str(tmp_path))
    (chunk,) = run(lake, source(frame(*BAD), max_quarantined_share=0.1))
    assert len(chunk.verdict.problems) == 5
    assert "(5 rows to set aside are over the limit of 10.00%)" in chunk.verdict.problems[0]
    assert not (tmp_path / "shop").exists()


@pytest.mark.parametrize(("num", "blocks"), [(29, False), (30, True)])
def test_the_limit_itself_is_allowed(num, blocks):
    rows = pl.DataFrame({"id": [None] * num + list(range(100 - num))}, schema={"id": pl.Int64})
    verdict = judge(rows, Rules(suite="s", schema=rows.schema, key=("id",), max_share=0.29))
    assert bool(verdict.problems) == blocks


def test_without_a_limit_one_bad_row_blocks(tmp_path):
    (chunk,) = run(Lake(str(tmp_path)), source(frame(BAD[1])))
    assert chunk.verdict.problems[0].startswith("column 'kind' breaks expect_column_values_to_be_in_set")
    assert "for example id=5" in chunk.verdict.problems[0]


@pytest.mark.parametrize(
    "broken",
    [frame().drop("kind"), frame().with_columns(pl.col("low").cast(pl.String))],
    ids=["missing", "type"],
)
def test_a_wrong_schema_blocks_whatever_the_limit(tmp_path, broken):
    (chunk,) = run(Lake(str(tmp_path)), source(broken, max_quarantined_share=1.0))
    assert len(chunk.verdict.problems) == 1
    with pytest.raises(DataError, match="source 'orders': column"):
        split(source(broken), broken)


def test_a_rule_on_the_table_blocks_and_is_judged_on_the_good_rows(tmp_path):
    mean = expect("expect_column_max_to_be_between", column="high", max_value=10)
    rules = {"expectations": (*source(frame()).expectations, mean), "max_quarantined_share": 0.2}
    (chunk,) = run(Lake(str(tmp_path)), source(frame((5, {"kind": "z", "high": 99})), **rules))
    assert chunk.verdict.problems == ()
    (chunk,) = run(Lake(str(tmp_path)), source(frame((5, {"high": 99})), **rules))
    assert "expect_column_max_to_be_between" in chunk.verdict.problems[0]


def test_mostly_is_met_before_rows_are_set_aside(tmp_path):
    mostly = expect("expect_column_values_to_be_in_set", column="kind", value_set=["a"], mostly=0.9)
    rules = {"expectations": (mostly,), "max_quarantined_share": 0.2}
    (chunk,) = run(Lake(str(tmp_path)), source(frame(BAD[1]), **rules))
    assert chunk.verdict.bad.height == 0
    (chunk,) = run(Lake(str(tmp_path)), source(frame(*((place, {"kind": "z"}) for place in range(6))), **rules))
    assert chunk.verdict.bad.height == 6


def test_split_keeps_the_last_row_of_a_key():
    known = dataclasses.replace(source(frame()), expectations=())
    good, bad = split(known, frame((1, {"id": 0}), (2, {"id": 0})))
    assert good.filter(pl.col("id") == 0)["at"].to_list() == [START + timedelta(hours=2)]
    assert bad["at"].to_list() == [START, START + timedelta(hours=1)]


def test_a_reference_table_has_its_quarantine(tmp_path):
    lake, rules = Lake(str(tmp_path)), {"timestamp": None, "max_quarantined_share": 0.2}
    run(lake, source(frame(BAD[1]), **rules))
    assert lake.load(QUARANTINE)["id"].to_list() == [5]
    run(lake, source(frame(), **rules))
    with pytest.raises(NotReadyError):
        lake.load(QUARANTINE)


def test_rows_of_a_view_are_set_aside_too():
    used = dataclasses.replace(project, features=dataclasses.replace(project.features, max_quarantined_share=0.5))
    tables = {"readings": pl.DataFrame({"machine": ["a", None], "read_at": [START, START], "load": [1, 2]})}
    rows = tables["readings"].rename({"read_at": "event_timestamp"}).with_columns(pl.col("load").cast(pl.Float32))
    views = {"newest_load": rows.rename({"load": "last_load"})}
    only = {"newest_load": SCHEMAS["newest_load"]}
    verdicts, problems = judge_views(used, views, only, START, START + DAY)
    assert problems == []
    assert verdicts["newest_load"].bad["__reason"].to_list() == ["machine: 'is never null, it is part of the key'"]
    assert judge_views(project, views, only, START, START + DAY)[1]


# --- suites ------------------------------------------------------------------------------------------------------


def with_expectation(expectation):
    changed = dataclasses.replace(flights.sources[0], expectations=(expectation,))
    return dataclasses.replace(flights, sources=(changed, *flights.sources[1:]))


def test_an_unknown_expectation_fails_when_it_is_defined():
    wrong = with_expectation(expect("expect_column_values_to_be_in_sets", column="origin", value_set=["EWR"]))
    with pytest.raises(DataError, match=r"suite flights.raw.flights: .*nearest.*'expect_column_values_to_be_in_set'"):
        definitions(wrong)


def test_an_expectation_on_an_unknown_column_fails_when_it_is_defined():
    wrong = with_expectation(expect("expect_column_values_to_not_be_null", column="orgin"))
    with pytest.raises(DataError, match=r"source 'flights': .*the nearest name is 'origin'"):
        definitions(wrong)


def test_every_shipped_name_is_one_of_great_expectations():
    from great_expectations.expectations.registry import list_registered_expectation_implementations

    assert set(shipped_names()) <= set(list_registered_expectation_implementations())
    made = suite("flights.raw.flights", flights.sources[0].expectations)
    assert made.name == "flights.raw.flights"
    assert len(made.expectations) == len(flights.sources[0].expectations)
    check_expectations(flights)
