"""Real traffic of the past, sent to the running service as it would have come."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fti.errors import NotReadyError
from fti.project import Project
from fti.times import TIME

if TYPE_CHECKING:
    import httpx
    import polars as pl

    from fti.stores.features.store import FeatureStore
    from fti.stores.lake.store import Lake

TICK = timedelta(hours=2)
"""How far the clock moves at once; online features are at most this much older than a prediction."""
BATCH = 500


def requests_of(project: Project, lake: Lake, start: datetime, end: datetime, *, share: float = 1.0) -> pl.DataFrame:
    """Every request about `[start, end)`, by moment of prediction, with its `request_id`.

    The id is made of the row's key, so that a request that is sent twice is logged once. `share` keeps a part of the
    requests, always the same ones. Nobody asks before the first model is there.
    """
    import polars as pl

    from fti.project.labels import label_rows

    label = project.label
    tables = lake.raw(project.name, label.sources, start=start, end=end)
    found = label_rows(project, tables)
    rows = found.select(*(name for name in project.service.request if name in found.columns), label.moment())
    key = pl.concat_str([pl.col(name).cast(pl.String) for name in label.key], separator="|")
    chosen = pl.struct(label.key).hash(project.model.seed) % 10_000 < int(share * 10_000)
    about = pl.col(label.time).is_between(start, end, closed="left")
    rows = rows.with_columns(request_id=key).filter(about, pl.col(TIME) >= project.dataset.until)
    return rows.filter(chosen).sort(TIME, "request_id")


def ticks(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """`[start, end)` in steps of `TICK`."""
    while start < end:
        yield start, min(start + TICK, end)
        start += TICK


def send(
    project: Project,
    store: FeatureStore,
    requests: pl.DataFrame,
    *,
    client: httpx.Client,
    start: datetime,
    end: datetime,
) -> None:
    """Move the clock through `[start, end)`: at each tick what is known by then goes online, then requests go out."""
    import polars as pl

    for begin, until in ticks(start, end):
        store.materialize(project.features.service, begin - TICK, begin)
        due = requests.filter(pl.col(TIME).is_between(begin, until, closed="left"))
        for batch in due.iter_slices(BATCH):
            _post(client, [_json_row(row) for row in batch.drop(TIME).iter_rows(named=True)])


def _post(client: httpx.Client, instances: list[dict[str, Any]]) -> None:
    response = client.post("/predict_batch", json={"instances": instances})
    if response.status_code != 200:
        raise NotReadyError(f"the service answered {response.status_code}: {response.text[:500]}")


def _json_row(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row.items()
        if value is not None
    }
