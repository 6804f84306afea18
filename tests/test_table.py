"""A table as a project declares it: rows, source and request all come of its columns."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from fti.tables.table import NO_TIME, ROW_NUMBER, UTC_TIME, Column, Table, TableSpec

START = datetime(2024, 1, 1, tzinfo=UTC)
CSV = """who,when,since,size,kind class,gone
7,2024-01-01T10:00:00,2023-12-30,"1,5",a,yes
8,2024-01-02T00:00:00,,"2,5",b,no
,2024-01-02T09:00:00,2023-12-30,"3,5",a,no
7,2024-01-05T00:00:00,2024-01-01,"4,5",,yes
"""


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Rows of a CSV with decimal commas, a name with a space, a second time and a row without an entity."""
    (tmp_path / "t.csv").write_text(CSV)
    return Table(
        data=TableSpec(format="csv", path=str(tmp_path / "t.csv")),
        entity={"who": Column(pl.Int64, 7)},
        time={"at": Column(UTC_TIME, "2024-01-05T00:00:00Z", of="when", how="time %Y-%m-%dT%H:%M:%S")},
        label={"gone": Column(pl.Boolean)},
        features={
            "since_days_before": Column(pl.Float64, 2.5, of="since", how="date %Y-%m-%d", days_before=True),
            "size": Column(pl.Float64, 1.5, how="number 1.234,5", complete=True),
            "kind": Column(pl.String, "a", of="kind class", values=("a", "b")),
        },
    )


def test_rows_have_the_declared_names_types_and_ages(table: Table) -> None:
    rows = table.read(START, START + timedelta(days=3))
    assert dict(rows.schema) == table.schema
    assert rows.rows() == [
        (7, START + timedelta(hours=10), True, pytest.approx(2 + 10 / 24), 1.5, "a"),
        (8, START + timedelta(days=1), False, None, 2.5, "b"),
    ]


def test_a_column_that_is_added_is_read_and_asked_for(table: Table) -> None:
    less = replace(table, features={"size": table.features["size"]})
    assert set(less.request()) == {"who", "at", "size"}
    assert set(table.request()) - set(less.request()) == {"since_days_before", "kind"}
    assert less.read(START, START + timedelta(days=9)).columns == ["who", "at", "gone", "size"]


def test_only_the_entity_must_be_given_and_a_number_of_a_row_need_not(table: Table) -> None:
    assert [name for name, field in table.request().items() if not field.optional] == ["who"]
    numbered = replace(
        table,
        entity={"row_id": Column(pl.Int64, 0, how=ROW_NUMBER)},
        time={"event_time": Column(UTC_TIME, "2000-01-01T00:00:00Z", how=NO_TIME)},
    )
    assert all(field.optional for field in numbered.request().values())
    rows = numbered.read(datetime(2000, 1, 1, tzinfo=UTC), datetime(2000, 1, 2, tzinfo=UTC))
    assert rows["row_id"].to_list() == [0, 1, 2, 3]
    assert numbered.read(START, START + timedelta(days=9)).is_empty()


def test_what_is_known_of_values_becomes_rules_of_the_source(table: Table) -> None:
    source = table.source("things", max_quarantined_share=0.1)
    assert (source.key, source.timestamp, source.max_quarantined_share) == (("who", "at"), "at", 0.1)
    assert [(rule.type, rule.kwargs) for rule in source.expectations] == [
        ("expect_column_values_to_not_be_null", {"column": "size"}),
        ("expect_column_values_to_be_in_set", {"column": "kind", "value_set": ["a", "b"]}),
    ]
