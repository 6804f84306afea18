"""Statistics and kinds of columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import polars as pl

from fti.new.profile.profiles import Kind

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)
KEY_NAME = re.compile(
    r"(^|[_\W])(id|ids|uuid|guid|pk|rownum|rownames|index|idx)($|[_\W])|(^|[_\W])(key|number|nr|no|row|ref)$", re.I
)
CAMEL_ID = re.compile(r"[a-z](ID|Id|Key|No|Nr)$")
CODE_NAME = re.compile(r"(code|zip|zipcode|postcode|plz|type|class|category|group|status|region|area_?code)$", re.I)
UUID = r"^\{?[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\}?$"
FEW = 50
"""A text column with at most so many values is categorical whatever its number of rows."""
UNIQUE = 0.95
TEXT_LETTERS = 50
EXACT = 2.0**53
"""From here on not every whole number is a float."""
LONGEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is counted over all rows of one column."""

    rows: int
    nulls: int
    infinite: int
    whole: bool
    """Numbers only: no fraction among the finite values, and none beyond what a float counts exactly."""
    least: Any
    most: Any


def facts(frame: pl.LazyFrame, schema: Mapping[str, pl.DataType]) -> pl.LazyFrame:
    """One row of counts over all rows, for `read_facts`."""
    counts = [pl.len().alias("rows")]
    for at, (name, dtype) in enumerate(schema.items()):
        column = pl.col(name)
        counts.append(column.null_count().alias(f"{at} nulls"))
        if dtype.is_float():
            counts.append(column.is_infinite().sum().alias(f"{at} infinite"))
            column = pl.when(column.is_finite()).then(column)
            counts.append((column % 1 != 0).sum().alias(f"{at} fractions"))
        if dtype.is_numeric() or dtype in (pl.Date, pl.Datetime):
            counts += [column.min().alias(f"{at} least"), column.max().alias(f"{at} most")]
    return frame.select(counts)


def joined(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """The counts of `facts` of several parts of a table as those of all."""
    both = pl.concat(parts)
    return both.select(_joined(name) for name in both.columns)


def _joined(name: str) -> pl.Expr:
    column = pl.col(name)
    return column.min() if name.endswith(" least") else column.max() if name.endswith(" most") else column.sum()


def read_facts(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Facts]:
    """The counts of `facts` by column."""
    return {
        name: Facts(
            rows=row["rows"],
            nulls=row[f"{at} nulls"],
            infinite=row.get(f"{at} infinite", 0),
            whole=not row.get(f"{at} fractions", 0) and _is_counted(row.get(f"{at} least"), row.get(f"{at} most")),
            least=row.get(f"{at} least"),
            most=row.get(f"{at} most"),
        )
        for at, name in enumerate(names)
    }


def _is_counted(least: Any, most: Any) -> bool:
    """Whether both ends of a column are numbers between which a float is one whole number; integers are always."""
    return all(isinstance(end, int) or (isinstance(end, float) and abs(end) < EXACT) for end in (least, most))


def kind_of(values: pl.Series, distinct: int) -> Kind:
    """The kind of a sampled column (see `Column.kind`).

    Whole numbers are `identifier` when they are unique and either dense (row numbers) or named like a key, or when
    they are named like a key and have over 50 values; `categorical` when named like a code (`zip`, `type`, `class`)
    with up to 1,000 values; `boolean` when 0 and 1. Texts are `identifier` when (nearly) unique single words or
    UUIDs, `text` when hardly repeated or long, `categorical` otherwise.
    """
    dtype, known = values.dtype, values.len() - values.null_count()
    if not known or dtype == pl.Null:
        return "empty"
    if dtype.is_nested() or dtype in (pl.Binary, pl.Duration, pl.Time, pl.Object):
        return "other"
    if dtype in (pl.UInt64, pl.Int128, pl.UInt128) and not -LONGEST <= values.min() <= values.max() <= LONGEST:  # type: ignore[operator]
        return "other"
    if distinct <= 1:
        return "constant"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype in (pl.Date, pl.Datetime):
        return "datetime"
    if dtype == pl.String:
        return _kind_of_text(values.drop_nulls(), distinct, known)
    return _kind_of_number(values, distinct, known)


def _kind_of_number(values: pl.Series, distinct: int, known: int) -> Kind:
    whole = values.dtype.is_integer() or bool((values.drop_nulls() % 1 == 0).all())
    if not whole:
        return "numeric"
    low, high = int(values.min()), int(values.max())  # type: ignore[arg-type]
    if distinct == 2 and (low, high) == (0, 1):
        return "boolean"
    key = is_key_name(values.name)
    unique = distinct >= UNIQUE * known and known >= 20
    dense = high - low < 1.05 * distinct
    if (unique and values.dtype.is_integer() and (key or dense)) or (key and distinct > FEW):
        return "identifier"
    return "categorical" if distinct <= 1_000 and (CODE_NAME.search(values.name) or key) else "numeric"


def _kind_of_text(known_values: pl.Series, distinct: int, known: int) -> Kind:
    some = known_values.head(20_000)
    if bool(some.head(200).str.contains(UUID).all()):
        return "identifier"
    letters = float(some.str.len_chars().mean() or 0)  # type: ignore[arg-type]
    spaced = float(some.str.contains(r"\s").mean() or 0)  # type: ignore[arg-type]
    share = distinct / known
    if distinct > FEW and share >= UNIQUE:
        return "identifier" if spaced < 0.1 and letters <= TEXT_LETTERS else "text"
    if distinct > FEW and is_key_name(known_values.name) and spaced < 0.1:
        return "identifier"
    if distinct > FEW and (share > 0.5 or letters > TEXT_LETTERS):
        return "text"
    return "text" if letters > 2 * TEXT_LETTERS else "categorical"


def is_key_name(name: str) -> bool:
    """Whether a column is named like a key: `id`, `customer_id`, `orderNo`, `uuid`..."""
    return bool(KEY_NAME.search(name) or CAMEL_ID.search(name))


def numbers(values: pl.Series) -> dict[str, Any]:
    """`mean`, `deviation`, `quantiles` and `histogram` of the finite values; nothing when there is none."""
    finite = values.drop_nulls().cast(pl.Float64)
    finite = finite.filter(finite.is_finite())
    if finite.is_empty():
        return {"mean": None, "deviation": None, "quantiles": (), "histogram": ()}
    ordered = finite.sort()
    last = len(ordered) - 1
    quantiles = tuple(float(ordered[round(share * last)]) for share in QUANTILES)
    low, high = quantiles[0], quantiles[-1]
    histogram: tuple[int, ...] = ()
    if high > low:
        edges = [low + (high - low) * step / 10 for step in range(1, 10)]
        ends = [0, *ordered.search_sorted(pl.Series(edges)).to_list(), len(ordered)]
        histogram = tuple(after - before for before, after in pairwise(ends))
    deviation = finite.std()
    return {
        "mean": float(finite.mean() or 0.0),  # type: ignore[arg-type]
        "deviation": None if deviation is None else float(deviation),  # type: ignore[arg-type]
        "quantiles": quantiles,
        "histogram": histogram,
    }


def top_values(values: pl.Series, most: int = 5) -> tuple[tuple[Any, float], ...]:
    """The most frequent values and their shares of the non-null rows; ties in order of the value."""
    known = values.drop_nulls()
    counts = known.value_counts(name="__count").sort(["__count", values.name], descending=[True, False]).head(most)
    return tuple((value, count / known.len()) for value, count in counts.iter_rows())


def example_of(values: pl.Series) -> str:
    """The first value as text, at most 40 letters."""
    known = values.drop_nulls()
    first = known[0] if known.len() else ""
    text = str(first.to_list() if isinstance(first, pl.Series) else first)
    return text if len(text) <= 40 else f"{text[:39]}…"
