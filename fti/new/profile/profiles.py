"""What is in a table: the values that `profile` returns and that a project is generated from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from fti.errors import DataError
from fti.tables.findings import Finding
from fti.tables.spec import TableSpec

Kind = Literal["numeric", "categorical", "boolean", "datetime", "text", "identifier", "constant", "empty", "other"]
Role = Literal["entity", "timestamp", "label", "feature", "left out"]
Task = Literal["binary", "multiclass", "regression"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column. Shares are of all rows; statistics are of the sampled rows (`Profile.sampled`)."""

    name: str
    """As in the table."""
    identifier: str
    """As in generated code: a Feast feature name, a Python identifier."""
    dtype: str
    """Polars type of the values that `read` gives, as text: `Int64`, `String`, `Datetime(...)`..."""
    kind: Kind
    """`identifier`: (nearly) one value per row, or a key by its name; `text`: long or hardly repeated words;
    `constant`: one value; `empty`: only nulls; `other`: lists, structs, bytes, durations, clock times."""
    role: Role
    """`feature`: a model may use it. `left out`: `reason` says why."""
    reason: str
    """Why it is left out; empty for all other roles."""
    nulls: float
    """Share of nulls, exact."""
    distinct: int
    """Number of different values, null not counted; exact when all rows were sampled."""
    infinite: int
    """Number of infinite values, exact."""
    whole: bool
    """Numbers only: every finite value is a whole number that a float holds, exact."""
    least: Any
    """Smallest and largest value of numbers and times, exact; None for other kinds."""
    most: Any
    mean: float | None
    """Numbers only, of the finite values; so are `deviation`, `quantiles` and `histogram`."""
    deviation: float | None
    quantiles: tuple[float, ...]
    """At 1, 25, 50, 75 and 99 %; empty for all but numbers."""
    histogram: tuple[int, ...]
    """Rows in ten bins of equal width between the 1 and 99 % quantiles, values outside in the end bins."""
    top: tuple[tuple[Any, float], ...]
    """Up to five most frequent values and their shares of the non-null rows; numbers only up to 50 distinct."""
    example: str
    """One value, cut to 40 letters; empty when all are null."""


@dataclass(frozen=True, kw_only=True)
class Entities:
    """Rows by entity. For a table of over `SAMPLE_CELLS` cells they are of whole entities chosen by hash."""

    num_entities: int
    """Estimated when not all rows were sampled."""
    median_rows: float
    max_rows: int
    kind: Literal["snapshot", "events"]
    """`snapshot`: about one row per entity (the mean is under 1.5): as-of values fit. `events`: several rows per
    entity: windowed aggregates fit."""
    duplicates: int
    """Rows beyond the first of one (entity, time), in the sample; without a timestamp of one entity."""
    backwards: int
    """Rows whose time is before the time of the entity's previous row in the file."""
    null_keys: int
    """Rows without a value in an entity column; a project drops them."""
    at_once: int
    """Most rows that one entity has at one time."""
    median_gap: timedelta | None
    """Median time between neighbouring rows of an entity; None without times, or when no entity has two."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """The timestamp column. All moments are UTC."""

    start: datetime
    end: datetime
    """The newest row's."""
    granularity: Literal["one moment", "yearly", "monthly", "weekly", "daily", "hourly", "irregular"]
    """The coarsest grid that all times lie on."""
    naive: bool
    """True when the column names no time zone: its times are taken as UTC."""
    nulls: float
    """Share of rows without a time, those that could not be parsed included; a project drops them."""
    num_times: int
    """Number of different moments in the sample."""
    busiest: Sequence[tuple[int, int]] = ()
    """(days, most rows in so many neighbouring days), shortest first; estimated when not all rows were sampled."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The label column and what kind of model it asks for."""

    name: str
    task: Task
    why: str
    """Why this task, in half a sentence."""
    classes: tuple[Any, ...]
    """Values of a binary or multiclass label; for binary (negative, positive). Empty for regression."""
    shares: tuple[float, ...]
    """Share of each class among the rows with a label."""
    nulls: float
    """Share of rows without a label."""
    unknown_from: datetime | None
    """From this moment on the label is null: not yet known. None when its nulls are no matter of time."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Where training, validation and test rows part; `Dataset` takes `start`, `until` and the two lengths.

    By time: train `[start, validation)`, validation `[validation, test)`, test `[test, until)`, UTC. At random
    (`by_time` false: no timestamp, or too few moments) the moments are None and the shares hold."""

    by_time: bool
    start: datetime | None
    validation: datetime | None
    test: datetime | None
    until: datetime | None
    shares: tuple[float, float, float]
    """Of the rows with a label: train, validation, test."""
    guess: float = 0.0
    """Of a label of numbers: R2 on the test rows of the training rows' mean. Far below 0 where the level moves."""
    seed: int = 7


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A table, ready to become a project, unless `errors` is not empty."""

    spec: TableSpec
    """How to read it; `spec.columns` has every column."""
    rows: int
    sampled: int
    """Rows that statistics were made of; equal to `rows` when the table is small enough."""
    entity: tuple[str, ...]
    """Empty: every row is an entity of its own."""
    timestamp: str | None
    """None: the table has no time; a project gives every row one constant moment and splits at random."""
    columns: tuple[Column, ...]
    entities: Entities
    times: Times | None
    target: Target
    split: Split
    findings: tuple[Finding, ...]
    """Errors first, then warnings, then hints."""
    sample: float = 1.0
    """Share of the entities whose rows a project reads, so that a day fits into memory."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """Column -> its value in one row, the newest sampled one whose label is known."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """Findings that stop: no project can be made."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that a model may use, in the table's order."""
        return tuple(column for column in self.columns if column.role == "feature")

    @property
    def identifiers(self) -> Mapping[str, str]:
        """Column -> its name in generated code."""
        return {column.name: column.identifier for column in self.columns}

    def column(self, name: str) -> Column:
        """The column called `name` in the table."""
        return next(column for column in self.columns if column.name == name)

    def require_usable(self) -> None:
        """Raise `DataError` with the first error, in one or two sentences."""
        for finding in self.errors:
            raise DataError(f"{finding.message} {finding.remedy}")
