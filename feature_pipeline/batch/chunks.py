"""Large ranges, a chunk of days at a time: what is done already, what changed under it, and writing only what differs.

A feature day is done when its record in the journal names the code and the raw files it would be made from now, and
the files that lie in the lake. The record is written after the files: what a killed run left is made again. Where a
project keeps its rows by month, a record is of a month too, and the days of one are done together.
"""

from __future__ import annotations

import contextlib
import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson

from fti.errors import DataError
from fti.project import Project
from fti.storage.checksums import sealed, unsealed
from fti.storage.periods import DAY, Period, by_stem, end_day, first_day, midnight, period_of, stem_of, touches
from fti.stores.lake.store import STATIC, Lake
from fti.versions.views import features_version

NEVER_MADE, OTHER_CODE = "never made", "the code changed"
Files = dict[str, str]
"""Day (or `all`) -> fingerprint of its files."""
Changes = Mapping[str, Sequence[str]]
"""Source -> days (or `all`), sorted."""


def chunks(start: datetime, end: datetime, num_days: int, by: Period = "day") -> Iterator[tuple[datetime, datetime]]:
    """`[start, end)` in pieces of `num_days`, counted from `start`; months stay whole, and a piece has one at least."""
    if num_days < 1:
        raise DataError(f"chunk_days is {num_days}: give 1 or more, or leave it out for the project's own number")
    while start < end:
        until = start + timedelta(days=num_days)
        if by == "month":
            first = first_day(stem_of(until, by))
            until = midnight(first if midnight(first) > start else end_day(stem_of(start, by)))
        yield start, min(until, end)
        start = until


def spans(days: Iterable[date]) -> list[tuple[datetime, datetime]]:
    """Days as ranges `[start, end)` of neighbours."""
    ordered = sorted(set(days))
    edges = [0, *(place for place, (one, two) in enumerate(pairwise(ordered), 1) if two - one > DAY), len(ordered)]
    return [(midnight(ordered[a]), midnight(ordered[b - 1]) + DAY) for a, b in pairwise(edges) if a < b]


def fingerprints(lake: Lake, table: str, first: date, last: date, *, segments: bool = True) -> Files:
    """Fingerprint of the files of every period of `table` from `first` to `last`, or of the whole table's one file."""
    digests: dict[str, Any] = {}
    for file in lake.version(table).files:
        period = file.period
        if (file.segment and not segments) or not (period == STATIC or touches(period, first, last)):
            continue
        seen = file.sum if lake.is_whole(table, file) else "damaged"
        digests.setdefault(period, hashlib.blake2b(digest_size=12)).update(repr(seen).encode())
    return {period: digest.hexdigest() for period, digest in digests.items()}


@dataclass(frozen=True)
class Journal:
    """What each feature day (or month) was made from: one record each in the database. The fingerprints of raw files
    that the periods of one chunk share are one record of their own."""

    lake: Lake
    project: Project

    @cached_property
    def version(self) -> str:
        """Version of the views: another one makes every day stale. What the sources read is in their files."""
        return features_version(self.project.features)

    def stale(self, days: Collection[date]) -> dict[date, list[str]]:
        """Days that are not done -> why, for example `flights 2013-01-03`."""
        if not days:
            return {}
        inputs, outputs = self.inputs(min(days), max(days)), self.outputs(min(days), max(days))
        changes: dict[str, Changes | None] = {}
        found: dict[date, list[str]] = {}
        records = self._records()
        for stem, own in by_stem(sorted(days), self.project.partition_by).items():
            record = records.get(stem, {})
            reasons = self._reasons(stem, record, inputs, outputs, changes)
            made = set(_days(stem, record))
            found |= {day: reasons or [NEVER_MADE] for day in own if reasons or day not in made}
        return found

    def late(self, days: Collection[date]) -> dict[date, list[str]]:
        """Of these the days that were made, but whose raw days or files changed afterwards."""
        return {day: why for day, why in self.stale(days).items() if why[0] not in (NEVER_MADE, OTHER_CODE)}

    def write(self, days: Collection[date], inputs: Mapping[str, Files]) -> None:
        """Record `days` as made from `inputs`, whose fingerprints were taken before their rows were read."""
        outputs = self.outputs(min(days), max(days))
        text = orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)
        shared = _name_of(text)
        records = {}
        for stem, own in by_stem(sorted(days), self.project.partition_by).items():
            made = {view: files[stem] for view, files in outputs.items() if stem in files}
            record: dict[str, Any] = {"version": self.version, "inputs": shared, "outputs": made}
            if period_of(stem) == "month":
                record["days"] = [day.day for day in own]
            records[stem] = orjson.dumps(sealed(record)).decode()
        self._put(records, shared, text.decode())

    def _put(self, records: Mapping[str, str], digest: str, inputs: str) -> None:
        from sqlalchemy import delete, insert

        from fti.storage.schema import feature_inputs, feature_periods

        own, name = feature_periods.c, self.project.name
        with self.lake.transaction() as connection:
            shared = feature_inputs.c.project == name, feature_inputs.c.digest == digest
            connection.execute(delete(feature_inputs).where(*shared))
            connection.execute(insert(feature_inputs), [{"project": name, "digest": digest, "inputs": inputs}])
            connection.execute(delete(feature_periods).where(own.project == name, own.period.in_(list(records))))
            rows = [{"project": name, "period": period, "record": record} for period, record in records.items()]
            connection.execute(insert(feature_periods), rows)

    def days(self) -> list[date]:
        """Days that have a record, oldest first."""
        return sorted(day for stem, record in self._records().items() for day in _days(stem, record))

    def versions(self) -> Iterator[tuple[list[date], str]]:
        """The days of each record, and the version of the views that made them."""
        for stem, record in self._records().items():
            yield _days(stem, record), record["version"]

    def inputs(self, first: date, last: date) -> dict[str, Files]:
        """Fingerprints of the raw files, as they lie in the lake, that the views read for these days."""
        first = self._since(stem_of(first, self.project.partition_by))
        tables = {name: f"{self.project.name}/raw/{name}" for name in self.project.features.sources}
        return {name: fingerprints(self.lake, table, first, last) for name, table in tables.items()}

    def outputs(self, first: date, last: date) -> dict[str, Files]:
        """Fingerprints of the feature files of these days; segments come from elsewhere."""
        tables = self.lake.tables(f"{self.project.name}/features")
        return {
            table.rpartition("/")[2]: fingerprints(self.lake, table, first, last, segments=False) for table in tables
        }

    def _since(self, stem: str) -> date:
        """The oldest raw day that a period's features may need."""
        return (midnight(first_day(stem)) - self.project.features.lookback).date()

    def _records(self) -> dict[str, dict[str, Any]]:
        """Period -> what is known of it, oldest first; one that is damaged is left out, so that it is made again."""
        from sqlalchemy import select

        from fti.storage.schema import feature_periods

        own = feature_periods.c
        query = select(own.period, own.record).where(own.project == self.project.name).order_by(own.period)
        with self.lake.transaction(write=False) as connection:
            rows = connection.execute(query).all()
        records = {}
        for period, text in rows:
            with contextlib.suppress(DataError):
                records[period] = unsealed(text.encode(), Path(period), "", required=True)
        return records

    def _changes(self, name: str, inputs: Mapping[str, Files]) -> Changes | None:
        """Source -> its files that differ between the shared record `name` and `inputs`; None without that record."""
        from sqlalchemy import select

        from fti.storage.schema import feature_inputs

        own = feature_inputs.c
        query = select(own.inputs).where(own.project == self.project.name, own.digest == name)
        with self.lake.transaction(write=False) as connection:
            text = str(connection.execute(query).scalar() or "")
        if _name_of(text.encode()) != name:
            return None
        known = orjson.loads(text)
        return {
            source: _changed(known.get(source, {}), inputs.get(source, {}))
            for source in sorted(known.keys() | inputs.keys())
        }

    def _reasons(
        self,
        stem: str,
        record: Mapping[str, Any],
        inputs: Mapping[str, Files],
        outputs: Mapping[str, Files],
        changes: dict[str, Changes | None],
    ) -> list[str]:
        """Why the period of `record` is not done. `changes` keeps what was found for those that share their inputs."""
        shared = record.get("inputs")
        if not isinstance(shared, str):  # none, or an older version's
            return [NEVER_MADE]
        if record["version"] != self.version:
            return [OTHER_CODE]
        lost = [view for view, digest in record["outputs"].items() if outputs.get(view, {}).get(stem) != digest]
        if lost:
            return [f"{view} is not as it was written" for view in lost]
        if shared not in changes:
            changes[shared] = self._changes(shared, inputs)
        found = changes[shared]
        if found is None:
            return [NEVER_MADE]
        first, last = self._since(stem), end_day(stem) - DAY
        return [f"{source} {name}" for source, names in found.items() for name in _between(names, first, last)]


def _name_of(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def _days(stem: str, record: Mapping[str, Any]) -> list[date]:
    """The days that a record is about."""
    first = first_day(stem)
    return [first.replace(day=day) for day in record.get("days", ())] if period_of(stem) == "month" else [first]


def _changed(known: Files, now: Files) -> list[str]:
    return sorted(stem for stem in known.keys() | now.keys() if known.get(stem) != now.get(stem))


def _between(stems: Sequence[str], first: date, last: date) -> list[str]:
    """Of sorted periods those that touch `first` .. `last`, and the table that has none."""
    length = len(stems[0]) if stems else 0
    begin, end = first.isoformat()[:length], last.isoformat()[:length]
    found = stems[bisect_left(stems, begin) : bisect_right(stems, end)]
    return [*found, STATIC] if STATIC in stems[-1:] else [*found]
