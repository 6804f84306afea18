"""Values from one type to another: equal, or refused by column, row and value. Nothing is rounded to another number,
cut off, wrapped around or made null on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fti.errors import DataError

if TYPE_CHECKING:
    import polars as pl

MAX_SHOWN = 80
"""Characters of a value in a message."""


def shown(values: pl.Series, place: int) -> str:
    """The value at `place` as a message names it: text in quotes, moments with all their digits."""
    import polars as pl

    one = values[place : place + 1]
    (value,) = (one.cast(pl.String) if isinstance(values.dtype, pl.Datetime) else one).to_list()
    text = str(value) if isinstance(values.dtype, pl.Datetime) else repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def exact(values: pl.Series, dtype: Any, what: str = "column") -> pl.Series:
    """`values` in the type `dtype`; `what` says what the column is, for example `feature`.

    Kept are: whole numbers that fit, floats that are whole as integers, 0 and 1 as booleans, categories as text, a date
    as its midnight, moments in another unit or zone (one without a zone is UTC). A float becomes the nearest one of 32
    bits, a decimal the nearest float: that is what such a type means. DataError names the first value that is none of
    this: too large, with a fraction, of parts of a microsecond, or of another kind altogether, such as text for a
    number.
    """
    if values.dtype == dtype:
        return values
    made, bad = _converted(values, dtype)
    if bad.any():
        place = int(bad.arg_true()[0])
        raise DataError(
            f"{what} {values.name!r}: {shown(values, place)} in row {place} ({bad.sum()} of {len(values)} rows) is no "
            f"{name_of(dtype)}; the column is {name_of(values.dtype)}. Declare a type that holds it, or convert the "
            "column."
        )
    return made


def name_of(dtype: Any) -> str:
    """A type as polars writes it, shortly: `Datetime(us, UTC)`."""
    import polars as pl

    if isinstance(dtype, pl.List | pl.Array):
        return f"List({name_of(dtype.inner)})"
    if isinstance(dtype, pl.Datetime):
        return f"Datetime({dtype.time_unit}, {dtype.time_zone or 'no zone'})"
    return str(dtype).split("(")[0] if isinstance(dtype, pl.Enum | pl.Duration | pl.Struct) else str(dtype)


def _converted(values: pl.Series, dtype: Any) -> tuple[pl.Series, pl.Series]:
    """The values in the new type, and which of them are not equal to what they were."""
    import polars as pl

    known = values.is_not_null()
    if values.dtype == pl.Null:
        return values.cast(dtype), ~known & False
    if isinstance(dtype, pl.List) and isinstance(values.dtype, pl.List | pl.Array):
        return _lists(values, dtype)
    if isinstance(dtype, pl.Struct) and isinstance(values.dtype, pl.Struct):
        return _structs(values, dtype)
    if not _related(values.dtype, dtype):
        return values, known
    made = _without_zone(values, dtype).cast(dtype, strict=False)
    return made, known & ~_same(values, made).fill_null(False)


def _related(given: Any, dtype: Any) -> bool:
    """Whether a value of the type `given` may be equal to one of the type `dtype`."""
    import polars as pl

    number = _is_number(dtype) or dtype == pl.Boolean
    if _is_number(given) or given == pl.Boolean:
        return number
    texts = (pl.String, pl.Categorical, pl.Enum)
    times = (pl.Date, pl.Datetime)
    return (given in texts and dtype in texts) or (given in times and dtype in times) or given.is_(dtype)


def _is_number(dtype: Any) -> bool:
    return bool(dtype.is_numeric())


def _same(values: pl.Series, made: pl.Series) -> pl.Series:
    """Row by row, whether `made` is what `values` are; null where it is null."""
    import polars as pl

    given, dtype = values.dtype, made.dtype
    if dtype.is_float() and (given.is_float() or given.is_decimal()):
        before, after = values.cast(pl.Float64), made.cast(pl.Float64)
        return (before.is_nan() & after.is_nan()) | (
            (before.is_infinite() == after.is_infinite()) & ((before == 0) == (after == 0))
        )
    back = _without_zone(made, given).cast(given, strict=False)
    return (back == values) | (back.is_nan() & values.is_nan() if given.is_float() else False)


def _without_zone(values: pl.Series, dtype: Any) -> pl.Series:
    """Moments ready to be cast to `dtype`, by the clock of UTC where only one of the two has a zone."""
    import polars as pl

    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone:
        return values.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return values


def _lists(values: pl.Series, dtype: pl.List) -> tuple[pl.Series, pl.Series]:
    import polars as pl

    if isinstance(values.dtype, pl.Array):
        values = values.cast(pl.List(values.dtype.inner))
    frame = values.alias("item").to_frame().with_row_index("row")
    items = frame.filter(pl.col("item").list.len() > 0).explode("item")
    made, bad = _converted(items["item"], dtype.inner)
    if len(items) and made.dtype != dtype.inner:
        made = pl.Series("item", [None] * len(items), dtype.inner)
    again = items.select("row").with_columns(made.alias("item")).group_by("row", maintain_order=True).agg("item")
    empty = pl.when(pl.col("item").is_not_null()).then(pl.lit([], dtype))
    joined = frame.select("row", empty.alias("empty")).join(again, on="row", how="left", maintain_order="left")
    rows = joined.select(pl.coalesce("item", "empty").cast(dtype)).to_series().alias(values.name)
    wrong = pl.Series(values.name, [False] * len(values), pl.Boolean)
    return rows, wrong.scatter(items["row"].filter(bad).unique(), True) if bad.any() else wrong


def _structs(values: pl.Series, dtype: pl.Struct) -> tuple[pl.Series, pl.Series]:
    import polars as pl

    own = {field.name: values.struct.field(field.name) for field in values.dtype.fields}  # type: ignore[attr-defined]
    wanted = {field.name: field.dtype for field in dtype.fields}
    known = values.is_not_null()
    if own.keys() != wanted.keys():
        return values, known
    parts = {name: _converted(own[name], wanted[name]) for name in wanted}
    if any(made.dtype != wanted[name] for name, (made, _) in parts.items()):
        return values, known
    made = pl.DataFrame([made.alias(name) for name, (made, _) in parts.items()]).to_struct(values.name)
    bad = pl.DataFrame([wrong.alias(name) for name, (_, wrong) in parts.items()]).select(pl.any_horizontal(pl.all()))
    return made.zip_with(known, pl.Series(values.name, [None] * len(values), dtype)), known & bad.to_series()
