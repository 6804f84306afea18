"""JSON Lines and JSON arrays, block by block, with the types that the values have: nothing is guessed, a value of
another type is refused by its row."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl
from polars.io.plugins import register_io_source

from fti.errors import DataError
from fti.tables.records import opened
from fti.tables.spec import AS_STORED, BOOLEAN, INTEGER, NUMBER, TEXT

BLOCK = 64 << 20
"""Bytes that are parsed at once."""
MAX_ARRAY = 1 << 30
"""Bytes of a JSON array, which is held in memory as a whole."""
GAP = re.compile(r"[ \t,]*")
EXACT = 2.0**53
"""From here on not every whole number is a float."""
TYPES: Mapping[str, pl.DataType] = {INTEGER: pl.Int64(), NUMBER: pl.Float64(), BOOLEAN: pl.Boolean()}


def inferred(path: str, files: Sequence[str]) -> dict[str, str]:
    """Key -> how its values are read, by the types of all of them: whole numbers, numbers, truth values, text, or the
    text of nested ones (`as stored`). DataError for a key whose values mix these."""
    found: dict[str, pl.DataType] = {}
    first = 0
    for content in _contents(files):
        try:
            block = pl.read_ndjson(io.BytesIO(content), infer_schema_length=None)
        except pl.exceptions.PolarsError:
            _require_types(content, {}, path, first)
            raise
        first += block.height
        for name, dtype in block.schema.items():
            before = found.get(name, pl.Null())
            if _differ(before, dtype):
                _require_types(content, {name: _rule(before)}, path, first - block.height)
            found[name] = _joined(before, dtype)
    if not files:
        found = dict(pl.scan_ndjson(path, infer_schema_length=None).collect_schema())
    return {name: _rule(dtype) for name, dtype in found.items()}


def _differ(one: pl.DataType, other: pl.DataType) -> bool:
    """Whether values of two types are no values of one: numbers and text, truth values and numbers."""
    kinds = {"number" if dtype.is_numeric() else "nested" if dtype.is_nested() else dtype for dtype in (one, other)}
    return len(kinds - {pl.Null()}) > 1


def _joined(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """The type of the values of two blocks: of numbers the wider one."""
    if one.is_numeric() and other.is_numeric():
        return max(one, other, key=lambda dtype: (dtype.is_float(), dtype == pl.Int128))
    return other if one == pl.Null() else one


def _rule(dtype: pl.DataType) -> str:
    rules = {pl.Int64(): INTEGER, pl.Float64(): NUMBER, pl.Boolean(): BOOLEAN, pl.String(): TEXT, pl.Null(): TEXT}
    return rules.get(dtype, AS_STORED)


def scan_lines(path: str, files: Sequence[str], rules: Mapping[str, str]) -> pl.LazyFrame:
    """The rows in order: numbers and truth values by their rules, all other columns as text."""
    schema = {name: TYPES.get(how, pl.String()) for name, how in rules.items()}
    if not files:
        return pl.scan_ndjson(path, schema=_strict(rules)).with_columns(pl.col(pl.Categorical).cast(pl.String))

    def source(
        columns: list[str] | None, predicate: pl.Expr | None, most: int | None, _: int | None
    ) -> Iterator[pl.DataFrame]:
        wanted = {name: rules[name] for name in columns or schema}
        first = 0
        for content in _contents(files):
            rows = _rows(content, wanted, path, first)
            first += rows.height
            if most is not None:
                rows = rows.head(most)
                most -= rows.height
            yield rows if predicate is None else rows.filter(predicate)
            if most == 0:
                return

    return register_io_source(source, schema=schema)


def _rows(content: bytes, rules: Mapping[str, str], path: str, first: int) -> pl.DataFrame:
    """The rows of whole lines, the first of which is number `first`; each value of the type of its rule."""
    own = _strict(rules)
    try:
        rows = pl.read_ndjson(io.BytesIO(content), schema=own)
    except pl.exceptions.PolarsError:
        _require_types(content, rules, path, first)
        raise
    large = [name for name, dtype in own.items() if dtype.is_float() and bool((rows[name].abs() >= EXACT).any())]
    if large:
        _require_types(content, {name: rules[name] for name in large}, path, first)
    return rows.with_columns(
        pl.col(name).cast(pl.String) for name, dtype in own.items() if isinstance(dtype, pl.Categorical)
    )


def _strict(rules: Mapping[str, str]) -> dict[str, pl.DataType]:
    """Types that take no value of another type: as strings, polars takes numbers too, as categories it does not."""
    text = pl.Categorical(pl.Categories.random())
    return {name: TYPES.get(how, pl.String() if how == AS_STORED else text) for name, how in rules.items()}


def _require_types(content: bytes, rules: Mapping[str, str], path: str, first: int) -> None:
    """Raise DataError for the first value that is not of the type of its rule, or that no float holds. A key without a
    rule has the type of its first value."""
    number, rules = first, dict(rules)
    for line in content.split(b"\n"):
        if not line.strip():
            continue
        number += 1
        try:
            row = json.loads(line, parse_constant=_refuse)
        except ValueError as error:
            raise DataError(f"{path} cannot be read as jsonl: row {number:,} is no JSON object ({error}).") from None
        for name, found in row.items() if isinstance(row, dict) else ():
            how = rules.setdefault(name, _rule_of(found)) if found is not None else TEXT
            if found is not None and not _fits(found, how):
                raise DataError(
                    f"{path}: row {number:,} of {name!r} holds {json.dumps(found)[:60]}, and other rows hold "
                    f"{'text' if how not in TYPES else how + ' values'}: write all values of it as one type."
                )


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is none of its values")


def _rule_of(found: Any) -> str:
    """The rule of a single value."""
    if isinstance(found, bool):
        return BOOLEAN
    return NUMBER if isinstance(found, int | float) else TEXT if isinstance(found, str) else AS_STORED


def _fits(found: Any, how: str) -> bool:
    """Whether a value of JSON is of the type of a rule."""
    if how == AS_STORED:
        return True
    if how == BOOLEAN:
        return isinstance(found, bool)
    if how not in TYPES:
        return isinstance(found, str)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    if isinstance(found, float):
        return how == NUMBER
    return -(2**63) <= found < 2**63 if how == INTEGER else int(float(found)) == found


def _contents(files: Iterable[str]) -> Iterator[bytes]:
    """Whole lines of the files, about `BLOCK` at a time; an array's objects as lines."""
    for path in files:
        with opened(path) as file:
            start = file.read(1)
            while start.isspace() or start in (b"\xef", b"\xbb", b"\xbf"):
                start = file.read(1)
        yield from [_lines_of_array(path)] if start == b"[" else blocks(path)


def _lines_of_array(path: str) -> bytes:
    """The objects of a JSON array, one a line. Line ends between them are no part of a text."""
    with opened(path) as file:
        text = file.read(MAX_ARRAY + 1).decode("utf-8-sig")
    if len(text) > MAX_ARRAY:
        raise DataError(f"{path} is a JSON array of over 1 GiB: convert it to JSON Lines (`jq -c '.[]'`).")
    text = text.replace("\r", " ").replace("\n", " ")
    decode, lines = json.JSONDecoder().raw_decode, []
    at = _next(text, text.index("[") + 1)
    try:
        while text[at] != "]":
            _, end = decode(text, at)
            lines.append(text[at:end])
            at = _next(text, end)
    except IndexError:
        raise DataError(
            f"{path} cannot be read as json: its array ends after {len(lines):,} objects without a ]."
        ) from None
    except ValueError as error:
        raise DataError(f"{path} cannot be read as json: after {len(lines):,} objects, {error}.") from None
    return "\n".join(lines).encode()


def _next(text: str, at: int) -> int:
    """Where the next object of an array begins, or the array ends."""
    gap = GAP.match(text, at)
    return gap.end() if gap else at


def blocks(path: str, size: int = BLOCK) -> Iterator[bytes]:
    """The bytes of a file in whole lines, about `size` at a time."""
    rest = b""
    with opened(path) as file:
        while chunk := file.read(size):
            end = chunk.rfind(b"\n") + 1
            if end:
                yield rest + chunk[:end]
            rest = chunk[end:] if end else rest + chunk
    if rest.strip():
        yield rest
