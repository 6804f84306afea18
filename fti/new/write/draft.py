"""What a generated project says, decided from a profile: every choice as a value, before any text is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

from fti.errors import DataError
from fti.new.profile import size
from fti.new.profile.columns import LONGEST
from fti.new.profile.profiles import Column, Profile
from fti.new.write import choices
from fti.tables.source import NO_TIME, SERIES

DAY = timedelta(days=1)
MAX_DAYS = 36_525
NOTHING = (
    "No column is left that tells something about a row: give more columns, or name with --entity the column that says "
    "whom a row is about, so that its earlier rows can tell something."
)
MAX_STATISTICS = 4
"""Columns with statistics over an entity's earlier rows."""
FEW_ENTITIES, MANY_ROWS = 1_000, 30
"""An entity's name is a feature when there are few of them and each has many rows."""
ROW_NUMBER, ONE_SERIES, TIME = "row_id", "series", "event_time"
"""Columns that are made when the table names no entity, has nothing but values in time, or names no time."""


@dataclass(frozen=True, kw_only=True)
class Own:
    """A column of the table that is a feature."""

    name: str
    dtype: str
    """Of polars and of Feast: `Float64`, `Int64`, `String`; `Bool` is `Boolean` in polars."""
    example: Any


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A project as it will be written."""

    name: str
    profile: Profile
    entity: Mapping[str, str]
    """Key column -> type."""
    key_examples: Mapping[str, Any]
    time: str
    moment: str
    """A row's time, ISO 8601."""
    label: str
    label_type: str
    own: tuple[Own, ...]
    moments: tuple[str, ...]
    """Columns of times, which become days before the row's own."""
    statistics: Mapping[str, str]
    """Column -> `mean` or `share`, over an entity's earlier rows."""
    windows: tuple[str, ...]
    """Spans of these; empty: no view of an entity's history."""
    parts: tuple[str, ...]
    """Of the calendar."""
    categorical: tuple[str, ...]
    slices: tuple[str, ...]
    days: tuple[datetime, datetime]
    """First day, and the end of the last one."""
    until: datetime
    """End of the dataset."""
    left_out: Mapping[str, str]
    """Column of the table -> why."""
    series: bool
    """Whether all rows are one entity: a table of a time and a number."""

    @property
    def timed(self) -> bool:
        """Whether the table has times."""
        return self.profile.timestamp is not None

    @property
    def numbered(self) -> bool:
        """Whether every row is an entity of its own."""
        return not self.profile.entity and not self.series

    @property
    def width(self) -> int:
        """Columns of the table that are read."""
        return len(self.entity) + 2 + len(self.features)

    @property
    def num_features(self) -> int:
        """What the model learns from."""
        return len(self.features) + len(self.windows) * (1 + len(self.statistics)) + len(self.parts)

    @property
    def label_is_history(self) -> bool:
        """Whether the label's earlier values are features: rows are nothing but values in time."""
        return self.label in self.statistics

    @property
    def features(self) -> tuple[Own, ...]:
        """The row's own features, ages in place of times."""
        ages = [Own(name=f"{name}_days_before", dtype="Float64", example=1.0) for name in self.moments]
        return (*self.own, *ages)

    @property
    def names(self) -> dict[str, str]:
        """Column of the table -> its plain name, where they differ."""
        used = {*self.entity, self.time, self.label, *(column.name for column in self.own), *self.moments}
        return {name: fresh for name, fresh in self.profile.identifiers.items() if fresh in used and fresh != name}


def draft(profile: Profile, name: str, now: datetime) -> Draft:
    """The project `name` for a usable profile. DataError when there is nothing to learn from."""
    profile.require_usable()
    short = profile.identifiers
    time = short[profile.timestamp] if profile.timestamp else _free(TIME, short)
    own = tuple(_own(column, profile.row) for column in profile.features if column.kind != "datetime")
    moments = [column for column in profile.features if column.kind == "datetime"]
    bare = profile.times is not None and not own and not moments
    series = bare and not profile.entity and profile.target.task == "regression"
    entity = {short[column]: _key_type(profile.column(column)) for column in profile.entity}
    entity = entity or ({_free(ONE_SERIES, short): "String"} if series else {_free(ROW_NUMBER, short): "Int64"})
    statistics, windows = _history(profile, own, series=series)
    if bare and windows and profile.target.task == "regression":
        statistics = {short[profile.target.name]: "mean"}
    taken = set(short.values())
    parts = tuple(part for part in choices.calendar_parts(profile.times) if f"{time}_{part}" not in taken)
    if not own and not windows and not (moments and profile.timestamp):
        raise DataError(NOTHING)
    days = _days(profile, now)
    return Draft(
        name=name,
        profile=profile,
        entity=entity,
        key_examples={column: SERIES if series else _key_example(profile, column) for column in entity},
        time=time,
        moment=_moment(profile),
        label=short[profile.target.name],
        label_type=_label_type(profile),
        own=own,
        moments=tuple(column.identifier for column in moments) if profile.timestamp else (),
        statistics=statistics,
        windows=windows,
        parts=parts,
        categorical=_categorical(profile, entity, time, parts),
        slices=choices.slices(profile),
        days=days,
        until=min(days[1], _ceil(profile.split.until)) if profile.split.until else days[1],
        left_out=_left_out(profile),
        series=series,
    )


def _free(name: str, taken: Mapping[str, str]) -> str:
    """`name`, or the first numbered one that no column has, in the table or in the project."""
    names = {*taken, *taken.values()}
    return next(found for found in (name, *(f"{name}_{number}" for number in range(2, 1_000))) if found not in names)


def _type(column: Column) -> str:
    """The type that a column's values get: whole numbers, fractions, truth values or text."""
    if column.dtype == "Boolean":
        return "Bool"
    if column.dtype.startswith(("Int", "UInt")):
        return "Int64" if column.most is None or -LONGEST <= column.least <= column.most <= LONGEST else "String"
    if column.dtype.startswith("Float"):
        return "Int64" if column.whole and (column.kind == "categorical" or column.role == "entity") else "Float64"
    return "String"


def _label_type(profile: Profile) -> str:
    """The label as the source holds it; classes that are numbers are whole ones."""
    dtype = _type(profile.column(profile.target.name))
    whole = profile.column(profile.target.name).whole
    return "Int64" if profile.target.task == "multiclass" and dtype == "Float64" and whole else dtype


def _moment(profile: Profile) -> str:
    """The time of the profile's row, to the second."""
    at = profile.row.get(profile.timestamp) if profile.timestamp else NO_TIME
    if not isinstance(at, datetime):
        at = datetime(at.year, at.month, at.day) if isinstance(at, date) else NO_TIME
    at = at.astimezone(UTC) if at.tzinfo else at
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _key_type(column: Column) -> str:
    return "Int64" if _type(column) == "Int64" else "String"


def _key_example(profile: Profile, identifier: str) -> Any:
    """The key of the profile's row, as the project reads it."""
    name = next((name for name, fresh in profile.identifiers.items() if fresh == identifier), None)
    if name is None:
        return 0
    value = profile.row.get(name)
    return int(value) if _key_type(profile.column(name)) == "Int64" and value is not None else _text(value)


def _text(value: Any) -> str:
    """As polars casts it to text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _own(column: Column, row: Mapping[str, Any]) -> Own:
    """A feature with an example: the row's value, or a usual one where the row has none that suits."""
    dtype = _type(column)
    usual = [column.quantiles[2]] if column.quantiles else []
    candidates: list[Any] = [
        row.get(column.name),
        *(value for value, _ in column.top),
        *usual,
        column.least,
        column.example,
    ]
    example: Any = next((value for value in candidates if choices.is_example(value)), None)
    if example is None:
        example = {"Bool": True, "String": "?"}.get(dtype, 0)
    if dtype in ("Int64", "Float64"):
        example = int(example) if dtype == "Int64" else round(float(example), 6)
    return Own(name=column.identifier, dtype=dtype, example=_text(example) if dtype == "String" else example)


def _history(profile: Profile, own: tuple[Own, ...], *, series: bool) -> tuple[dict[str, str], tuple[str, ...]]:
    """Statistics over an entity's earlier rows, and their spans; nothing where rows have no earlier ones."""
    times, snapshot = profile.times, profile.entities.kind == "snapshot" and bool(own)
    if times is None or times.start == times.end or snapshot or not (profile.entity or series):
        return {}, ()
    span = times.end - times.start
    gap = span / max(1, times.num_times - 1) if series else profile.entities.median_gap
    width = len(own) + len(profile.entity) + 2
    windows = choices.windows(gap, span, last=not own, fits=partial(size.fits, found=times.busiest, num_columns=width))
    kinds = {column.identifier: column.kind for column in profile.features}
    chosen = [column for column in own if kinds[column.name] == "numeric"]
    chosen += [column for column in own if kinds[column.name] == "boolean"]
    return {
        column.name: "share" if kinds[column.name] == "boolean" else "mean" for column in chosen[:MAX_STATISTICS]
    }, windows


def _categorical(profile: Profile, entity: Mapping[str, str], time: str, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Features to embed: categories, parts of the calendar that are names, and entities that come back often."""
    found = profile.entities
    often = profile.entity and found.num_entities <= FEW_ENTITIES and found.median_rows >= MANY_ROWS
    return (
        *(entity if often else ()),
        *(column.identifier for column in profile.features if column.kind == "categorical"),
        *(f"{time}_{part}" for part in parts if part in ("hour", "weekday", "month")),
    )


def _days(profile: Profile, now: datetime) -> tuple[datetime, datetime]:
    """First day of the table and the end of its last one that is over."""
    if profile.times is None:
        return NO_TIME, NO_TIME + DAY
    first, last = _floor(profile.times.start), min(_floor(profile.times.end) + DAY, _floor(now))
    if (last - first).days > MAX_DAYS:
        raise DataError(
            f"The rows span {(last - first).days // 365} years, from {first:%Y} on. Features are kept by day, for a "
            "century at most: give later rows only, or leave --timestamp out."
        )
    return first, last


def _floor(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _ceil(moment: datetime) -> datetime:
    return moment if moment == _floor(moment) else _floor(moment) + DAY


def _left_out(profile: Profile) -> dict[str, str]:
    """Columns that are not read, with the reason."""
    found = {column.name: column.reason for column in profile.columns if column.role == "left out"}
    if profile.timestamp is None:
        found |= {
            column.name: "a time, and rows have no time to compare it with"
            for column in profile.features
            if column.kind == "datetime"
        }
    return found
