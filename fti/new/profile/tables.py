"""Open any table: what format it has, how its texts are read, and what is odd about that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import polars as pl

from fti.errors import DataError
from fti.new.profile import guesses
from fti.new.profile.files import file_spec
from fti.new.profile.words import Words
from fti.tables import json_lines, read
from fti.tables.csv_file import repeated
from fti.tables.database import database_spec
from fti.tables.findings import Finding, hint, listed, warning
from fti.tables.names import identifiers, require_column
from fti.tables.spec import JSON, TableSpec, is_rule
from fti.tables.strict import typed

HELD_BYTES = 192 << 20
"""A smaller CSV is read once and held as texts, at about five times its size."""


@dataclass(frozen=True, kw_only=True)
class OpenedTable:
    """A table that can be read."""

    spec: TableSpec
    """How it is read again; `spec.columns` names every column, in the table's order."""
    raw: pl.LazyFrame
    """All rows as stored: of text formats, texts."""
    identifiers: Mapping[str, str]
    """Column -> its name in generated code and in Feast."""
    num_rows: int
    notes: tuple[Finding, ...]
    """What was assumed in reading it, but for missing values."""
    missing: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Column -> texts that were guessed to mean a missing value, with their rows."""
    asked: frozenset[str] = frozenset()
    """Columns whose rule was said."""
    words: Mapping[str, Words] = field(default_factory=dict, repr=False)
    """The different texts of the columns that are stored as text."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was assumed in reading it."""
        return (*self.notes, *guesses.missing_notes(self.missing))

    @property
    def scan(self) -> pl.LazyFrame:
        """All rows, typed; column names as in the table."""
        return read.scan(self.spec, self.raw)

    def batches(self) -> Iterator[pl.DataFrame]:
        """All rows, typed, in order, part by part."""
        first = 0
        for batch in read.batches(self.raw, self.spec):
            yield typed(self.spec, batch, first)
            first += batch.height

    def retyped(self, name: str, how: str, missing: Sequence[str] = (), *notes: Finding) -> OpenedTable:
        """The same table with another rule for one column, and other findings about it."""
        marks = {other: texts for other, texts in self.spec.missing.items() if other != name}
        spec = replace(
            self.spec,
            columns={**self.spec.columns, name: how},
            missing={**marks, **({name: tuple(missing)} if missing else {})},
        )
        others = tuple(found for found in self.notes if found.columns != (name,))
        guessed = {other: texts for other, texts in self.missing.items() if other != name}
        return replace(self, spec=spec, notes=(*others, *notes), missing=guessed)


def open_table(
    data: str,
    *,
    query: str | None = None,
    rules: Mapping[str, str] | None = None,
    missing: Mapping[str, Sequence[str]] | None = None,
) -> OpenedTable:
    """The table at `data`: a file, folder or glob of CSV (also packed with gzip or zstd), Parquet, JSON Lines, JSON
    or Arrow, an `s3://` address of these, a SQLAlchemy URL with a `query`, or `env:NAME`, the environment variable
    that holds such a URL.

    `rules` says how columns are read (`TableSpec.columns`) and `missing` which of their texts mean a missing value; the
    rest is guessed of a CSV, and kept of other formats. Raises `NotReadyError` (not there, not allowed) and
    `DataError` (empty, unreadable, mixed, unknown, a value that its rule cannot read), each with its remedy.
    """
    if data.startswith("env:") or ("://" in data and not data.startswith(("s3://", "gs://", "az://", "file://"))):
        spec = database_spec(data, query)
    elif query is not None:
        raise DataError(f"--query is for databases, and {data} is a file: leave --query out, or name a database URL.")
    else:
        spec = file_spec(data.removeprefix("file://"))
    spec, frame, names, notes = _columns(spec)
    rules, missing = rules or {}, missing or {}
    _require_known(names, rules, missing)
    if spec.format == "csv" and 0 < read.num_bytes(spec) <= HELD_BYTES:
        frame = read.collect(frame, spec).lazy()
    num_rows = _num_rows(frame, spec, names[0])
    if not num_rows:
        raise DataError(f"{read.place(spec)} has columns but no rows. Give a table with rows.")
    asked = replace(spec, missing={name: tuple(texts) for name, texts in missing.items()})
    found = guesses.rules(frame, asked, rules)
    return OpenedTable(
        spec=found.spec,
        raw=frame,
        identifiers=identifiers(names),
        num_rows=num_rows,
        notes=(*notes, *found.notes, *_name_notes(names)),
        missing=found.missing,
        asked=frozenset(rules),
        words=found.words,
    )


def _require_known(names: Sequence[str], rules: Mapping[str, str], missing: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError for a column that the table does not have, and for a rule that there is not."""
    for option, columns in (("as", rules), ("missing", missing)):
        for name in columns:
            require_column(name, names, role=option)
    for name, how in rules.items():
        if not is_rule(how):
            raise DataError(
                f"--as {name}={how}: there is no such rule. Take text, `as stored`, integer, number, boolean, "
                "`number 1.234,5`, `number 1,234.5`, `date %d.%m.%Y`, `time %Y-%m-%d %H:%M:%S` or `epoch s`."
            )


def _num_rows(frame: pl.LazyFrame, spec: TableSpec, name: str) -> int:
    """Number of rows; a CSV's by its parts, because counting alone would map the whole file into memory."""
    if spec.format == "csv":
        return sum(batch.height for batch in read.batches(frame.select(name), spec))
    return int(read.collect(frame.select(pl.len()), spec).item())


def _columns(spec: TableSpec) -> tuple[TableSpec, pl.LazyFrame, list[str], list[Finding]]:
    """The spec with the types of JSON, the raw rows, the names of their columns, and what was odd about the file."""
    notes = []
    if spec.encoding != "utf-8":
        message = f"The file is not UTF-8; it is read as {spec.encoding}."
        notes.append(hint("encoding", message, "Look at a word with an accent; convert the file if it looks wrong."))
    if spec.format == "csv" and not spec.header:
        message = "The first line looks like a row, not like a header; the columns are called `column_1`, `column_2`..."
        notes.append(warning("no_header", message, "Write a header line if you know the names."))
    with read.plain_errors(spec):
        if spec.format in JSON:
            spec = replace(spec, columns=json_lines.inferred(spec.path, read.local_files(spec.path)))
        frame = read.raw(spec)
        names = frame.collect_schema().names()
    if not names:
        raise DataError(f"{read.place(spec)} has no columns. Give a table with rows.")
    return spec, frame, names, [*notes, *(_header_notes(names) if spec.format == "csv" and spec.header else [])]


def _header_notes(names: list[str]) -> list[Finding]:
    """Names that the header of a CSV has twice."""
    again = repeated(names)
    if not again:
        return []
    message = f"The header has a name more than once, or two that look so: {listed(again)} is a column of its own."
    return [warning("repeated_names", message, "Look whether you mean the first one, or rename it.", *again)]


def _name_notes(names: list[str]) -> list[Finding]:
    """Names that the file had twice or not at all, and names that generated code cannot use."""
    changed = [name for name, safe in identifiers(names).items() if name != safe]
    if not changed:
        return []
    message = f"{listed(changed, 3)} cannot be a name in Feast and Python as written."
    each = "each" if len(changed) > 1 else "it"
    return [hint("renamed", message, f"The project uses a plain name for {each}; the table keeps its own.", *changed)]
