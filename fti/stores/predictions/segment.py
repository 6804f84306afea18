"""A segment of the prediction log: lines of JSON below a first line that names their types and guards them.

The first line is `{"check": "<bytes>-<checksum>", "columns": {name: type}}`: so many bytes of the segment are
acknowledged, and this is the CRC-32 of all of them that follow the check. Whole lines go to the end in one `write()`,
then the check is renewed in its place: who dies between the two leaves lines more than are acknowledged, which count,
and at most one torn line, which is nobody's answer. JSON has no word for NaN and infinity: a line that holds some
has them in words, in `__not_finite__`.
"""

from __future__ import annotations

import fcntl
import io
import json
import math
import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from fti.errors import DataError
from fti.files import replace_file
from fti.times import UTC_TIME

NOT_FINITE = "__not_finite__"
"""Key of a line whose value is JSON in text: column -> "NaN", "inf" or "-inf", of a list those by their place."""
FEW_ROWS = 8
_INTEGERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
_SCALARS = (pl.String, pl.Boolean, *_INTEGERS, pl.Float32, pl.Float64, pl.Date)
_LISTS = (pl.List(pl.String), pl.List(pl.Float64))
_TYPES: dict[str, pl.DataType] = {
    str(dtype): dtype for dtype in (*(scalar() for scalar in _SCALARS), UTC_TIME, *_LISTS)
}
_NARROW: dict[Any, Any] = {pl.Int8: pl.Int32, pl.Int16: pl.Int32, pl.UInt8: pl.Int32, pl.UInt16: pl.Int32}
"""Types that polars cannot read from JSON: it reads the wider ones."""
_CHECK = b'{"check": "%020d-%08x", '
_UNCHECKED = b'{"columns": {'
"""So begin the segments of versions before."""
_CHECK_BYTES = len(_CHECK % (0, 0))
ROLL_BYTES = 8 * 2**20
"""A segment that is longer is closed, and the next one begun."""
_LOCK = threading.Lock()
_open: dict[Path, tuple[int, int, int]] = {}
"""Stem of the segments that this process writes -> number of the last one, its bytes, and their checksum."""


@lru_cache(maxsize=32)
def header_of(names: tuple[str, ...], dtypes: tuple[pl.DataType, ...]) -> bytes:
    """What follows the check in the first line of a segment of these columns."""
    columns = dict(zip(names, map(str, dtypes), strict=True))
    unknown = {name: dtype for name, dtype in columns.items() if dtype not in _TYPES}
    if unknown:
        raise DataError(f"prediction log: cannot keep the columns {unknown}; cast them to one of {sorted(_TYPES)}")
    return b'"columns": ' + json.dumps(columns).encode() + b"}\n"


def lines_of(rows: pl.DataFrame) -> bytes:
    """The rows as JSON, a line each. A handful of rows is faster in Python, many are faster in polars."""
    if rows.height > FEW_ROWS and _all_finite(rows):
        buffer = io.BytesIO()
        rows.write_ndjson(buffer)
        return buffer.getvalue()
    lines = []
    for row in rows.iter_rows(named=True):
        if not math.isfinite(sum(_floats(row))) and (words := _words(row)):
            row[NOT_FINITE] = json.dumps(words)
        lines.append(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(lines)


def append_lines(stem: Path, header: bytes, lines: bytes, *, fsync: bool) -> None:
    """Append whole lines in one write to the last of the segments `<stem>.<number>.ndjson`, and acknowledge them.

    A new segment is there whole or not at all. A short write (a full disk) is taken back before the error is raised.
    """
    with _LOCK:
        number, size, checksum = _open.get(stem, (-1, 0, 0))
        if 0 < size < ROLL_BYTES and (handle := _opened(segment_path(stem, number))) is not None:
            try:
                if os.pwrite(handle, lines, size) < len(lines):
                    os.ftruncate(handle, size)
                    raise OSError(f"{segment_path(stem, number)}: the disk is full; free some space")
                size, checksum = size + len(lines), zlib.crc32(lines, checksum)
                _open[stem] = number, size, checksum
                os.pwrite(handle, _CHECK % (size, checksum), 0)
                if fsync:
                    os.fdatasync(handle)
            finally:
                os.close(handle)
            return
        number += 1
        while segment_path(stem, number).exists():
            number += 1
        size, checksum = _CHECK_BYTES + len(header) + len(lines), zlib.crc32(lines, zlib.crc32(header))
        replace_file(segment_path(stem, number), _CHECK % (size, checksum) + header + lines, durable=fsync)
        _open[stem] = number, size, checksum


def segment_path(stem: Path, number: int) -> Path:
    """Where a segment lies."""
    return stem.with_name(f"{stem.name}.{number:04d}.ndjson")


def remove_segment(path: Path, size: int) -> None:
    """Remove a segment of `size` bytes, unless a writer has it open or it has grown."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_size == size:
            path.unlink()
    except BlockingIOError:
        return
    finally:
        os.close(handle)


def _opened(path: Path) -> int | None:
    """A handle of the segment, shared with no one who would remove it; None when it was removed.

    The lock is shared, since all processes of a service may append; a `file_lock` belongs to one.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    fcntl.flock(handle, fcntl.LOCK_SH)
    if os.fstat(handle).st_nlink:
        return handle
    os.close(handle)
    return None


def read_segment(content: bytes, address: str) -> pl.DataFrame | None:
    """The records of one segment, without a torn last line; None when there is no whole record. DataError with the
    `address` when a byte of what was acknowledged is another one, or gone."""
    try:
        if not content.startswith(_UNCHECKED):
            _checked(content)
        first, last = content.find(b"\n"), content.rfind(b"\n")
        if first == last:
            return None
        names = json.loads(content[:first])["columns"]
        schema = {name: _TYPES[dtype] for name, dtype in names.items()}
        wide = {name: _NARROW.get(dtype.base_type(), dtype) for name, dtype in schema.items()}
        lines = io.BytesIO(content[first + 1 : last + 1])
        rows = pl.read_ndjson(lines, schema={**wide, NOT_FINITE: pl.String}).cast(dict(schema))
        return _with_words(rows)
    except (ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        raise DataError(
            f"{address} is damaged ({error}). Move it out of the log to go on without its records."
        ) from error


def _checked(content: bytes) -> tuple[int, int]:
    """Bytes and checksum that the first line tells; ValueError when they are not those of `content`."""
    told = content[:_CHECK_BYTES]
    size, _, checksum = told[11:-3].decode().partition("-")
    if len(told) < _CHECK_BYTES or told != _CHECK % (int(size), int(checksum, 16)):
        raise ValueError("its first line is not whole")
    if len(content) < int(size):
        raise ValueError(f"{len(content)} of {int(size)} bytes are there")
    if zlib.crc32(memoryview(content)[_CHECK_BYTES : int(size)]) != int(checksum, 16):
        raise ValueError("its checksum is another one than that of its lines")
    return int(size), int(checksum, 16)


def _floats(row: Mapping[str, Any]) -> Iterator[float]:
    for value in row.values():
        if type(value) is float:
            yield value
        elif type(value) is list:
            yield from (one for one in value if type(one) is float)


def _words(row: Mapping[str, Any]) -> dict[str, Any]:
    """Column -> its value in words, where that is not finite; of a list: place -> value in words."""
    words: dict[str, Any] = {}
    for name, value in row.items():
        if type(value) is float and not math.isfinite(value):
            words[name] = _word(value)
        elif type(value) is list:
            places = {
                place: _word(one) for place, one in enumerate(value) if type(one) is float and not math.isfinite(one)
            }
            words |= {name: places} if places else {}
    return words


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "inf" if value > 0 else "-inf"


def _all_finite(rows: pl.DataFrame) -> bool:
    """Whether all numbers are finite, by their sums: a sum that is too large says no and costs only time."""
    for column in rows.get_columns():
        numbers = column.explode() if column.dtype == pl.List(pl.Float64) else column
        if numbers.dtype.is_float() and not math.isfinite(numbers.sum() or 0.0):
            return False
    return True


def _with_words(rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` with the values that `NOT_FINITE` has in words in their columns."""
    told, rows = rows[NOT_FINITE], rows.drop(NOT_FINITE)
    values: dict[str, list[Any]] = {}
    for place in told.is_not_null().arg_true().to_list():
        for name, word in json.loads(told[place]).items():
            own = values.setdefault(name, rows[name].to_list())
            if isinstance(word, str):
                own[place] = float(word)
            else:
                for at, one in word.items():
                    own[place][int(at)] = float(one)
    return rows.with_columns(pl.Series(name, own, rows.schema[name]) for name, own in values.items())
