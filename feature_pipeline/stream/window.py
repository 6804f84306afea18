"""The consumer's window: raw rows and feature rows of the last days in memory, as they are in the lake.

New rows are put into a copy; the project's own views make the features of every day that they can touch; what
differs from before is the change. Nothing is written here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, time, timedelta
from typing import cast

import polars as pl

from feature_pipeline.batch.validate import schema_violations
from fti.errors import DataError, NotReadyError
from fti.project import Project
from fti.stores.features.store import ViewSchema
from fti.stores.lake.store import Lake
from fti.times import TIME, UTC_TIME

DAY = timedelta(days=1)
SLACK = 2 * DAY
"""How much older than the last batch's oldest row the window reaches, so that a late row seldom reads the lake."""

Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a batch of rows does: the rows themselves, and by view the feature rows that are new or different (`made`)
    and the keys of those that are no longer (`gone`)."""

    raw: Frames
    made: Frames
    gone: Frames
    span: tuple[datetime, datetime]
    """First and last moment of the days that were made again; the first is the oldest raw row's."""
    window: "Window"
    """The window with the change in it."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """`tables` holds the raw rows from `raw_since` on, `views` the feature rows from `views_since` on."""

    project: Project
    lake: Lake
    schemas: Mapping[str, ViewSchema]
    raw_since: datetime
    views_since: datetime
    tables: Frames
    views: Frames = field(repr=False)

    @classmethod
    def load(cls, project: Project, lake: Lake, schemas: Mapping[str, ViewSchema], since: datetime) -> "Window":
        """The window in which the features from the day of `since` on can be made."""
        first = midnight(since)
        start = first - project.features.lookback
        tables = {name: _raw(project, lake, name, start) for name in project.features.sources}
        views = {view: _features(project, lake, view, first) for view in schemas}
        found = {view: rows for view, rows in views.items() if rows is not None}
        return cls(
            project=project,
            lake=lake,
            schemas=schemas,
            raw_since=start,
            views_since=first,
            tables=tables,
            views=found,
        )

    def reaching(self, since: datetime) -> "Window":
        """This window, or a longer one in which the features from the day of `since` on can be made."""
        enough = min(self.views_since, self.raw_since + self.project.features.lookback)
        return self if midnight(since) >= enough else Window.load(self.project, self.lake, self.schemas, since)

    def trimmed(self, since: datetime) -> "Window":
        """Without what is older than the features from the day of `since` on need."""
        first = midnight(since)
        start = first - self.project.features.lookback
        if start <= self.raw_since:
            return self
        timed = self._timed()
        tables = {
            name: rows.filter(pl.col(timed[name]) >= start) if name in timed else rows
            for name, rows in self.tables.items()
        }
        views = {view: rows.filter(pl.col(TIME) >= first) for view, rows in self.views.items()}
        return replace(self, raw_since=start, views_since=first, tables=tables, views=views)

    def change(self, raw: Frames) -> Change | None:
        """What `raw`, rows by source with each key once, changes; none when they are all there already."""
        new = {
            name: rows
            for name, rows in ((name, self._unknown(name, rows)) for name, rows in raw.items())
            if rows.height
        }
        if not new:
            return None
        first, last = _span([rows[str(self.project.source(name).timestamp)] for name, rows in new.items()])
        window = self.reaching(first)
        tables = dict(window.tables)
        for name, rows in new.items():
            if name in tables:
                key = list(self.project.source(name).key)
                kept = tables[name].join(rows, on=key, how="anti", maintain_order="left")
                tables[name] = pl.concat([kept, rows])
        return replace(window, tables=tables).remake(first, last + self.project.features.lookback, new)

    def remake(self, first: datetime, last: datetime, raw: Frames | None = None) -> Change:
        """Make the features of all days from `first` to `last` again."""
        start, end = midnight(first), midnight(last) + DAY
        made = self.project.features.rows(self._visible(start, end), start, end)
        changed, gone, views = {}, {}, dict(self.views)
        for view, schema in self.schemas.items():
            rows = self._checked(view, schema, made)
            views[view], changed[view], gone[view] = _difference(
                views.get(view, rows.clear()), rows, [*schema.keys, TIME], start, end
            )
        return Change(raw=raw or {}, made=changed, gone=gone, span=(first, last), window=replace(self, views=views))

    def _visible(self, start: datetime, end: datetime) -> Frames:
        """What the batch gives to the views for `[start, end)`."""
        since, timed = start - self.project.features.lookback, self._timed()
        return {
            name: rows.filter(pl.col(timed[name]).is_between(since, end, closed="left")) if name in timed else rows
            for name, rows in self.tables.items()
        }

    def _timed(self) -> dict[str, str]:
        """Source -> its time column."""
        return {source.name: source.timestamp for source in self.project.sources if source.timestamp}

    def _unknown(self, name: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows that are not in the window exactly so."""
        known = self.tables.get(name)
        return rows if known is None else rows.join(known, on=rows.columns, how="anti", nulls_equal=True)

    def _checked(self, view: str, schema: ViewSchema, made: Frames) -> pl.DataFrame:
        if view not in made:
            raise DataError(f"feature view {view!r} is in the feature service but was not made")
        columns = {**schema.keys, TIME: UTC_TIME, **schema.features}
        broken = next(schema_violations(made[view], columns), None)
        if broken:
            raise DataError(f"feature view {view!r}: {broken}")
        keys = made[view].select(*schema.keys, TIME)
        if keys.null_count().sum_horizontal().item() or keys.is_duplicated().any():
            raise DataError(f"feature view {view!r}: a key {tuple(keys.columns)} is null or there twice")
        return made[view]


def midnight(moment: datetime) -> datetime:
    """Begin of the UTC day of `moment`."""
    return datetime.combine(moment.astimezone(UTC).date(), time(), UTC)


def _span(moments: Sequence[pl.Series]) -> tuple[datetime, datetime]:
    edges = pl.concat([series.cast(UTC_TIME) for series in moments])
    return cast("tuple[datetime, datetime]", (edges.min(), edges.max()))


def _difference(
    old: pl.DataFrame, new: pl.DataFrame, key: list[str], start: datetime, end: datetime
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """All rows with those of `[start, end)` replaced by `new`; the new or different rows; the keys that are gone."""
    inside = pl.col(TIME).is_between(start, end, closed="left")
    before = old.filter(inside)
    changed = new.join(before, on=new.columns, how="anti", nulls_equal=True, maintain_order="left")
    gone = before.select(key).join(new, on=key, how="anti")
    return pl.concat([old.filter(~inside), new]), changed, gone


def _raw(project: Project, lake: Lake, name: str, start: datetime) -> pl.DataFrame:
    source = project.source(name)
    try:
        rows = lake.load(f"{project.name}/raw/{name}", start=start if source.timestamp else None)
    except NotReadyError:
        if not source.streamed:
            raise
        return pl.DataFrame(schema=dict(source.schema))
    return rows.select(source.schema.keys())


def _features(project: Project, lake: Lake, view: str, first: datetime) -> pl.DataFrame | None:
    try:
        return lake.load(f"{project.name}/features/{view}", start=first)
    except NotReadyError:
        return None
