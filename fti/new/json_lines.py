"""Large files of JSON Lines, read block by block: polars maps a file as a whole into memory."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence

import polars as pl
from polars.io.plugins import register_io_source

BLOCK = 64 << 20
"""Bytes that are parsed at once."""


def scan_lines(paths: Sequence[str], schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """The rows of files of JSON Lines that are not packed, in order, as `pl.scan_ndjson` gives them."""

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = {name: schema[name] for name in columns or schema}
        for path in paths:
            for block in blocks(path):
                rows = pl.read_ndjson(io.BytesIO(block), schema=wanted)
                if most is not None:
                    rows = rows.head(most)
                    most -= rows.height
                yield rows if predicate is None else rows.filter(predicate)
                if most == 0:
                    return

    return register_io_source(source, schema=schema)


def blocks(path: str, size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a file in whole lines, about `size` at a time."""
    rest = b""
    with open(path, "rb") as file:
        while chunk := file.read(size):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield rest + chunk[:end]
            rest = chunk[end:] if end else rest + chunk
    if rest.strip():
        yield rest
