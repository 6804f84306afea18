"""Rows of a CSV file that lack fields: polars fills them with nulls, here they are refused."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from fti.errors import DataError

BLOCK = 16 << 20
PACKED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


def require_whole(files: Sequence[str], contents: Sequence[bytes], separator: str, quote: str, width: int) -> None:
    """Raise DataError for the first row that has not `width` fields; blank lines are none.

    `contents` are those of files that are not UTF-8. A file is looked at once as it is, and closely only where
    separators and lines do not add up.
    """
    for at, path in enumerate(files if width > 1 else ()):
        if contents:
            _require(path, contents[at], separator, quote, width)
        else:
            stat = Path(path).stat()
            _require_file(path, stat.st_size, stat.st_mtime_ns, stat.st_ino, separator, quote, width)


@lru_cache(maxsize=4096)
def _require_file(path: str, size: int, modified: int, inode: int, separator: str, quote: str, width: int) -> None:
    _require(path, path, separator, quote, width)


def _require(path: str, source: str | bytes, separator: str, quote: str, width: int) -> None:
    with opened(source) as file:
        fits = _adds_up(file, ord(separator), ord(quote) if quote else -1, width)
    if not fits:
        _require_parsed(path, source, separator, quote, width)


def opened(source: str | bytes) -> IO[bytes]:
    """A file, unpacked if it is packed, or its content."""
    import pyarrow as pa

    if isinstance(source, bytes):
        return io.BytesIO(source)
    with Path(source).open("rb") as file:
        start = file.read(4)
    packing = next((name for magic, name in PACKED.items() if start.startswith(magic)), None)
    stream: IO[bytes] = pa.input_stream(source, compression=packing)
    return stream


def _blocks(file: IO[bytes]) -> Iterator[np.ndarray]:
    while block := file.read(BLOCK):
        yield np.frombuffer(block, dtype=np.uint8)


def _adds_up(file: IO[bytes], separator: int, quote: int, width: int) -> bool:
    """Whether there are `width - 1` separators for each line, both counted outside of quotes."""
    separators, lines, inside, last = 0, 0, 0, 0
    for block in _blocks(file):
        is_separator, is_end, quotes = block == separator, block == 10, block == quote
        last = int(block[-1])
        if inside or quotes.any():
            within = np.add.accumulate(quotes, dtype=np.uint8)
            within += np.uint8(inside)
            outside = (within & 1) == 0
            inside = int(within[-1] & 1)
            is_separator, is_end = is_separator & outside, is_end & outside
        separators += int(np.count_nonzero(is_separator))
        lines += int(np.count_nonzero(is_end))
    return separators == (lines + (last != 10)) * (width - 1)


def _require_parsed(path: str, source: str | bytes, separator: str, quote: str, width: int) -> None:
    """The same by a parser that counts the fields of every row."""
    import pyarrow as pa
    from pyarrow import csv

    found: list[Any] = []

    def note(row: Any) -> str:
        found.append(row)
        return "error"

    with opened(source) as file:
        content = file.read()
    try:
        reader = csv.open_csv(
            pa.BufferReader(content),
            read_options=csv.ReadOptions(use_threads=False, autogenerate_column_names=True),
            parse_options=csv.ParseOptions(
                delimiter=separator, quote_char=quote or False, newlines_in_values=True, invalid_row_handler=note
            ),
            convert_options=csv.ConvertOptions(column_types={f"f{at}": pa.string() for at in range(width)}),
        )
        for _ in reader:
            pass
    except pa.ArrowInvalid:
        if not found:
            return
        more = "more" if found[0].actual_columns > width else "fewer"
        text = found[0].text[:60]
        raise DataError(
            f"{path}: line {found[0].number or '?'} ({text!r}) has {found[0].actual_columns} fields, {more} fields "
            f"than the header, which has {width}. Mend the row: a field that has no value is an empty one."
        ) from None
