"""A CSV file as columns of texts: its header, its encoding, and rows that are whole."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from fti.errors import DataError
from fti.tables.names import unique_header
from fti.tables.records import require_whole
from fti.tables.sniff import unpacked
from fti.tables.spec import TableSpec

MAX_IN_MEMORY = 1 << 30
"""Bytes of a file that has to be decoded as a whole, because it is not UTF-8."""


def raw_csv(spec: TableSpec, files: Sequence[str]) -> pl.LazyFrame:
    """All rows as texts, an empty cell as null and a quoted empty one as an empty text; names are unique.

    DataError for bytes of another encoding and for a row that lacks fields.
    """
    contents = [decoded(path, spec.encoding) for path in files] if spec.encoding != "utf-8" else []
    frame = pl.scan_csv(
        contents or list(files) or spec.path,
        glob=not files,
        has_header=spec.header,
        separator=spec.separator,
        quote_char=spec.quote or None,
        infer_schema=False,
    )
    names = frame.collect_schema().names()
    require_whole(files, contents, spec.separator, spec.quote, len(names))
    fresh = unique_header(_cells(names))
    if not spec.header:
        fresh = [f"column_{position}" for position in range(1, len(names) + 1)]
    return frame if fresh == names else frame.rename(dict(zip(names, fresh, strict=True)))


def _cells(names: Sequence[str]) -> list[str]:
    """The header's cells, of the names that polars made unique (`a_duplicated_0`)."""
    cells = []
    for name in names:
        stem, mark, number = name.rpartition("_duplicated_")
        cells.append(stem if mark and number.isdigit() and stem in names else name)
    return cells


def repeated(names: Sequence[str]) -> list[str]:
    """Of the names of `raw_csv` those whose cell an earlier column has as well."""
    again = (name.rpartition("_") for name in names)
    return [f"{stem}_{number}" for stem, mark, number in again if mark and number.isdigit() and stem in names]


def decoded(path: str, encoding: str) -> bytes:
    """The file at `path`, unpacked and as UTF-8. DataError where its bytes are none of `encoding`."""
    content = unpacked(path, MAX_IN_MEMORY)
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not {encoding}: byte {error.start + 1:,} is {content[error.start : error.start + 1]!r}. "
            "Convert the file with `iconv -t utf-8`."
        ) from None
    if encoding == "cp1252" and not content.isascii() and _is_utf8(content):
        raise DataError(f"{path} is UTF-8, and the project reads it as cp1252: take `encoding` out of its TableSpec.")
    return text.encode()


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
