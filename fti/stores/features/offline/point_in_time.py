"""Point-in-time joins, pure functions on polars frames: each row gets what was known at its moment, nothing later."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from fti.errors import DataError
from fti.stores.features.offline.layout import EVENT, KNOWN, Layout, Place, scan, state_of
from fti.stores.features.offline.long_history import is_long, newest_in_parts
from fti.stores.features.offline.questions import Questions
from fti.stores.features.offline.search import gathered
from fti.times import TIME, utc

MANY_ROWS, BYTES_PER_ROW = 100_000, 1024
"""The second join of this many entity rows builds a missing layout, if its source has no more bytes for each."""
_RANK = "__rank"
_PIECE = 1 << 15
"""Entity rows that a processor looks up at least."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class History:
    """The rows of one feature view over time, and how they meet the rows that ask.

    `keys` maps an entity column of `rows` to the asking column, `features` a column of `rows` to its name in the
    result. `time` is when a row happened; `created`, if there is one, when it was written down: it counts only from
    then on (never, if it is null), and of two rows of one time the later written one wins. A zero `ttl` never expires.
    `source` is the local folder or file that `rows` come from, if they do, and `mapping` renames its columns to those
    of `rows`.
    """

    name: str
    rows: pl.LazyFrame
    keys: Mapping[str, str]
    features: Mapping[str, str]
    time: str
    created: str | None = None
    ttl: timedelta = timedelta(0)
    source: Path | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)


def point_in_time_join(entity_rows: pl.DataFrame, histories: Sequence[History], time: str = TIME) -> pl.DataFrame:
    """`entity_rows`, all of them and in their order, with the features of `histories` as known at column `time`."""
    moments = entity_rows.select(utc(entity_rows.schema, time, "entity rows")).to_series()
    layouts = [_layout(history, entity_rows.height) for history in histories]
    sorted_views = [(history, layout) for history, layout in zip(histories, layouts, strict=True) if layout]
    others = [history for history, layout in zip(histories, layouts, strict=True) if not layout]
    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
        frames = _by_rows(entity_rows, moments, others, pool) if others else []
        if sorted_views:
            frames.append(_by_layouts(entity_rows, moments, sorted_views, pool))
    found = pl.concat([entity_rows, *frames], how="horizontal")
    return found.select(*entity_rows.columns, *(name for own in histories for name in own.features.values()))


def _by_rows(
    entity_rows: pl.DataFrame, moments: pl.Series, histories: Sequence[History], pool: Executor
) -> list[pl.DataFrame]:
    """The features of histories without a layout; the entity rows are sorted once for all that share their keys."""
    asked: dict[tuple[Any, ...], Questions] = {}
    questions = []
    for history in histories:
        keys = _keys(entity_rows, history, history.rows.collect_schema()).rename(_numbered(history))
        meaning = (*history.keys.values(), *keys.dtypes)
        if meaning not in asked:
            asked[meaning] = Questions.of(keys, moments.dt.epoch("us"))
        questions.append(asked[meaning])
    return list(pool.map(lambda history, own: features_at(own, moments, history), histories, questions))


def _by_layouts(
    entity_rows: pl.DataFrame, moments: pl.Series, views: Sequence[tuple[History, Layout]], pool: Executor
) -> pl.DataFrame:
    """The features of histories with a layout; the entity rows are shared among all processors."""
    together: dict[tuple[str, ...], list[tuple[History, Layout]]] = {}
    for history, layout in views:
        together.setdefault(tuple(history.keys.values()), []).append((history, layout))

    size = max(-(-entity_rows.height // pl.thread_pool_size()), _PIECE)

    def answer(start: int) -> pl.DataFrame:
        rows, asked = entity_rows.slice(start, size), moments.slice(start, size)
        return pl.concat([_by_entity(rows, asked, group) for group in together.values()], how="horizontal")

    return pl.concat(pool.map(answer, range(0, max(entity_rows.height, 1), size)))


def _by_entity(entity_rows: pl.DataFrame, moments: pl.Series, views: Sequence[tuple[History, Layout]]) -> pl.DataFrame:
    """The features of histories of the same keys, looked up entity after entity: their rows lie side by side."""
    history, layout = views[0]
    order = layout.order(_keys(entity_rows, history, layout.entities.schema)) if history.keys else None
    if order is not None:
        entity_rows, moments = entity_rows.select(*history.keys.values())[order], moments[order]
    found = [features_of(layout, entity_rows, moments, history) for history, layout in views]
    made = pl.concat(found, how="horizontal")
    return made if order is None else made[_inverse(order)]


def _inverse(order: pl.Series) -> pl.Series:
    """What undoes `order`."""
    places = np.empty(len(order), np.uint32)
    places[order.to_numpy()] = np.arange(len(order), dtype=np.uint32)
    return pl.Series(places)


def optimize(history: History) -> Layout | None:
    """Build the sorted layout of `history` unless it is there; joins of many rows are then several times faster.

    None when its rows do not come from a local file or a flat folder.
    """
    return _layout(history, None)


def features_of(layout: Layout, entity_rows: pl.DataFrame, moments: pl.Series, history: History) -> pl.DataFrame:
    """The features of `history` for `entity_rows` at `moments`, found in its sorted layout."""
    keys = _keys(entity_rows, history, layout.entities.schema)
    ttl = history.ttl // timedelta(microseconds=1)
    return layout.features_at(keys, moments.dt.epoch("us"), ttl, list(history.features)).rename(dict(history.features))


def features_at(questions: Questions, moments: pl.Series, history: History) -> pl.DataFrame:
    """The features of `history` for `questions`, asked at `moments`, found among all its rows."""
    if history.created is None and questions.number > MANY_ROWS and _is_long(history):
        rows, keys, features = _complete(history), _numbered(history), list(history.features)
        found = newest_in_parts(
            questions, moments, rows, keys=keys, time=history.time, features=features, ttl=history.ttl
        )
        return found.rename(dict(history.features))
    known = _known(history)
    row = questions.newest(known.select(*history.keys).rename(_numbered(history)), known[KNOWN].dt.epoch("us"))
    if history.ttl > timedelta(0) and known.height:
        age = moments.dt.epoch("us").fill_null(0).to_numpy() - known[EVENT].dt.epoch("us").to_numpy().take(row)
        row[age > history.ttl // timedelta(microseconds=1)] = -1
    return gathered(known, row, list(history.features)).rename(dict(history.features))


def _is_long(history: History) -> bool:
    """Whether the rows are too many to be held; the files' own numbers of rows mostly say that they are not."""
    files = Place(history.source, "").files() if history.source else []
    return (not files or is_long(scan(files))) and is_long(_complete(history))


def latest(history: History) -> pl.LazyFrame:
    """The newest row of each entity: its keys, features, time and, if there is one, creation time."""
    rows = require(history).drop_nulls([*history.keys, history.time])
    rows = rows.sort(_times(history), nulls_last=False, maintain_order=True)
    return rows.unique(subset=list(history.keys), keep="last", maintain_order=True)


def between(history: History, start: datetime | None, end: datetime | None) -> History:
    """`history` cut to rows with `start <= time <= end`; a missing bound is open."""
    rows = history.rows
    time = utc(rows.collect_schema(), history.time, f"feature view {history.name}")
    if start is not None:
        rows = rows.filter(time >= aware(start))
    if end is not None:
        rows = rows.filter(time <= aware(end))
    return replace(history, rows=rows, source=None)


def aware(moment: datetime) -> datetime:
    """`moment` in UTC; one without a zone is taken to be in UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def require(history: History) -> pl.LazyFrame:
    """The columns of `history` that the join reads, times in UTC; a missing one is named."""
    schema = history.rows.collect_schema()
    needed = [*history.keys, *history.features, *_times(history)]
    missing = [column for column in needed if column not in schema]
    if missing:
        raise DataError(
            f"feature view {history.name}: its source has no column {missing[0]!r} (it has {', '.join(schema)}). "
            "Materialize its features again, or correct the feature view."
        )
    name = f"feature view {history.name}"
    return history.rows.select(needed).with_columns(utc(schema, column, name) for column in _times(history))


def _keys(entity_rows: pl.DataFrame, history: History, schema: pl.Schema) -> pl.DataFrame:
    """The entity columns of `history` in `entity_rows`, in the names and types of the history."""
    return entity_rows.select(pl.col(key).cast(schema[own]).alias(own) for own, key in history.keys.items())


def _numbered(history: History) -> dict[str, str]:
    """Names of the keys that histories have in common."""
    return {own: f"__key_{place}" for place, own in enumerate(history.keys)}


def _times(history: History) -> list[str]:
    return [history.time, *([history.created] if history.created else [])]


def _complete(history: History) -> pl.LazyFrame:
    """The rows that can answer: those with keys and times."""
    return require(history).drop_nulls([*history.keys, *_times(history)])


def _known(history: History) -> pl.DataFrame:
    """Keys, features, when each row happened and the moment from which it is known, `__known`.

    With creation times, each row is the newest that was known of its entity by then, and rows are sorted.
    """
    rows = _complete(history)
    if history.created is None:
        return rows.with_columns(pl.col(history.time).alias(KNOWN)).rename({history.time: EVENT}).collect()
    found = rows.collect().sort(_times(history), nulls_last=False, maintain_order=True)
    known = found.select(pl.max_horizontal(_times(history)).alias(KNOWN), *history.keys).with_row_index(_RANK)
    known = known.sort(KNOWN, maintain_order=True)
    rank = pl.col(_RANK).cum_max()
    newest = known.select(KNOWN, rank.over(list(history.keys)) if history.keys else rank)
    return found[newest[_RANK]].with_columns(newest[KNOWN]).rename({history.time: EVENT}).drop(history.created)


# --- the sorted layout of a history ------------------------------------------------------------------------------


def _layout(history: History, num_asked: int | None) -> Layout | None:
    """The layout of `history` if it is there or, for `num_asked` entity rows, worth building."""
    if history.source is None:
        return None
    meaning = (list(history.keys), history.time, history.created, sorted(history.mapping.items()))
    place = Place(history.source, repr(meaning))
    files = place.files()
    found = place.find(files, history.features)
    if found is None and files and (num_asked is None or _is_worth_it(num_asked, place, files)):
        return _build(history, place, files)
    return found


def _is_worth_it(num_asked: int, place: Place, files: Sequence[Path]) -> bool:
    """Whether a layout would pay: many questions, a source not far larger, and it is asked for a second time."""
    if num_asked < MANY_ROWS or sum(file.stat().st_size for file in files) > num_asked * BYTES_PER_ROW:
        return False
    if is_long(scan(files)):
        return False
    try:
        return place.asked_before(state_of(files))
    except OSError as error:
        logger.warning("%s: no sorted layout can be kept (%s); each large join sorts anew", place.folder, error)
        return False


def _build(history: History, place: Place, files: Sequence[Path]) -> Layout:
    """The layout of all rows of `files` with the features asked for now and before, kept at `place` if it can be."""
    state = state_of(files)
    rows = scan(files)
    present = rows.collect_schema()
    own = {name: name for name in present} | {new: old for old, new in history.mapping.items() if old in present}
    rows = rows.select(pl.col(old).alias(name) for name, old in own.items())
    columns = sorted({*history.features, *place.columns().intersection(own)})
    known = _known(replace(history, rows=rows, features=dict(zip(columns, columns, strict=True))))
    known = known.with_columns(pl.col(KNOWN, EVENT).dt.epoch("us"))
    layout = Layout.of(known if history.created else known.drop(EVENT), list(history.keys))
    try:
        if state_of(files) == state:
            place.write(layout, state)
    except OSError as error:
        logger.warning("%s: no sorted layout can be kept (%s); each large join sorts anew", place.folder, error)
    return layout
