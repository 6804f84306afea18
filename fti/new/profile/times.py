"""The timestamp: its range and grid, what is wrong with it, and where to split."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import polars as pl

from fti.new.profile import size
from fti.new.profile.profiles import Split, Times
from fti.tables.findings import Finding, error, listed, percent, warning

Granularity = Literal["one moment", "yearly", "monthly", "weekly", "daily", "hourly", "irregular"]
SHARES = (0.7, 0.15, 0.15)
CUTS = ((0.7, 0.85), (0.6, 0.8), (0.5, 0.75), (0.75, 0.9), (0.8, 0.9))
"""Shares of the labelled rows before validation and before test; the first that gives usable parts is taken."""
MIN_PART = 20
MIN_PART_SHARE = 0.05
MIN_CLASS_PART = 2
DAY = timedelta(days=1)
STAND_INS = (datetime(1970, 1, 1, tzinfo=UTC), datetime(1900, 1, 1, tzinfo=UTC), datetime(1601, 1, 1, tzinfo=UTC))


def times_of(
    moments: pl.Series,
    *,
    span: tuple[datetime, datetime] | None,
    naive: bool,
    is_date: bool,
    now: datetime,
    factor: float = 1.0,
) -> tuple[Times | None, list[Finding]]:
    """Range and grid of the rows' UTC times, and findings; None when there is not one time. `factor` rows of the table
    stand behind each of `moments`."""
    name, known = moments.name, moments.drop_nulls()
    if known.is_empty() or span is None:
        message = f"`{name}` holds no time in any row."
        return None, [error("no_times", message, "Name a column of dates or times, or leave --timestamp out.", name)]
    times = Times(
        start=span[0],
        end=span[1],
        granularity=granularity(known),
        naive=naive,
        nulls=moments.null_count() / moments.len(),
        num_times=known.n_unique(),
        busiest=size.busiest(known, factor),
    )
    return times, _findings(name, times, moments, is_date, now)


def _findings(name: str, times: Times, moments: pl.Series, is_date: bool, now: datetime) -> list[Finding]:
    found = []
    if times.naive and not is_date:
        message = f"The times of `{name}` name no time zone."
        found.append(
            warning("naive_times", message, "They are taken as UTC; convert them first if they are not.", name)
        )
    if times.nulls:
        message = f"`{name}` is null or unreadable in {percent(times.nulls)} of the rows."
        found.append(warning("time_nulls", message, "These rows are left out.", name))
    late = int((moments > now).sum())
    if late:
        message = f"{percent(late / moments.len())} of `{name}` lies in the future, up to {times.end:%Y-%m-%d}."
        remedy = "Is it the time when the row became known? Rows of today and later wait until their day is over, UTC."
        found.append(warning("future_times", message, remedy, name))
    second = moments.filter(moments > times.start).min()
    if times.start in STAND_INS and second is not None and _moment(second) - times.start > 365 * DAY:
        message = f"Some rows of `{name}` say {times.start:%Y-%m-%d}, which often stands for a missing time."
        found.append(warning("old_times", message, "Make these times null; such rows are then left out.", name))
    return found


def granularity(known: pl.Series) -> Granularity:
    """The coarsest grid that all times lie on; one time in a hundred may miss it by the change of clocks."""
    distinct = known.unique().sort()
    if len(distinct) == 1:
        return "one moment"

    def all_on(offset: pl.Series) -> bool:
        return bool((offset == offset[0]).all())

    if not all_on(distinct.dt.minute()) or not all_on(distinct.dt.second()) or not all_on(distinct.dt.microsecond()):
        return "irregular"
    if float((distinct.dt.hour() == distinct.dt.hour().mode()[0]).mean() or 0) < 0.99:
        return "hourly"
    if all_on(distinct.dt.day()) and all_on(distinct.dt.month()):
        return "yearly"
    month_end = distinct.dt.month_end().dt.day() == distinct.dt.day()
    if all_on(distinct.dt.day()) or bool(month_end.all()):
        return "monthly"
    return "weekly" if all_on(distinct.dt.weekday()) else "daily"


def split_of(
    moments: pl.Series | None,
    label: pl.Series,
    classes: Sequence[object],
    *,
    span: tuple[datetime, datetime] | None,
) -> tuple[Split, list[Finding]]:
    """Train, validation and test by time, so that each part has rows of every class, or, of several classes, the
    oldest part of every one and the others of some; at random without times.

    `span` holds the times of the oldest and of the newest row that count, be they in the sample or not. Boundaries lie
    on rows' times, moved to midnight when the rows span over 30 days.
    """
    if moments is None or span is None:
        return _random(), []
    rows = pl.DataFrame({"at": moments, "label": label}).drop_nulls().sort("at")
    if rows["at"].n_unique() < 3:
        message = f"`{moments.name}` has too few different moments to split by time."
        return _random(), [warning("random_split", message, "The split is random: its test score is not the future's.")]
    known = [value for value in classes if (rows["label"] == value).sum() >= 3 * MIN_CLASS_PART]
    cuts = [split for cut in CUTS if (split := _cut(rows, cut, span))]
    for split in cuts:
        if all(_usable(part, rows.height, known) for part in _parts(rows, split)):
            return split, []
    for split in cuts if len(known) > 2 else ():
        train, *later = _parts(rows, split)
        lacking = [value for value in known if any((part["label"] == value).sum() < MIN_CLASS_PART for part in later)]
        enough = all(_usable(part, rows.height, ()) and part["label"].n_unique() > 1 for part in later)
        if enough and _usable(train, rows.height, known):
            return split, [_not_tested(label.name, lacking)]
    message = "No split by time gives every part enough rows of every class."
    return _random(), [warning("random_split", message, "The split is random: its test score is not the future's.")]


def _not_tested(label: str, lacking: Sequence[object]) -> Finding:
    names = listed([str(value) for value in lacking])
    message = f"The newest rows of `{label}` hardly know the class{'es' * (len(lacking) > 1)} {names}."
    remedy = "How well they are predicted is not measured; newer rows of them would tell."
    return warning("class_not_tested", message, remedy, label)


def _cut(rows: pl.DataFrame, cut: tuple[float, float], span: tuple[datetime, datetime]) -> Split | None:
    """Parts at two shares of the rows; None when two boundaries fall together."""
    at = rows["at"]
    first, last = span
    step = DAY if last - first > 30 * DAY else None
    start = _floor(first, step)
    until = _floor(last, step) + step if step else last + timedelta(microseconds=1)
    validation, test = (_floor(_moment(at[int(share * len(at))]), step) for share in cut)
    if not start < validation < test < until:
        return None
    parts = _parts(rows, (validation, test))
    train, checked, newest = (part.height / rows.height for part in parts)
    guess, shares = _guess(parts[0]["label"], parts[2]["label"]), (train, checked, newest)
    return Split(by_time=True, start=start, validation=validation, test=test, until=until, shares=shares, guess=guess)


def _guess(known: pl.Series, asked: pl.Series) -> float:
    """R2 of the mean of `known` on `asked`; 0 where they are no numbers or do not vary."""
    if not known.dtype.is_numeric() or known.is_empty() or asked.n_unique() < 2:
        return 0.0
    before, after = known.cast(pl.Float64).to_numpy(), asked.cast(pl.Float64).to_numpy()
    missed = float((before[np.isfinite(before)].mean() - after[np.isfinite(after)].mean()) ** 2)
    return -missed / float(after[np.isfinite(after)].var())


def _parts(rows: pl.DataFrame, split: Split | tuple[datetime, datetime]) -> list[pl.DataFrame]:
    validation, test = (split.validation, split.test) if isinstance(split, Split) else split
    at = pl.col("at")
    return [rows.filter(at < validation), rows.filter(at >= validation, at < test), rows.filter(at >= test)]


def _usable(part: pl.DataFrame, total: int, classes: Sequence[object]) -> bool:
    """Enough rows, and of each class that has enough rows at all."""
    if part.height < max(min(MIN_PART, total // 10), MIN_PART_SHARE * total):
        return False
    return all((part["label"] == value).sum() >= MIN_CLASS_PART for value in classes)


def _random() -> Split:
    return Split(by_time=False, start=None, validation=None, test=None, until=None, shares=SHARES)


def _floor(moment: datetime, step: timedelta | None) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0) if step else moment


def _moment(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value.astimezone(UTC)
