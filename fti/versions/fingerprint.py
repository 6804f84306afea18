"""Rows as a hash of their content: the same for the same rows, however they are stored and in whatever order."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fti.errors import DataError
from fti.storage.periods import LENGTHS, by_stem, end_day, first_day, midnight, period_of
from fti.versions.source_hash import LENGTH

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from fti.project import Project, Source

STATIC = "all"
"""In place of a day, for a source that has none."""
ROWS_AT_ONCE = 100_000
"""Rows that are text at once."""


def fingerprint(rows: pl.DataFrame, key: Sequence[str]) -> str:
    """Short hash of the rows, their columns and types; `key` names the columns that put them in order."""
    hashed = hashlib.sha256(repr(sorted((name, str(kind)) for name, kind in rows.schema.items())).encode())
    ordered = rows.select(sorted(rows.columns)).sort(key)
    for part in ordered.with_columns(*_told(ordered)).iter_slices(ROWS_AT_ONCE):
        text = io.BytesIO()
        part.write_ndjson(text)
        hashed.update(text.getbuffer())
    return hashed.hexdigest()[:LENGTH]


def _told(rows: pl.DataFrame) -> Iterator[pl.Series]:
    """What JSON has no words for: infinite numbers and NaN as one more column, of a name that no other has; bytes in
    place of theirs."""
    import polars as pl

    for values in rows:
        inner = _innermost(values)
        if any(own.dtype == pl.Object for own in inner):
            raise DataError(f"column {values.name!r} holds Python objects, which have no hash: make text of them.")
        if any(own.dtype == pl.Binary for own in inner):
            yield pl.Series(
                values.name, [None if value is None else repr(value) for value in values.to_list()], pl.String
            )
        elif any(own.dtype.is_float() and not (own.is_finite() | own.is_null()).all() for own in inner):
            if values.dtype.is_float():
                told = values.cast(pl.String).set(values.is_finite(), None)
            else:
                told = pl.Series([repr(value) for value in values.to_list()], dtype=pl.String)
            yield told.alias(f"{values.name}\0")


def _innermost(values: pl.Series) -> list[pl.Series]:
    """The values inside of lists and structs."""
    import polars as pl

    if isinstance(values.dtype, pl.List | pl.Array):
        return _innermost(values.explode())
    if isinstance(values.dtype, pl.Struct):
        return [own for field in values.dtype.fields for own in _innermost(values.struct.field(field.name))]
    return [values]


def unit_hashes(key: pl.DataFrame, purpose: bytes = b"") -> np.ndarray:
    """A number in [0, 1) of each row of `key`, the same on every machine and with every version of every library.
    Those of two purposes (of 16 bytes at most) have nothing to do with each other."""
    import numpy as np
    import polars as pl

    plain = key.select(pl.col(pl.Datetime).dt.epoch("us"), pl.exclude(pl.Datetime)).select(key.columns)
    texts = plain.select(pl.concat_str(pl.all().cast(pl.String).fill_null("\x00"), separator="\x1f")).to_series()
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8, person=purpose).digest() for text in texts)
    found: np.ndarray = np.frombuffer(digests, "<u8") / 2.0**64
    return found


def period_fingerprints(source: Source, rows: pl.DataFrame, periods: Iterable[str]) -> dict[str, str]:
    """UTC day or month (ISO 8601) -> fingerprint of the rows of `source` that belong to it; quiet ones included."""
    import polars as pl

    if source.timestamp is None:
        return {STATIC: fingerprint(rows, source.key)}
    empty, found = fingerprint(rows.clear(), source.key), {}
    moment = pl.col(source.timestamp).dt.convert_time_zone("UTC")
    wanted = list(periods)
    for by, every in (("day", "1d"), ("month", "1mo")):
        stems = [stem for stem in wanted if period_of(stem) == by]
        if stems:
            first = moment.dt.truncate(every).dt.date().alias("__first")
            parts = rows.with_columns(first).partition_by("__first", as_dict=True, include_key=False)
            for stem in stems:
                part = parts.get((first_day(stem),))
                found[stem] = empty if part is None else fingerprint(part, source.key)
    return {stem: found[stem] for stem in wanted}


def recorded(project: Project, lake: Any, name: str, periods: Iterable[str]) -> dict[str, str]:
    """Of a source's rows as they lie in the lake: period (or `all`) -> fingerprint; what is not there is left out."""
    source, table = project.source(name), f"{project.name}/raw/{name}"
    wanted = sorted(periods)
    if wanted == [STATIC]:
        return period_fingerprints(source, lake.load(table), [])
    days, found = lake.days(table), dict[str, str]()
    present = {name for by in LENGTHS for name in by_stem(days, by)}
    wanted = [stem for stem in wanted if stem in present]
    for group in _groups(wanted, project.chunk_days):
        rows = lake.load(table, start=midnight(first_day(group[0])), end=midnight(end_day(group[-1])))
        found |= period_fingerprints(source, rows, group)
    return found


def _groups(stems: list[str], num_days: int) -> Iterator[list[str]]:
    """Sorted periods in runs of `num_days` at most."""
    group: list[str] = []
    for stem in stems:
        if group and (end_day(stem) - first_day(group[0])).days > num_days:
            yield group
            group = []
        group.append(stem)
    if group:
        yield group
