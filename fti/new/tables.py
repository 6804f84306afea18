"""Open any table: what format it has, how its texts are read, and what is odd about that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from fti.errors import DataError
from fti.new import read
from fti.new.database import database_spec
from fti.new.dates import is_ambiguous
from fti.new.files import file_spec
from fti.new.findings import Finding, hint, listed, warning
from fti.new.infer import Fit, fits, mostly_numbers, read_fits, rules, settled, unread
from fti.new.names import identifiers
from fti.new.spec import AS_STORED, DATE, INTEGER, TEXT, TIME, TableSpec

ZONE = r"(Z|[+-]\d{2}(?::?\d{2})?)\s*$"
SAMPLE_CELLS = 1_000_000
"""Cells of the rows that types are inferred from; every row's values are then counted against them."""
SAMPLE_BYTES = 1 << 28
HELD_BYTES = 192 << 20
"""A smaller CSV is read once and held as texts, at about five times its size."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that can be read."""

    spec: TableSpec
    """How it is read again; `spec.columns` names every column, in the table's order."""
    raw: pl.LazyFrame
    """All rows as stored: of text formats, texts."""
    identifiers: Mapping[str, str]
    """Column -> its name in generated code and in Feast."""
    num_rows: int
    findings: tuple[Finding, ...]
    """What was assumed in reading it."""

    @property
    def scan(self) -> pl.LazyFrame:
        """All rows, typed; column names as in the table."""
        return read.scan(self.spec, self.raw)

    def batches(self) -> Iterator[pl.DataFrame]:
        """All rows, typed, in order, part by part."""
        for batch in read.batches(self.raw, self.spec):
            yield read.scan(self.spec, batch.lazy()).collect()

    def retyped(self, name: str, how: str) -> Table:
        """The same table with another rule for one column."""
        spec = replace(self.spec, columns={**self.spec.columns, name: how})
        return replace(self, spec=spec)


def open_table(data: str, *, query: str | None = None) -> Table:
    """The table at `data`: a file, folder or glob of CSV (also packed with gzip or zstd), Parquet, JSON Lines, JSON
    or Arrow, an `s3://` address of these, a SQLAlchemy URL with a `query`, or `env:NAME`, the environment variable
    that holds such a URL.

    Raises `NotReadyError` (not there, not allowed) and `DataError` (empty, unreadable, mixed, unknown), each in one
    sentence with its remedy. The table is read lazily; its texts are counted once over all rows.
    """
    if data.startswith("env:") or ("://" in data and not data.startswith(("s3://", "gs://", "az://", "file://"))):
        spec = database_spec(data, query)
    else:
        spec = file_spec(data.removeprefix("file://"))
    frame, names, notes = _columns(spec)
    if spec.format == "csv" and 0 < read.num_bytes(spec) <= HELD_BYTES:
        frame = read.collect(frame, spec).lazy()
    num_rows = _num_rows(frame, spec, names[0])
    if not num_rows:
        raise DataError(f"{read.place(spec)} has columns but no rows. Give a table with rows.")
    how, more = _rules(frame, spec, names, num_rows)
    found = (*notes, *more, *_name_notes(names))
    return Table(
        spec=replace(spec, columns=how), raw=frame, identifiers=identifiers(names), num_rows=num_rows, findings=found
    )


def _num_rows(frame: pl.LazyFrame, spec: TableSpec, name: str) -> int:
    """Number of rows; a CSV's by its parts, because counting alone would map the whole file into memory."""
    if spec.format == "csv":
        return sum(batch.height for batch in read.batches(frame.select(name), spec))
    return int(read.collect(frame.select(pl.len()), spec).item())


def _columns(spec: TableSpec) -> tuple[pl.LazyFrame, list[str], list[Finding]]:
    """The raw rows, the names of their columns, and what was odd about the file."""
    notes = []
    if spec.encoding != "utf-8":
        message = f"The file is not UTF-8; it is read as {spec.encoding}."
        notes.append(hint("encoding", message, "Look at a word with an accent; convert the file if it looks wrong."))
    if spec.format == "csv" and not spec.header:
        message = "The first line looks like a row, not like a header; the columns are called `column_1`, `column_2`..."
        notes.append(warning("no_header", message, "Write a header line if you know the names."))
    with read.plain_errors(spec):
        if spec.format in ("json", "jsonl"):
            spec = replace(spec, columns=dict.fromkeys(_keys(spec), TEXT))
        frame = read.raw(spec)
        names = frame.collect_schema().names()
    if not names:
        raise DataError(f"{read.place(spec)} has no columns. Give a table with rows.")
    return frame, names, notes


def _keys(spec: TableSpec) -> list[str]:
    """The keys of JSON objects: of all in a file up to 256 MiB, of the first 100,000 in a larger one."""
    files = read.local_files(spec.path)
    if spec.format == "jsonl":
        small = sum(Path(path).stat().st_size for path in files) < SAMPLE_BYTES and bool(files)
        return pl.scan_ndjson(spec.path, infer_schema_length=None if small else 100_000).collect_schema().names()
    keys: dict[str, None] = {}
    for path in files:
        if Path(path).stat().st_size > read.MAX_IN_MEMORY:
            raise DataError(f"{path} is a JSON array of over 1 GiB: convert it to JSON Lines (`jq -c '.[]'`).")
        keys |= dict.fromkeys(pl.read_json(path, infer_schema_length=None).columns)
    return list(keys)


def _rules(
    frame: pl.LazyFrame, spec: TableSpec, names: list[str], num_rows: int
) -> tuple[dict[str, str], list[Finding]]:
    """How each column is read, and what to say about it."""
    schema = frame.collect_schema()
    texts = [name for name in names if schema[name] in (pl.String, pl.Categorical, pl.Enum)]
    how = {name: TEXT if name in texts else AS_STORED for name in names}
    texts = [name for name in texts if schema[name] == pl.String]
    if not texts:
        return how, []
    sample, whole = _sample(frame.select(texts), spec, num_rows)
    chosen = rules(sample)
    typed = {name: rule for name, rule in chosen.items() if rule != TEXT}
    measured = _measured(sample.lazy() if whole else frame, typed, spec)
    notes: list[Finding] = []
    for name in texts:
        rule, found = settled(name, typed[name], measured[name]) if name in typed else (TEXT, [])
        how[name] = rule
        notes += found or _text_notes(sample[name], rule, spec)
    return how, notes


def _measured(frame: pl.LazyFrame, typed: Mapping[str, str], spec: TableSpec) -> dict[str, Fit]:
    """How well the rules of `typed` read the texts of all rows; closely looked at only where they miss some."""
    measured = dict.fromkeys(typed, Fit(known=0, failed=0, as_number=0, examples=()))
    if not typed:
        return measured
    for batch in read.batches(frame.select(list(typed)), spec):
        missed = unread(batch.lazy(), typed).collect().row(0, named=True)
        doubtful = {name: how for name, how in typed.items() if missed[name]}
        read_all = {name: batch[name].count() - missed[name] for name in typed}
        counts = fits(batch.lazy(), doubtful).collect().row(0, named=True) if doubtful else {}
        found = read_fits(counts, list(doubtful))
        for name, rest in read_all.items():
            fine = Fit(known=rest, failed=0, as_number=rest, examples=())
            measured[name] = measured[name].plus(found.get(name, fine))
    return measured


def _sample(frame: pl.LazyFrame, spec: TableSpec, num_rows: int) -> tuple[pl.DataFrame, bool]:
    """Rows spread over the whole table, and whether they are all of its rows."""
    width = len(frame.collect_schema())
    head = read.collect(frame.head(2_000), spec)
    most = min(SAMPLE_CELLS // width, int(SAMPLE_BYTES / max(1.0, head.estimated_size() / max(1, head.height))))
    if num_rows <= max(most, 2_000):
        return read.collect(frame, spec), True
    parts, first = [], 0
    for batch in read.batches(frame, spec):
        parts.append(read.spread(batch, first, most, num_rows))
        first += batch.height
    return pl.concat(parts), False


def _text_notes(texts: pl.Series, rule: str, spec: TableSpec) -> list[Finding]:
    """What to say about a column of texts that was read by `rule`."""
    name = texts.name
    if rule.startswith((DATE, TIME)):
        written = f"`{name}` holds dates as text, read with the format {rule[5:]!r}"
        if is_ambiguous(texts, rule):
            message = f"{written}; day and month could be swapped in every value."
            return [warning("dates_ambiguous", message, "Check one date; write dates as 2024-01-31 to be sure.", name)]
        if rule.endswith("%#z") and texts.str.extract(ZONE).drop_nulls().n_unique() > 1:
            message = f"{written}, in several time zones."
            return [warning("mixed_zones", message, "All are converted to UTC; check that none is wrong.", name)]
        return [hint("dates_as_text", f"{written}.", "Nothing to do.", name)]
    if rule == TEXT and mostly_numbers(texts):
        message = f"`{name}` mixes numbers with words; it is read as text."
        return [warning("mixed_types", message, "Clean the column if it should be numbers.", name)]
    if rule not in (TEXT, INTEGER) and spec.format not in ("csv", "json", "jsonl"):
        return [hint("numbers_as_text", f"`{name}` is stored as text, read as {rule}.", "Nothing to do.", name)]
    return []


def _name_notes(names: list[str]) -> list[Finding]:
    """Names that the file had twice or not at all, and names that generated code cannot use."""
    changed = [name for name, safe in identifiers(names).items() if name != safe]
    if not changed:
        return []
    message = f"{listed(changed, 3)} cannot be a name in Feast and Python as written."
    return [hint("renamed", message, "The project uses a plain name for each; the table keeps its own.", *changed)]
