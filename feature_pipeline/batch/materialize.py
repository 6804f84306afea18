"""The asset `online_features`: the newest row of every entity, brought from the lake to the online store."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from feature_pipeline.batch.pending import Marks, pending, settle
from feature_pipeline.batch.report import GROUP
from fti.errors import NotReadyError
from fti.project import Project
from fti.storage.periods import DAY, first_day, midnight
from fti.stores.features.store import FeatureStore
from fti.stores.lake.store import Lake

CHECK = "online_features_are_complete"


class OnlineRange(dg.Config):
    """ISO 8601 moments. Without `until` the end of the newest day in the lake; without `start` the last run's end, or
    the first day that was written again since."""

    start: str = ""
    until: str = ""


def newest_moment(project: Project, lake: Lake, views: list[str]) -> datetime:
    """End of the newest day that every feature view has in the lake; days ahead of the project's clock do not count."""
    last = project.now().date()
    days = {view: [day for day in lake.days(f"{project.name}/features/{view}") if day <= last] for view in views}
    empty = [view for view, present in days.items() if not present]
    if empty:
        raise NotReadyError(f"feature views {', '.join(empty)} have no rows in the lake: materialize `features` first")
    day = min(present[-1] for present in days.values())
    return midnight(day) + DAY


def range_of(
    config: OnlineRange, project: Project, lake: Lake, store: FeatureStore, marks: Marks
) -> tuple[datetime, datetime]:
    """What this run materializes."""
    services = store.services(project)
    views = [view for service in services for view in store.feature_names(service)]
    until = moment(config.until) if config.until else newest_moment(project, lake, views)
    if config.start:
        return min(moment(config.start), until), until
    last = min(store.materialized_until(service) or project.partitions_start for service in services)
    return min(last, until, *(midnight(first_day(stem)) for stem in marks)), until


def moment(text: str) -> datetime:
    """ISO 8601 to a UTC moment; without an offset it is UTC."""
    parsed = datetime.fromisoformat(text)
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


def online_features_asset(project: Project) -> dg.AssetsDefinition:
    """The asset `online_features`; not partitioned, since the online store holds one row per entity."""
    key = project.key("online_features")

    @dg.asset(
        key=key,
        group_name=GROUP,
        description=f"Newest features of {project.features.service} by entity, for predictions.",
        deps=[dg.AssetKey(project.key("features"))],
        check_specs=[dg.AssetCheckSpec(CHECK, asset=dg.AssetKey(key), blocking=True)],
        kinds={"feast"},
    )
    def online_features(
        context: dg.AssetExecutionContext,
        config: OnlineRange,
        lake: dg.ResourceParam[Lake],
        feature_store: dg.ResourceParam[FeatureStore],
    ) -> dg.MaterializeResult:
        feature_store.apply(project)
        marks = pending(lake, project)
        start, until = range_of(config, project, lake, feature_store, marks)
        services, written = feature_store.services(project), Counter[str]()
        for service in services if start < until else ():
            written.update(feature_store.materialize(service, start, until, record=True))
            context.log.info(f"{service}: {written.total():,} rows are online, now looking for lost ones")
        settle(lake, project, {stem: seen for stem, seen in marks.items() if midnight(first_day(stem)) < until})
        lacking = [feature_store.missing_online(service, start, until) for service in services]
        missing = {view: count for found in lacking for view, count in found.items()}
        facts: dict[str, Any] = {"start": start.isoformat(), "until": until.isoformat()}
        return dg.MaterializeResult(
            metadata={**facts, "dagster/row_count": written.total()}, check_results=[completeness(written, missing)]
        )

    return online_features


def completeness(written: Mapping[str, int], missing: Mapping[str, int]) -> dg.AssetCheckResult:
    """Whether the newest lake row of every entity is online."""
    lost = {view: count for view, count in missing.items() if count}
    description = "; ".join(f"{count} entities of {view} are not online" for view, count in lost.items())
    return dg.AssetCheckResult(
        passed=not lost,
        check_name=CHECK,
        description=f"{description}. Materialize again with an earlier `start`." if lost else None,
        metadata={"written": dg.MetadataValue.json(dict(written)), "missing": dg.MetadataValue.json(dict(missing))},
    )
