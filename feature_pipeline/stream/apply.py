"""One batch of events, applied to the raw tables, the online store and the feature tables; twice is as good as once."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import polars as pl

from feature_pipeline.stream.checkpoint import Checkpoint, Rejected
from feature_pipeline.stream.events import Event, EventError, EventSchema
from feature_pipeline.stream.screen import PLACE, reasons
from feature_pipeline.stream.window import SLACK, Change, Window
from fti.errors import DataError
from fti.project import Project
from fti.storage.periods import days_between, end_day
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import STATIC, Lake
from fti.times import AHEAD, TIME, last_moment

logger = logging.getLogger("fti.stream")


@dataclass(frozen=True)
class Applied:
    """What became of a batch."""

    ids: list[str]
    rejected: list[Rejected]
    duplicates: int
    accepted: list[int]
    """When the events were accepted, microseconds since 1970, of those that say so."""


@dataclass
class Applier:
    """Holds the window between batches; one at a time for a project."""

    project: Project
    lake: Lake
    store: FeatureStore
    checkpoint: Checkpoint
    window: Window = field(init=False)
    schema: EventSchema = field(init=False)
    _files: set[str] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        self.store.apply(self.project)
        self.schema = EventSchema(self.project)
        self.schemas = self.store.schemas(self.project.features.service)
        self.window = Window.load(self.project, self.lake, self.schemas, self._newest())
        self._files = self._others()
        self.window.remake(self.window.views_since, self.window.views_since)  # what fails here is no event's fault
        unfinished = self.checkpoint.unfinished()
        if unfinished:
            self._remake(*unfinished)

    def apply(self, lines: Sequence[bytes]) -> Applied:
        """Apply events; those that are no events, or break a rule or a view, are set aside with the reason."""
        events, rejected = self._parsed(lines)
        fresh: dict[str, tuple[Event, bytes]] = {}
        seen = self.checkpoint.known([event.id for event, _ in events])
        for event, line in events:
            if event.id not in seen:
                fresh.setdefault(event.id, (event, line))
        duplicates = len(events) - len(fresh)
        rejected += self._apply(list(fresh.values()))
        accepted = [event.accepted for event, _ in fresh.values() if event.accepted is not None]
        return Applied(list(fresh), rejected, duplicates, accepted)

    def follow(self) -> None:
        """Take over what others have written: a batch run that replaced days, a compaction. Days are made again where
        they did, since a run may have replaced rows that were newer than what it had read."""
        files = self._others()
        changed = files - self._files
        self._files = files
        if not changed:
            return
        since = self.window.views_since
        self.window = Window.load(self.project, self.lake, self.schemas, since)
        self._remake(since, max(since, self._newest()))
        logger.info('{"event": "followed", "files": %d}', len(changed))

    def _remake(self, first: datetime, last: datetime) -> None:
        """Make days again from the raw rows in the lake, and write what differs."""
        self._write(self.window.reaching(first).remake(first, last))
        self.checkpoint.begin(None)
        self._files = self._others()

    def _parsed(self, lines: Sequence[bytes]) -> tuple[list[tuple[Event, bytes]], list[Rejected]]:
        events, rejected = [], []
        for line in lines:
            try:
                events.append((self.schema.parse(line), line))
            except EventError as error:
                rejected.append(Rejected(None, None, str(error), line))
        return events, rejected

    def _apply(self, events: list[tuple[Event, bytes]]) -> list[Rejected]:
        """Apply all; when a view fails on them, halve them until it is known which event it fails on."""
        if not events:
            return []
        try:
            raw, rejected = self._rows(events)
            change = self.window.change(raw)
            self._require_known(change.made if change else {})
        except OSError:
            raise  # the disk's fault, not an event's: all come again
        except Exception as error:
            if len(events) > 1:
                half = len(events) // 2
                return self._apply(events[:half]) + self._apply(events[half:])
            logger.exception("an event cannot be applied")
            event, line = events[0]
            return [Rejected(event.id, event.source, f"{type(error).__name__}: {error}", line)]
        if change is not None:
            self._write(change)
        return rejected

    def _require_known(self, made: Mapping[str, pl.DataFrame]) -> None:
        """Feature rows happen when they become known, so none of them lies ahead of the clock."""
        last = last_moment(AHEAD, self.project.now())
        for view, rows in made.items():
            ahead = rows.filter(pl.col(TIME) > last)
            if ahead.height:
                raise DataError(
                    f"feature view {view!r}: the row of {ahead[TIME][0]:%Y-%m-%d %H:%M} UTC lies over {AHEAD} ahead of "
                    "the clock, so its values cannot be known yet: correct the event's times, or the view"
                )

    def _rows(self, events: list[tuple[Event, bytes]]) -> tuple[dict[str, pl.DataFrame], list[Rejected]]:
        """Good rows by source, the last of each key; and the events of the bad rows."""
        raw, rejected = {}, []
        for name in dict.fromkeys(event.source for event, _ in events):
            source = self.project.source(name)
            own = [(event, line) for event, line in events if event.source == name]
            rows = self.schema.rows(name, [event for event, _ in own])
            bad = reasons(source, rows)
            good = rows.with_row_index(PLACE).filter(~pl.col(PLACE).is_in(list(bad))).drop(PLACE)
            raw[name] = good.unique(source.key, keep="last", maintain_order=True)
            rejected += [Rejected(own[place][0].id, name, reason, own[place][1]) for place, reason in bad.items()]
        return raw, rejected

    def _write(self, change: Change) -> None:
        """Raw rows, then online, then offline. Of a batch that was cut short the raw rows tell what to make, and the
        feature rows that are still in the lake tell what may be online."""
        self.checkpoint.begin(change.span)
        name, by = self.project.name, self.project.partition_by
        for source, rows in change.raw.items():
            about = self.project.source(source)
            self.lake.upsert(f"{name}/raw/{source}", rows, key=about.key, time=str(about.timestamp), by=by)
        touched = {view: rows for view, rows in change.made.items() if rows.height or change.gone[view].height}
        online = {view: self._newest_rows(view, change) for view in touched}
        self.store.write_online(self.project.features.service, online)
        for view, rows in touched.items():
            gone, key = change.gone[view], (*self.schemas[view].keys, TIME)
            lost = gone if gone.height else None
            self.lake.upsert(f"{name}/features/{view}", rows, key=key, time=TIME, gone=lost, by=by)
        self.window = change.window.trimmed(change.span[0] - SLACK)
        if any(gone.height for gone in change.gone.values()):
            self._files = self._others()

    def _newest_rows(self, view: str, change: Change) -> pl.DataFrame:
        """The newest of the made rows of each entity. Where the row that may be online is gone: the one before it, with
        the event time of the lost one, since the online store keeps the newest that is not ahead of the clock."""
        keys, made, gone = list(self.schemas[view].keys), change.made[view], change.gone[view]
        if gone.height:
            lost = gone.group_by(keys).agg(pl.col(TIME).max().alias("__lost"))
            left = change.window.views[view].join(lost, on=keys, how="inner")
            older = lost.join(left, on=keys, how="anti")
            if older.height:
                left = pl.concat([left, self._before(view, older, gone)])
            lost_at = pl.min_horizontal("__lost", pl.lit(last_moment(AHEAD)))
            left = left.with_columns(pl.max_horizontal(TIME, lost_at).alias(TIME)).drop("__lost")
            made = pl.concat([made.join(lost, on=keys, how="anti"), left])
        return made.sort(TIME, maintain_order=True).unique(keys, keep="last", maintain_order=True)

    def _before(self, view: str, lost: pl.DataFrame, gone: pl.DataFrame) -> pl.DataFrame:
        """Rows that the lake has of entities that have none in the window any more."""
        keys = list(self.schemas[view].keys)
        rows = self.lake.load(f"{self.project.name}/features/{view}").join(lost, on=keys, how="inner")
        return rows.join(gone, on=[*keys, TIME], how="anti")

    def missing_days(self) -> list[str]:
        """Raw days that the lookback of the newest day lacks: its features are those of a shorter history."""
        first, last = max(self.window.raw_since, self.project.partitions_start), self._newest()
        found = []
        for name in self.project.features.sources:
            if self.project.source(name).timestamp:
                present = set(self.lake.days(f"{self.project.name}/raw/{name}"))
                found += [f"{name} {day}" for day in days_between(first, last) if day not in present]
        return found

    def _newest(self) -> datetime:
        """The newest raw day in the lake that is not ahead of the clock."""
        last = self.project.now().date()
        days = [day for name in self.project.streamed for day in self.lake.days(f"{self.project.name}/raw/{name}")]
        newest = max((day for day in days if day <= last), default=self.project.partitions_start.date())
        return datetime(newest.year, newest.month, newest.day, tzinfo=UTC)

    def _others(self) -> set[str]:
        """The files that only others write: day files of the window, tables without days."""
        raw = {f"{self.project.name}/raw/{name}": self.window.raw_since for name in self.project.features.sources}
        made = {f"{self.project.name}/features/{view}": self.window.views_since for view in self.schemas}
        tables = raw | made
        return {
            f"{table}/{file.name}"
            for table, since in tables.items()
            for file in self.lake.version(table).files
            if not file.segment and (file.period == STATIC or end_day(file.period) > since.date())
        }
