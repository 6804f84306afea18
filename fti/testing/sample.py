"""Which rows checks look at: the newest of a project's real rows, few enough to be quick, enough to say something."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import polars as pl

from fti.project import Project
from fti.times import TIME

DAY = timedelta(days=1)
FIRST_LOOK = 64
"""The first look takes this part of the dataset's range."""
MAX_LOOKS = 6
MIN_PER_CLASS = 20


@dataclass(frozen=True)
class Sample:
    """Raw rows by source, of `[start - lookback, end + horizon]`; label rows and features are of `[start, end)`."""

    start: datetime
    end: datetime
    tables: Mapping[str, pl.DataFrame]
    kept: str = "all rows"
    """What was read, in words."""

    def until(self, project: Project, moment: datetime) -> dict[str, pl.DataFrame]:
        """The tables as the feature pipeline reads them for days before `moment`."""
        return cut(project, self.tables, end=moment)


def cut(
    project: Project, tables: Mapping[str, pl.DataFrame], *, start: datetime | None = None, end: datetime | None = None
) -> dict[str, pl.DataFrame]:
    """Rows with `start <= timestamp < end`; tables without a timestamp are whole."""
    found = {}
    for name, rows in tables.items():
        column = project.source(name).timestamp
        if column and start is not None:
            rows = rows.filter(pl.col(column) >= start)
        if column and end is not None:
            rows = rows.filter(pl.col(column) < end)
        found[name] = rows
    return found


def choose(project: Project, num_rows: int) -> tuple[datetime, datetime]:
    """Days `[start, end)` at the end of the dataset's range with about `num_rows` labelled rows, and with two classes
    when the whole range has them. Reads the label's sources a few times."""
    first, end = _midnight(project.dataset.start), _midnight(project.dataset.until, up=True)
    width = max((end - first) / FIRST_LOOK, DAY)
    for _ in range(MAX_LOOKS):
        start = max(_midnight(end - width), first)
        rows = labelled(project, start, end)
        if start == first or (rows.height >= num_rows // 2 and _has_classes(project, rows)):
            break
        width *= min(max(1.5 * num_rows / max(rows.height, 1), 2.0), 16.0)
    else:
        start, rows = first, labelled(project, first, end)
    if rows.is_empty():
        return start, end
    newest = rows.sort(TIME).tail(num_rows)
    if _has_classes(project, newest):
        rows = newest
    oldest, last = rows.select(pl.col(TIME).min(), pl.col(TIME).max().alias("last")).row(0)
    return max(_midnight(oldest), first), _midnight(last) + DAY


def labelled(project: Project, start: datetime, end: datetime) -> pl.DataFrame:
    """Rows with a label whose moment of prediction lies in `[start, end)`."""
    tables = read(project, project.label.sources, start, end + project.label.horizon + DAY)
    return (
        project.label.rows(tables)
        .with_columns(project.label.moment())
        .filter(pl.col(TIME).is_between(start, end, closed="left"), pl.col(project.label.name).is_not_null())
    )


def read(project: Project, names: Iterable[str], start: datetime, end: datetime) -> dict[str, pl.DataFrame]:
    """Rows of the sources as they come from outside."""
    return {name: project.source(name).read(max(start, project.partitions_start), end) for name in dict.fromkeys(names)}


def of_some_entities(project: Project, tables: Mapping[str, pl.DataFrame], share: int) -> dict[str, pl.DataFrame]:
    """One of `share` entities: rows of tables that have the columns of the label's key (its time apart)."""
    entity = [name for name in project.label.key if name != project.label.time]
    return {
        name: rows.filter(pl.struct(entity).hash(0) % share == 0)
        if entity and set(entity) <= set(rows.columns)
        else rows
        for name, rows in tables.items()
    }


def _has_classes(project: Project, rows: pl.DataFrame) -> bool:
    if project.model.task == "regression":
        return True
    counts = rows[project.label.name].value_counts(sort=True)["count"].head(2)
    return len(counts) == 2 and int(counts[1]) >= MIN_PER_CLASS


def _midnight(moment: datetime, *, up: bool = False) -> datetime:
    day = datetime.combine(moment.astimezone(UTC).date(), time(), UTC)
    return day + DAY if up and day < moment else day
