"""Read a table again, exactly as its profile was made: pure in its arguments, with the time range pushed down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from fti.errors import DataError, NotReadyError
from fti.tables.csv_file import raw_csv
from fti.tables.findings import listed
from fti.tables.json_lines import scan_lines
from fti.tables.spec import AS_STORED, TEXT_FORMATS, TableSpec, utc
from fti.tables.strict import typed
from fti.tables.typed_copy import typed_copy
from fti.times import UTC_TIME
from fti.versions.fingerprint import unit_hashes

LARGE = 1 << 28
"""Bytes of text from which on a typed copy pays."""
PACKED = (".gz", ".zst")
BATCH_CELLS = 2_000_000


def read(
    spec: TableSpec,
    *,
    columns: Sequence[str] | None = None,
    time: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    number: str | None = None,
    sample: float = 1.0,
    drawn_by: Sequence[str] = (),
) -> pl.DataFrame:
    """The rows of `spec` with `start <= time < end` (both UTC-aware), in the table's own order.

    `columns` are names of `spec.columns` (all without it); `time` is one of them and comes back as UTC datetimes, as do
    all datetimes. A table without a time is read whole. A value that its rule cannot read is a `DataError`. `number`
    names a column to add: the row's place in the table, from 0. Of a `sample` below 1 it is that share of the rows,
    chosen by a hash of the columns `drawn_by`. Large text files are read once and kept typed (`fti.tables.typed_copy`).
    Columns that the table no longer has, a file that is gone or cannot be read: `DataError` or `NotReadyError` in one
    sentence.
    """
    names = [*(spec.columns if columns is None else columns), *([number] if number else [])]
    wanted = spec.only(name for name in dict.fromkeys([*names, *([time] if time else [])]) if name != number)
    whole = _Typed(wanted, time, number=number, sample=sample, drawn_by=tuple(drawn_by))
    part = replace(whole, start=start, end=end)
    with plain_errors(spec):
        if spec.format == "database":
            from fti.tables.database import fetch

            span = {} if number else {"start": start, "end": end}
            return part.of(fetch(wanted, time=time, **span).lazy()).collect().select(names)
        if is_text(spec) and num_bytes(spec) >= LARGE:
            copy = typed_copy(local_files(spec.path), repr(whole), whole.parts())
            return copy.filter(bounds(time, UTC_TIME, start, end)).select(names).collect(engine="streaming")
        return pl.concat(part.parts()).select(names)


@dataclass(frozen=True)
class _Typed:
    """The rows of a table with times in UTC, cut to `[start, end)`, with their numbers under a name, and drawn."""

    spec: TableSpec
    time: str | None
    start: datetime | None = None
    end: datetime | None = None
    number: str | None = None
    sample: float = 1.0
    drawn_by: tuple[str, ...] = ()

    def parts(self) -> Iterator[pl.DataFrame]:
        """The rows in order, at first an empty part."""
        frame = raw(self.spec)
        _require_columns(self.spec, frame)
        frame = frame.select(name for name in frame.collect_schema() if name in self.spec.columns)
        yield self.of(frame.head(0)).collect()
        if is_text(self.spec) or self._is_parsed(frame):
            first = 0
            for batch in batches(frame, self.spec):
                yield self.of(batch.lazy(), first).collect()
                first += batch.height
        elif self.sample < 1:
            yield from (drawn(part, self.sample, self.drawn_by) for part in batches(self._rows(frame, 0), self.spec))
        else:
            yield self._rows(frame, 0).collect(engine="streaming")

    def of(self, frame: pl.LazyFrame, first: int = 0) -> pl.LazyFrame:
        """The rows of a raw frame, the first of which is number `first`."""
        rows = self._rows(frame, first)
        return rows if self.sample >= 1 else drawn(rows.collect(), self.sample, self.drawn_by).lazy()

    def _is_parsed(self, frame: pl.LazyFrame) -> bool:
        """Whether values are made of others, so that one may not be readable."""
        stored = frame.collect_schema()
        return any(self.spec.is_parsed(name, stored[name]) for name in self.spec.columns)

    def of_part(self, part: pl.DataFrame, first: int) -> pl.LazyFrame:
        """The rows of a raw part, each value read or refused."""
        made = typed(self.spec, part, first)
        return (made.with_row_index(self.number, offset=first) if self.number else made).lazy()

    def _rows(self, frame: pl.LazyFrame, first: int) -> pl.LazyFrame:
        stored, time = frame.collect_schema(), self.time
        _require_columns(self.spec, frame)
        if is_text(self.spec) or self._is_parsed(frame):
            return self._in_utc(self.of_part(frame.collect(), first))
        if self.number:
            frame = frame.with_row_index(self.number, offset=first)
        if time and self.spec.columns[time] == AS_STORED and stored[time].is_temporal():
            inside = bounds(time, stored[time], self.start, self.end)
            frame = frame.filter(inside)  # before any cast: row groups can be skipped
        return self._in_utc(self.spec.typed(frame, [self.number] if self.number else []))

    def _in_utc(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Typed rows with their moments in UTC, cut to the time range."""
        schema, time = rows.collect_schema(), self.time
        moments = {name: dtype for name, dtype in schema.items() if isinstance(dtype, pl.Datetime) or name == time}
        rows = rows.with_columns(utc(pl.col(name), dtype).alias(name) for name, dtype in moments.items())
        return rows.filter(bounds(time, UTC_TIME, self.start, self.end))


def drawn(rows: pl.DataFrame, sample: float, by: Sequence[str]) -> pl.DataFrame:
    """The rows whose hash of the columns `by` is below `sample`: of one entity all or none."""
    keys = rows.select(by).unique()
    wanted = keys.filter(pl.Series(unit_hashes(keys, b"sample") < sample))
    return rows.join(wanted, on=list(by), how="semi", nulls_equal=True, maintain_order="left")


def _require_columns(spec: TableSpec, frame: pl.LazyFrame) -> None:
    """Raise DataError when the table has lost a column of `spec`."""
    stored = frame.collect_schema().names()
    lost = [name for name in spec.columns if name not in stored]
    if lost:
        raise DataError(
            f"{place(spec)} has no column {lost[0]!r} any more: it has {listed(stored, 12)}. Bring it back, or say in "
            "the project's TABLE what it is called now (`of=`)."
        )


def batches(frame: pl.LazyFrame, spec: TableSpec) -> Iterator[pl.DataFrame]:
    """The rows of a raw frame in parts of about two million cells, in order.

    Types are made part by part: the streaming engine parses a CSV faster than it converts the texts, and holds what
    waits in between, up to three times the file.
    """
    with plain_errors(spec):
        size = max(1_000, BATCH_CELLS // max(1, len(frame.collect_schema())))
        yield from frame.collect_batches(chunk_size=size, engine="streaming")


def spread(batch: pl.DataFrame, first: int, most: int, num_rows: int) -> pl.DataFrame:
    """Rows chosen by the hash of their position, `most` of `num_rows`; all when there are no more."""
    if num_rows <= most:
        return batch
    positions = pl.int_range(first, first + batch.height, eager=True)
    return batch.filter(positions.hash(7) % num_rows < most)


def scan(spec: TableSpec, frame: pl.LazyFrame) -> pl.LazyFrame:
    """The columns of `spec`, typed, of its raw rows; times that name a zone are in UTC, the others as they are."""
    return spec.typed(frame)


def bounds(time: str | None, stored: pl.DataType, start: datetime | None, end: datetime | None) -> pl.Expr:
    """`start <= time < end` in the type that is stored; a date is the midnight it begins with."""
    if time is None:
        return pl.lit(True)
    zone = stored.time_zone if isinstance(stored, pl.Datetime) else None
    column = pl.col(time) if isinstance(stored, pl.Datetime) else pl.col(time).cast(pl.Datetime("us"))

    def edge(moment: datetime) -> pl.Expr:
        literal = pl.lit(moment.astimezone(UTC).replace(tzinfo=None), dtype=pl.Datetime("us"))
        return literal.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else literal

    after = column >= edge(start) if start else pl.lit(True)
    return after & (column < edge(end)) if end else after


def raw(spec: TableSpec) -> pl.LazyFrame:
    """The file's own columns: text formats as strings, other formats as stored; headers made unique."""
    if spec.format in ("parquet", "ipc"):
        scan = pl.scan_parquet if spec.format == "parquet" else pl.scan_ipc
        files = _present(spec.path)
        return scan(files, glob=False) if files else scan(spec.path)
    if spec.format == "csv":
        return raw_csv(spec, _present(spec.path))
    if spec.format == "database":
        from fti.tables.database import fetch

        return fetch(spec).lazy()
    return scan_lines(spec.path, _present(spec.path), spec.columns)


def num_bytes(spec: TableSpec) -> int:
    """Size of the table's local files, about as large as they are unpacked; 0 where there are none."""
    sizes = ((Path(path).stat().st_size, path.endswith(PACKED)) for path in local_files(spec.path))
    return sum(size * (8 if packed else 1) for size, packed in sizes)


def _present(pattern: str) -> list[str]:
    """The files of a local path or glob, one at least; none of an address, which polars reads itself."""
    files = local_files(pattern)
    if files or "://" in pattern:
        return files
    raise NotReadyError(f"There is no {pattern} any more. Put it back, or change the path in the project's file.")


def local_files(pattern: str) -> list[str]:
    """The files of a path or glob, in name order."""
    import glob

    if Path(pattern).is_file():
        return [pattern]
    return sorted(path for path in glob.glob(pattern, recursive=True) if Path(path).is_file())


def collect(frame: pl.LazyFrame, spec: TableSpec) -> pl.DataFrame:
    """The rows of a lazy frame over `spec`, by the streaming engine; failures in one sentence."""
    with plain_errors(spec):
        return frame.collect(engine="streaming")


@contextmanager
def plain_errors(spec: TableSpec) -> Iterator[None]:
    """Turns what polars and the file system raise into `DataError` and `NotReadyError`."""
    try:
        yield
    except FileNotFoundError:
        raise NotReadyError(f"There is no {place(spec)}. Check the path.") from None
    except PermissionError:
        raise NotReadyError(f"{place(spec)} may not be read by this user. Change its permissions.") from None
    except pl.exceptions.NoDataError:
        raise DataError(f"{place(spec)} is empty. Give a table with rows.") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{place(spec)} cannot be read as {spec.format}: {reason(error)}.") from None
    except pl.exceptions.PanicException as error:
        raise DataError(f"{place(spec)} cannot be read as {spec.format}: {reason(error)}.") from None


def place(spec: TableSpec) -> str:
    """What the table is called in messages."""
    return spec.path or f"The query on {spec.url}"


def reason(error: BaseException) -> str:
    """The first line of an error, with the remedy for the frequent ones."""
    line = (str(error).strip().splitlines() or ["unknown reason"])[0].rstrip(".:")
    if "found more fields" in line:
        return "a line has more fields than the header, so check its quotes and separators"
    if "invalid utf-8" in line.lower():
        return "it holds bytes that are not UTF-8, so convert it with `iconv -t utf-8`"
    return line[:200]


def is_text(spec: TableSpec) -> bool:
    """Whether the format stores everything as text, so that types are inferred."""
    return spec.format in TEXT_FORMATS
