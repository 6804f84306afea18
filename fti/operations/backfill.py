"""`fti backfill`: days of raw rows and features, made in chunks; then the days that read what changed; then online."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from fti.errors import NotReadyError
from fti.operations.session import Loop, daily_nouns, days, open_loop
from fti.project import Project
from fti.project.loading import find_project
from fti.settings import Settings

if TYPE_CHECKING:
    from feature_pipeline.batch.chunks import Journal

MAX_REASONS = 5


def run(
    settings: Settings, name: str, span: tuple[date | None, date | None] | None, *, chunk_days: int, again: bool
) -> None:
    """Backfill the days of `span`, both included, or without one only the days whose inputs or code changed."""
    from rich.console import Console

    project = find_project(settings.project_modules, name)
    wanted = None if span is None else full_range(project, *span)
    loop = open_loop(settings, project, Console())
    config = {"chunk_days": chunk_days}
    if wanted:
        fill(loop, *wanted, config, again=again)
    changed(loop, config)
    with step(loop, "online features"):
        loop.execute("features", assets=("online_features",))


def fill(loop: Loop, start: datetime, end: datetime, config: Mapping[str, Any], *, again: bool) -> None:
    """Raw rows and features of `[start, end)`."""
    static = tuple(f"raw_{source.name}" for source in loop.project.sources if not source.timestamp)
    nouns = daily_nouns(loop.project)
    configs = {**dict.fromkeys(nouns, config), "features": {**config, "again": again}}
    with step(loop, f"raw rows and features, {start:%Y-%m-%d} .. {end - timedelta(days=1):%Y-%m-%d}"):
        if static:
            loop.execute("features", assets=static)
        loop.execute(
            "features", assets=nouns, tags=days(loop.project, start, end), run_config=loop.project.run_config(**configs)
        )


def changed(loop: Loop, config: Mapping[str, Any]) -> None:
    """The feature days whose inputs, code or files are not those they were made from."""
    from feature_pipeline.batch.chunks import spans

    journal = journal_of(loop)
    stale = journal.stale(journal.days())
    if not stale:
        loop.console.print("every feature day is up to date with its raw days")
    else:
        loop.console.print(f"{len(stale)} feature days are not: {told(stale.values())}")
    for start, end in spans(stale):
        with step(loop, f"features, {start:%Y-%m-%d} .. {end - timedelta(days=1):%Y-%m-%d}"):
            run_config = loop.project.run_config(features=config)
            loop.execute("features", assets=("features",), tags=days(loop.project, start, end), run_config=run_config)


def journal_of(loop: Loop) -> Journal:
    """What the project's feature days were made from."""
    from feature_pipeline.batch.chunks import Journal

    return Journal(loop.stores.lake, loop.project)


def told(reasons: Collection[Collection[str]]) -> str:
    """The reasons with how many days have each, most frequent first."""
    counted = Counter(reason for found in reasons for reason in found)
    shown = [f"{reason} ({count} days)" for reason, count in counted.most_common(MAX_REASONS)]
    return ", ".join(shown) + (f" and {len(counted) - MAX_REASONS} more" if len(counted) > MAX_REASONS else "")


def full_range(project: Project, first: date | None, last: date | None) -> tuple[datetime, datetime]:
    """`[start, end)` of the days from `first` to `last`, by default all that the project has."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    earliest, latest = project.partitions_start, min(project.partitions_end or today, today)
    start = _midnight(first) if first else earliest
    end = _midnight(last) + timedelta(days=1) if last else latest
    if not earliest <= start < end <= latest:
        raise NotReadyError(
            f"{start:%Y-%m-%d} .. {end - timedelta(days=1):%Y-%m-%d} are not days of {project.name}: it has "
            f"{earliest:%Y-%m-%d} .. {latest - timedelta(days=1):%Y-%m-%d}"
        )
    return start, end


@contextmanager
def step(loop: Loop, name: str) -> Iterator[None]:
    """A measured step whose progress stays on the terminal, a line a chunk."""
    with loop.step(name):
        loop.progress.show = lambda message: loop.console.print(f"  {message}", markup=False, highlight=False)
        yield


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
