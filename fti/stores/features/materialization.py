"""What goes online: the newest rows of a time range, batch by batch, and which of them never arrived."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from fti.stores.features.online import keys
from fti.stores.features.online.backend import Backend
from fti.stores.features.online.packing import tell_without_entity
from fti.stores.features.online.reading import Group, Wanted
from fti.stores.features.online.served import ServedView
from fti.times import utc

MOST_ENTITIES = 2_000_000
"""Rows of one view that are held while newer ones are looked for."""


def newest_rows(config: Any, view: Any, start: datetime, end: datetime, batch_rows: int) -> Iterator[pl.DataFrame]:
    """The newest row of each entity in `[start, end]`, both included, in the columns that the online store writes.

    Rows come in batches, and only the newest ones are kept; where these are over `MOST_ENTITIES`, an entity may come
    again in a later batch. Rows keep the order of the lake, so of two rows of one moment the later written comes last.
    Rows without entity are left out, and told.
    """
    from fti.stores.features.offline.point_in_time import between, latest
    from fti.stores.features.offline.store import history_of

    names = {feature.name: feature.name for feature in view.features}
    history = between(history_of(config, view, names=names, span=(start, end)), start, end)
    created = pl.col(history.created).dt.epoch("us") if history.created else pl.lit(None, pl.Int64)
    times = pl.col(history.time).dt.epoch("us").alias("event_ts"), created.alias("created_ts")
    names_of_keys = [column.name for column in view.entity_columns]

    def reduced(batches: Sequence[pl.DataFrame]) -> pl.DataFrame:
        return latest(replace(history, rows=pl.concat(batches).lazy())).collect()

    def chosen(batches: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        return reduced(batches).select(*names_of_keys, *times, *names).iter_slices(batch_rows)

    held: list[pl.DataFrame] = []
    lacking: list[pl.DataFrame] = []
    for batch in history.rows.collect_batches(chunk_size=batch_rows, maintain_order=True):
        if names_of_keys and any(batch[name].null_count() for name in names_of_keys):
            without = pl.any_horizontal(pl.col(names_of_keys).is_null())
            lacking.append(batch.filter(without).select(utc(batch.schema, history.time)))
        held.append(batch)
        if sum(part.height for part in held[1:]) >= max(batch_rows, held[0].height):
            held = [reduced(held)]
        if held[0].height > MOST_ENTITIES:
            yield from chosen(held)
            held = []
    if lacking:
        moments = pl.concat(lacking).to_series()
        tell_without_entity(view, len(moments), moments.min())  # type: ignore[arg-type]
    if held:
        yield from chosen(held)


def missing(served: ServedView, backend: Backend, batches: Iterator[pl.DataFrame]) -> int:
    """Entities of `batches` that are not, or only older, online."""
    lost: set[bytes | None] = set()
    names = [column.name for column in keys.entity_columns(served.view)]
    only_times = Group([Wanted(served.wanted.view, (), name=served.name)])
    for batch in batches:
        encoded = keys.of_frame(served.start, batch, names, served.key_types)
        rows = only_times.decode(backend.get([key for key in encoded if key is not None]), backend.layout, encoded)
        late = rows.events[:, 0] < batch["event_ts"].to_numpy()
        lost.update(key for key, is_late in zip(encoded, late.tolist(), strict=True) if is_late)
    return len(lost)
