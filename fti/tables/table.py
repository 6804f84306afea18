"""A use case that lives in one table: what its columns are, and how it is read. `fti new` writes one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl

from fti.errors import DataError
from fti.project import Expectation, RequestField, Source, expect
from fti.tables.source import read_rows
from fti.tables.spec import AS_STORED, TableSpec, usual_rule
from fti.times import UTC_TIME

__all__ = ["NO_TIME", "ONE_SERIES", "ROW_NUMBER", "UTC_TIME", "Column", "Table", "TableSpec"]

ROW_NUMBER, ONE_SERIES, NO_TIME = "row number", "one series", "no time"
"""Rules for what a table lacks: a row's number in the file, one name for all rows, one moment for all rows."""
MADE = (ROW_NUMBER, ONE_SERIES, NO_TIME)


@dataclass(frozen=True)
class Column:
    """One column of a table: what it becomes, and what is known about its values."""

    dtype: Any
    """Polars data type in the lake. Numbers are 64 bits wide, so that large counts and money survive."""
    example: Any = field(default=None, repr=False)
    """A value as JSON has it, for the request of the service's page."""
    _: KW_ONLY
    of: str = ""
    """The table's own name of it, where that is none for Python and Feast."""
    how: str = ""
    """How its value is made, see `TableSpec.columns`; empty: of a text by `dtype`, else as stored."""
    missing: tuple[str, ...] = ()
    """Texts that mean a missing value. Others that cannot be read as `dtype` or by `how` stop the reading."""
    days_before: bool = False
    """A time, which becomes days before the row's own: a date of training never comes again."""
    complete: bool = False
    """Never null: rows that are, are set aside."""
    values: tuple[Any, ...] = ()
    """All values there are: rows with others are set aside. Empty: any."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows about somebody or something at a moment: (entity, time, label, features).

    What the table does not have is made by rule: an entity by `ROW_NUMBER` or `ONE_SERIES`, a time by `NO_TIME`.
    """

    data: TableSpec
    """Where it is and how it is read; its columns are those below."""
    entity: Mapping[str, Column]
    """Join keys: whom a row is about."""
    time: Mapping[str, Column]
    """When a row became known, UTC. Rows of one entity and time are put a microsecond apart."""
    label: Mapping[str, Column]
    """What is predicted."""
    features: Mapping[str, Column]
    """The row's own features; a column that is added here is one more."""
    sample: float = 1.0
    """Share of the entities, drawn by a hash of their keys, whose rows are read: for days that memory cannot hold."""

    def __post_init__(self) -> None:
        if not 0 < self.sample <= 1:
            raise DataError(f"Table.sample is a share of the entities, over 0 and up to 1, not {self.sample}.")

    @property
    def columns(self) -> dict[str, Column]:
        """All columns by name, in the order of a row."""
        return {**self.entity, **self.time, **self.label, **self.features}

    @property
    def schema(self) -> dict[str, Any]:
        """Column -> polars data type, as `read` returns them."""
        return {name: column.dtype for name, column in self.columns.items()}

    @property
    def key(self) -> tuple[str, ...]:
        """Entity and time, which identify a row."""
        return (*self.entity, *self.time)

    def read(self, start: datetime, end: datetime) -> pl.DataFrame:
        """The rows of `[start, end)`, without copies, infinite numbers, and rows that lack entity or time."""
        (time,) = self.time
        aged = [name for name, column in self.columns.items() if column.days_before]
        stored = {name: column for name, column in self.columns.items() if column.how not in MADE}
        rows = read_rows(
            replace(
                self.data,
                columns={column.of or name: self._how(column) for name, column in stored.items()},
                missing={column.of or name: column.missing for name, column in stored.items() if column.missing},
            ),
            schema={**self.schema, **dict.fromkeys(aged, UTC_TIME)},
            entity=tuple(self.entity),
            time=time,
            start=start,
            end=end,
            names={column.of: name for name, column in stored.items() if column.of},
            series=any(column.how == ONE_SERIES for column in self.entity.values()),
            sample=self.sample,
        )
        ages = [(pl.col(time) - pl.col(name)).dt.total_microseconds() / 86_400_000_000 for name in aged]
        return rows.with_columns(age.alias(name) for name, age in zip(aged, ages, strict=True))

    def source(self, name: str, *, max_quarantined_share: float) -> Source:
        """The source `name` of these rows. Of rows that break a rule of a column, at most this share is set aside."""
        (time,) = self.time
        return Source(
            name=name,
            read=self.read,
            schema=self.schema,
            key=self.key,
            timestamp=time,
            expectations=self.expectations(),
            max_quarantined_share=max_quarantined_share,
        )

    def expectations(self) -> tuple[Expectation, ...]:
        """What `complete` and `values` of the columns say, in Great Expectations' names."""
        whole = [name for name, column in self.features.items() if column.complete]
        closed = {name: list(column.values) for name, column in self.features.items() if column.values}
        return (
            *(expect("expect_column_values_to_not_be_null", column=name) for name in whole),
            *(
                expect("expect_column_values_to_be_in_set", column=name, value_set=found)
                for name, found in closed.items()
            ),
        )

    def request(self) -> dict[str, RequestField]:
        """The fields of a prediction request: the entity, the moment if it is not now, and what the caller knows yet.

        A feature's value in the request counts; without it the entity's newest known one.
        """
        columns = self.columns
        made = {name: column for name, column in self.entity.items() if column.how == ROW_NUMBER}
        about = {
            **dict.fromkeys(self.entity, "whom the prediction is about"),
            **dict.fromkeys(made, "row number, none for a new row"),
            **dict.fromkeys(self.time, "moment of prediction, else now"),
            **dict.fromkeys(self.features, "else the newest known"),
        }
        return {
            name: RequestField(
                dtype=columns[name].dtype,
                description=text,
                example=columns[name].example,
                optional=name in made or name not in self.entity,
            )
            for name, text in about.items()
        }

    def _how(self, column: Column) -> str:
        """The rule for a column's values."""
        usual = AS_STORED if column.days_before else usual_rule(self.data.format, column.dtype)
        return column.how or usual
