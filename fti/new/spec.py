"""How a table is read: one value that a generated project writes down, and the meaning of its columns' texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import polars as pl

NULLS = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "NaN", "nan", "None")
"""Texts of a CSV file that mean a missing value, as pandas and R read them."""
SIGNS = "€$£¥₹"
"""Of money, before or after a number."""
TRUE_WORDS = ("true", "yes", "y", "t")
FALSE_WORDS = ("false", "no", "n", "f")
AS_STORED = "as stored"
TEXT, INTEGER, NUMBER, BOOLEAN = "text", "integer", "number", "boolean"
COMMA_NUMBER, GROUPED_NUMBER = "number 1.234,5", "number 1,234.5"
EPOCHS = {"epoch s": 1, "epoch ms": 1_000, "epoch us": 1_000_000}
"""Whole numbers that count units since 1970, with the units in a second."""
YEAR, SHORT_YEAR = "year", "year 19xx"
TEXT_FORMATS = ("csv", "jsonl", "json")
UTC_TIME = pl.Datetime("us", "UTC")
TYPED: Mapping[Any, str] = {pl.String: TEXT, pl.Int64: INTEGER, pl.Float64: NUMBER, pl.Boolean: BOOLEAN}
"""Data type -> how a text becomes one."""


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """How a table is read, the same way every time.

    `columns` maps each column that is read to how its value is made:

    `as stored`: the file's own type; `text`, `integer`, `number`, `boolean` (yes/no, true/false, y/n, t/f);
    `number 1.234,5` (decimal comma) and `number 1,234.5` (grouped); both also with a sign of money or per cent, and
    negative as `(5)`;
    `date <format>` and `time <format>` (chrono's format letters, as strptime); `epoch s|ms|us`; `year`; `year 19xx`, of
    two digits.
    A text that cannot be read so becomes null.
    """

    format: str
    """`csv`, `parquet`, `jsonl`, `json`, `ipc` or `database`."""
    path: str = ""
    """File, glob or `s3://` address; empty for a database."""
    columns: Mapping[str, str] = field(default_factory=dict)
    separator: str = ","
    quote: str = '"'
    """Quote character of a CSV; empty when it has none."""
    encoding: str = "utf-8"
    header: bool = True
    """False: the CSV's first line is a row, and columns are called `column_1`, `column_2`..."""
    url: str = ""
    """SQLAlchemy URL of a database, its password masked."""
    url_variable: str = ""
    """Environment variable that holds the URL with its password; empty when `url` has no password."""
    query: str = ""

    def only(self, names: Iterable[str]) -> TableSpec:
        """The same table with fewer columns, in the order of `names`."""
        return replace(self, columns={name: self.columns[name] for name in names})

    def code(self, indent: int = 0, lead: int = 0) -> str:
        """A Python expression of where and how it is read, without the columns, which a `fti.table.Table` lists;
        imports needed: `TableSpec`. Never holds a password."""
        from fti.new.render import call, text

        found: dict[str, str] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name != "columns" and value != item.default:
                found[item.name] = text(value) if isinstance(value, str) else repr(value)
        return call("TableSpec", found, indent=indent, lead=lead)


def usual_rule(format: str, dtype: Any) -> str:
    """How a value of `dtype` is read where a column does not say: of text formats by its type, else as stored."""
    if format in TEXT_FORMATS or dtype == pl.String:
        return TYPED.get(dtype, AS_STORED)
    return AS_STORED


def value(name: str, how: str, stored: pl.DataType) -> pl.Expr:
    """The expression that makes the column `name` of its `stored` type by the rule `how` of `TableSpec.columns`."""
    column = pl.col(name)
    if how == AS_STORED:
        return plain(column, stored)
    if how in EPOCHS or how in (YEAR, SHORT_YEAR):
        return _moment_of_number(column, how, stored).alias(name)
    if stored != pl.String:
        return _typed(column, how).alias(name)
    text = column.str.strip_chars()
    if how == TEXT:
        result = pl.when(text.is_in(NULLS)).then(None).otherwise(text)
    elif how == INTEGER:
        result = text.cast(pl.Int64, strict=False)
    elif how == BOOLEAN:
        words = dict.fromkeys(TRUE_WORDS, True) | dict.fromkeys(FALSE_WORDS, False)
        result = text.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    elif how.startswith((DATE, TIME)):
        result = _moment_of_text(text, how)
    else:
        result = number(text, how)
    return result.alias(name)


def _typed(column: pl.Expr, how: str) -> pl.Expr:
    """A column that is not text, by a rule that makes a type (`text`, `integer`, `number`, `boolean`)."""
    types: dict[str, pl.DataType | type[pl.DataType]] = {TEXT: pl.String, INTEGER: pl.Int64, BOOLEAN: pl.Boolean}
    return column.cast(types.get(how, pl.Float64), strict=False)


DATE, TIME = "date ", "time "


def number(text: pl.Expr, how: str) -> pl.Expr:
    """Floats of texts; `nan` is null, `inf` stays."""
    if how in (COMMA_NUMBER, GROUPED_NUMBER):
        signs = rf"[ {SIGNS}]*"
        text = text.str.replace(r"^\((.*)\)$", "-$1").str.replace(rf"^{signs}([+-]?){signs}", "$1")
        text = text.str.strip_chars_end(f" {SIGNS}%")
    if how == COMMA_NUMBER:
        text = text.str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    elif how == GROUPED_NUMBER:
        text = text.str.replace_all(",", "", literal=True)
    return text.cast(pl.Float64, strict=False).fill_nan(None)


def _moment_of_text(text: pl.Expr, how: str) -> pl.Expr:
    """Dates and times of texts, of a month its first day; a year outside 1000 .. 9999 is a misread two-digit year and
    becomes null."""
    kind, pattern = how[:5], how[5:]
    if kind == DATE and "%d" not in pattern:
        moment = pl.concat_str(pl.lit("1 "), text).str.strptime(pl.Date, f"%d {pattern}", strict=False)
    elif kind == DATE:
        moment = text.str.strptime(pl.Date, pattern, strict=False)
    else:
        moment = text.str.strptime(UTC_TIME if "%#z" in pattern else pl.Datetime("us"), pattern, strict=False)
        moment = moment.dt.replace_time_zone("UTC") if pattern.endswith("UTC") else moment
    return pl.when(moment.dt.year().is_between(1000, 9999)).then(moment)


def _moment_of_number(column: pl.Expr, how: str, stored: pl.DataType) -> pl.Expr:
    """UTC times of years or of units since 1970."""
    whole = (column.str.strip_chars() if stored == pl.String else column).cast(pl.Float64, strict=False)
    if how in (YEAR, SHORT_YEAR):
        whole = whole + 1900 if how == SHORT_YEAR else whole
        year = pl.when(whole.is_between(1000, 9999)).then(whole).cast(pl.Int32)
        return pl.datetime(year, 1, 1, time_zone="UTC")
    return (whole * (1_000_000 / EPOCHS[how])).cast(pl.Int64, strict=False).cast(UTC_TIME)


def plain(column: pl.Expr, stored: pl.DataType) -> pl.Expr:
    """A typed column in one of the types that profiles and projects know: decimals become floats, enums text."""
    if stored.is_decimal():
        return column.cast(pl.Float64)
    if stored.is_float():
        return column.fill_nan(None)
    if isinstance(stored, (pl.Categorical, pl.Enum)):
        return column.cast(pl.String)
    if isinstance(stored, pl.Datetime):
        return column.dt.cast_time_unit("us")
    return column


def utc(column: pl.Expr, stored: pl.DataType) -> pl.Expr:
    """Dates and times as UTC datetimes; a time without a zone is taken as UTC."""
    if isinstance(stored, pl.Datetime) and stored.time_zone is not None:
        return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
