"""How a table is read: one value that a generated project writes down, and the meaning of its columns' texts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import polars as pl

from fti.errors import DataError
from fti.times import UTC_TIME

NULLS = ("NA", "N/A", "n/a", "#N/A", "<NA>", "NULL", "Null", "null", "NaN", "nan", "None")
"""Texts that often mean a missing value; they do where the other values of a column are no words."""
SIGNS = "€$£¥₹"
"""Of money, before or after a number."""
TRUE_WORDS = ("true", "yes", "y", "t")
FALSE_WORDS = ("false", "no", "n", "f")
AS_STORED = "as stored"
DATE, TIME = "date ", "time "
TEXT, INTEGER, NUMBER, BOOLEAN = "text", "integer", "number", "boolean"
COMMA_NUMBER, GROUPED_NUMBER = "number 1.234,5", "number 1,234.5"
EPOCHS = {"epoch s": 1, "epoch ms": 1_000, "epoch us": 1_000_000}
"""Whole numbers that count units since 1970, with the units in a second."""
YEAR, SHORT_YEAR = "year", "year 19xx"
SINCE = " since "
"""Between a format with two-digit years and the first of the hundred years that they mean."""
JSON = ("jsonl", "json")
TEXT_FORMATS = ("csv", *JSON)
TYPED: Mapping[Any, str] = {pl.String: TEXT, pl.Int64: INTEGER, pl.Float64: NUMBER, pl.Boolean: BOOLEAN}
"""Data type -> how a text becomes one."""
NO_NUMBER = r"^[+-]?(0\d|\d{17}|9\d{14}[13579](\.|$)|\d+E\d+$|\d{2,}e\d+$)"
"""What no program prints for a fraction: codes such as `007`, `1E5` and `10e4`, and more digits than a float keeps."""


@dataclass(frozen=True, kw_only=True)
class TableSpec:
    """How a table is read, the same way every time.

    `columns` maps each column that is read to how its value is made:

    `as stored`: the file's own type and signs; `text` (of a CSV without the spaces around it), `integer`, `number`,
    `boolean` (yes/no, true/false, y/n, t/f);
    `number 1.234,5` (decimal comma) and `number 1,234.5` (grouped); both also with a sign of money or per cent, which
    each text has to have where the rule names it (`number 1,234.5 $`), and negative as `(5)`;
    `date <format>` and `time <format>` (chrono's format letters, as strptime), of two-digit years with the first of
    the hundred years that they mean (`date %d.%m.%y since 1930`); `epoch s|ms|us`; `year`; `year 19xx`, of two digits.
    An empty cell of a CSV and a text of `missing` are null; any other text that cannot be read so is a `DataError`.
    """

    format: str
    """`csv`, `parquet`, `jsonl`, `json`, `ipc` or `database`."""
    path: str = ""
    """File, glob or `s3://` address; empty for a database."""
    columns: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> texts that mean a missing value in it."""
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
        columns = {name: self.columns[name] for name in names}
        return replace(
            self, columns=columns, missing={name: self.missing[name] for name in columns if name in self.missing}
        )

    def rule(self, name: str, stored: pl.DataType) -> str:
        """How the column `name` is made: typed sources keep their texts as they are."""
        how = self.columns[name]
        return AS_STORED if how == TEXT and stored == pl.String and self.format != "csv" else how

    def is_parsed(self, name: str, stored: pl.DataType) -> bool:
        """Whether a value of the column is made into another one, so that it may not be readable."""
        how = self.rule(name, stored)
        kept = how == AS_STORED or (how == TEXT and stored == pl.String)
        return not kept or stored.is_decimal() or getattr(stored, "time_unit", "us") == "ns"

    def typed(self, rows: pl.LazyFrame, also: Sequence[str] = ()) -> pl.LazyFrame:
        """The columns of raw rows, each made by its rule, and those of `also` as they are."""
        stored = rows.collect_schema()
        rules = {name: self.rule(name, stored[name]) for name in self.columns}
        texts = [name for name, how in rules.items() if stored[name] == pl.String and how != AS_STORED]
        typed = [name for name in self.missing if name in rules and stored[name] != pl.String]
        if typed:
            raise DataError(
                f"Column {typed[0]!r} holds {stored[typed[0]]}, no texts: `missing` is for texts that mean a missing "
                "value. Leave it out for this column."
            )
        made = [value(name, how, stored[name], self.missing.get(name, ())) for name, how in rules.items()]
        return rows.with_columns(pl.col(texts).str.strip_chars()).select(*made, *also)

    def code(self, indent: int = 0, lead: int = 0) -> str:
        """A Python expression of where and how it is read, without the columns, which a `fti.tables.table.Table` lists;
        imports needed: `TableSpec`. Never holds a password."""
        from fti.tables.render import call, text

        found: dict[str, str] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name not in ("columns", "missing") and value != item.default:
                found[item.name] = text(value) if isinstance(value, str) else repr(value)
        return call("TableSpec", found, indent=indent, lead=lead)


def is_rule(how: str) -> bool:
    """Whether `how` is a rule of `TableSpec.columns`."""
    named = (AS_STORED, TEXT, INTEGER, NUMBER, BOOLEAN, COMMA_NUMBER, GROUPED_NUMBER, YEAR, SHORT_YEAR, *EPOCHS)
    signed = how.startswith((COMMA_NUMBER, GROUPED_NUMBER)) and how[len(COMMA_NUMBER) :].strip() in (*SIGNS, "%")
    return how in named or signed or (how.startswith((DATE, TIME)) and "%" in how)


def usual_rule(format: str, dtype: Any) -> str:
    """How a value of `dtype` is read where a column does not say: of text formats by its type, else as stored."""
    if format in TEXT_FORMATS or dtype == pl.String:
        return TYPED.get(dtype, AS_STORED)
    return AS_STORED


def value(name: str, how: str, stored: pl.DataType, missing: Sequence[str] = ()) -> pl.Expr:
    """The expression that makes the column `name` of its `stored` type by the rule `how` of `TableSpec.columns`; of
    texts without spaces around them."""
    column = pl.col(name)
    if stored != pl.String:
        return _of_typed(column, how, stored).alias(name)
    if how == AS_STORED:
        return (unmarked(column, missing) if missing else column).alias(name)
    if how == TEXT:
        return unmarked(column, ("", *missing)).alias(name)
    text = unmarked(column, missing) if missing else column
    if how == INTEGER:
        result = _integer(text)
    elif how == BOOLEAN:
        words = dict.fromkeys(TRUE_WORDS, True) | dict.fromkeys(FALSE_WORDS, False)
        result = text.str.to_lowercase().replace_strict(words, default=None, return_dtype=pl.Boolean)
    elif how in EPOCHS or how in (YEAR, SHORT_YEAR):
        result = _moment_of_number(text.cast(pl.Float64, strict=False), how)
    elif how.startswith((DATE, TIME)):
        result = _moment_of_text(text, how)
    else:
        result = number(text, how)
    return result.alias(name)


def unmarked(text: pl.Expr, missing: Sequence[str]) -> pl.Expr:
    """Texts, null where they are one of `missing`."""
    return pl.when(~text.is_in(list(missing))).then(text)


def _of_typed(column: pl.Expr, how: str, stored: pl.DataType) -> pl.Expr:
    """A column that is not text: as stored, a moment, or another type where that keeps the value; else null."""
    if how == AS_STORED or stored.is_temporal():
        return plain(column, stored)
    column = column.fill_nan(None) if stored.is_float() else column
    if how in EPOCHS or how in (YEAR, SHORT_YEAR):
        return _moment_of_number(column.cast(pl.Float64, strict=False), how)
    if how == TEXT:
        return pl.lit(None, pl.String) if stored.is_float() else column.cast(pl.String)
    types: dict[str, type[pl.DataType]] = {INTEGER: pl.Int64, BOOLEAN: pl.Boolean}
    made = column.cast(types.get(how, pl.Float64), strict=False)
    return pl.when(made.cast(stored, strict=False) == column).then(made) if stored.is_numeric() else made


def _integer(text: pl.Expr) -> pl.Expr:
    """Whole numbers of texts; digits behind a leading zero are a code, no number."""
    padded = text.str.starts_with("0") & (text.str.len_bytes() > 1)
    padded |= text.str.starts_with("-0") | text.str.starts_with("+0")
    return pl.when(~padded).then(text.cast(pl.Int64, strict=False))


def number(text: pl.Expr, how: str) -> pl.Expr:
    """Floats of texts; `inf` stays, numbers beyond all floats and what `NO_NUMBER` says are null."""
    if how != NUMBER:
        return _written_number(text, how)
    made = text.cast(pl.Float64, strict=False).fill_nan(None)
    endless = made.is_infinite() & ~pl.any_horizontal(text.str.ends_with(letter) for letter in "fyFY")
    return pl.when(~endless & ~text.str.contains(NO_NUMBER)).then(made)


def _written_number(text: pl.Expr, how: str) -> pl.Expr:
    """Floats of texts with a decimal comma, grouped digits or a sign of money or per cent, which the rule may demand
    (`number 1,234.5 $`); null for a point or comma in another place, which would make ten of one."""
    written, sign = how[: len(COMMA_NUMBER)], how[len(COMMA_NUMBER) :].strip()
    group, point = (".", ",") if written == COMMA_NUMBER else (",", ".")
    bare = text.str.replace(r"^\((.*)\)$", "-$1").str.replace(rf"^[ {SIGNS}]*([+-]?)[ {SIGNS}]*", "$1")
    bare = bare.str.strip_chars_end(f" {SIGNS}%")
    fits = bare.str.contains(rf"^[+-]?([1-9]\d{{0,2}}(\{group}\d{{3}})+|\d{{1,16}})(\{point}\d+)?$")
    digits = bare.str.replace_all(group, "", literal=True).str.replace(point, ".", literal=True)
    has_sign = text.str.contains(sign, literal=True) if sign else pl.lit(True)
    return pl.when(fits & has_sign & ~digits.str.contains(NO_NUMBER)).then(digits.cast(pl.Float64, strict=False))


def _moment_of_text(text: pl.Expr, how: str) -> pl.Expr:
    """Dates and times of texts, of a month its first day; a year outside 1000 .. 9999 is a misread two-digit year and
    becomes null."""
    kind, (pattern, _, since) = how[:5], how[5:].partition(SINCE)
    if kind == DATE and "%d" not in pattern:
        moment = pl.concat_str(pl.lit("1 "), text).str.strptime(pl.Date, f"%d {pattern}", strict=False)
    elif kind == DATE:
        moment = text.str.strptime(pl.Date, pattern, strict=False)
    else:
        moment = text.str.strptime(UTC_TIME if "%#z" in pattern else pl.Datetime("us"), pattern, strict=False)
        moment = moment.dt.replace_time_zone("UTC") if pattern.endswith("UTC") else moment
    moment = _of_century(moment, int(since)) if since.isdigit() else moment
    return pl.when(moment.dt.year().is_between(1000, 9999)).then(moment)


def _of_century(moment: pl.Expr, since: int) -> pl.Expr:
    """Moments with the year of the hundred from `since` on that ends alike; null where it has no such day."""
    year = moment.dt.year()
    moved = (
        pl.when(year < since)
        .then(moment.dt.offset_by("100y"))
        .when(year >= since + 100)
        .then(moment.dt.offset_by("-100y"))
        .otherwise(moment)
    )
    return pl.when(moved.dt.day() == moment.dt.day()).then(moved)


def _moment_of_number(units: pl.Expr, how: str) -> pl.Expr:
    """UTC times of years or of units since 1970."""
    if how in (YEAR, SHORT_YEAR):
        whole = units + 1900 if how == SHORT_YEAR else units
        year = pl.when(whole.is_between(1000, 9999) & (whole % 1 == 0)).then(whole).cast(pl.Int32)
        return pl.datetime(year, 1, 1, time_zone="UTC")
    return (units * (1_000_000 / EPOCHS[how])).round().cast(pl.Int64, strict=False).cast(UTC_TIME)


def plain(column: pl.Expr, stored: pl.DataType) -> pl.Expr:
    """A typed column in one of the types that profiles and projects know: decimals become whole numbers or floats
    (null where these cannot hold them), enums text, moments those of microseconds."""
    if isinstance(stored, pl.Decimal):
        made = column.cast(pl.Int64 if stored.scale == 0 else pl.Float64, strict=False)
        return pl.when(made.cast(stored, strict=False) == column).then(made)
    if stored.is_float():
        return column.fill_nan(None)
    if isinstance(stored, (pl.Categorical, pl.Enum)):
        return column.cast(pl.String)
    if isinstance(stored, pl.Datetime):
        return _of_microseconds(column, stored)
    return column


def _of_microseconds(column: pl.Expr, stored: pl.Datetime) -> pl.Expr:
    """Moments in microseconds, null where they have a part of one."""
    made = column.dt.cast_time_unit("us")
    return pl.when(made.dt.cast_time_unit("ns") == column).then(made) if stored.time_unit == "ns" else made


def utc(column: pl.Expr, stored: pl.DataType) -> pl.Expr:
    """Dates and times as UTC datetimes; a time without a zone is taken as UTC."""
    if isinstance(stored, pl.Datetime) and stored.time_zone is not None:
        return _of_microseconds(column, stored).dt.convert_time_zone("UTC")
    return column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
