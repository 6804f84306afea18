"""Late data: a sensor that has the feature days made again whose raw days changed after they were made."""

import hashlib
from collections.abc import Iterator
from typing import Any

import dagster as dg
import orjson

from feature_pipeline.batch.chunks import Journal, spans
from fti.project import Project
from fti.storage.periods import DAY
from fti.stores.lake.store import Lake

INTERVAL_SECONDS = 3600
MAX_REASONS = 5


def late_data_sensor(project: Project, job: Any) -> dg.SensorDefinition:
    """The sensor `<project>_late_data`: one run per range of neighbouring days, once for each state of its raw days."""

    @dg.sensor(
        name=project.job("late_data"),
        job=job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes the feature days again whose raw days changed after they were made.",
    )
    def late_data(lake: dg.ResourceParam[Lake]) -> Iterator[dg.RunRequest | dg.SkipReason]:
        requests = list(_requests(project, Journal(lake, project)))
        yield from requests
        if not requests:
            yield dg.SkipReason("every feature day was made from its raw days as they are")

    return late_data


def _requests(project: Project, journal: Journal) -> Iterator[dg.RunRequest]:
    late = journal.late(journal.days())
    for start, end in spans(late):
        first, last = start.date(), (end - DAY).date()
        state = orjson.dumps(journal.inputs(first, last), option=orjson.OPT_SORT_KEYS)
        reasons = sorted({reason for day, found in late.items() if first <= day <= last for reason in found})
        more = f" and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
        yield dg.RunRequest(
            run_key=f"{first} {last} {hashlib.blake2b(state, digest_size=12).hexdigest()}",
            asset_selection=[dg.AssetKey(project.key("features")), dg.AssetKey(project.key("online_features"))],
            tags={
                "dagster/asset_partition_range_start": project.partition(start),
                "dagster/asset_partition_range_end": project.partition(end - DAY),
                "fti/trigger": "late data",
                "fti/reason": ", ".join(reasons[:MAX_REASONS]) + more,
            },
        )
