"""Point-in-time questions about rows that lie in no order: the questions are sorted, and each row finds its own.

Sorting the questions once for all feature views costs less than sorting the rows of each view.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import polars as pl

from fti.stores.features.offline.search import FIRST, LAST, last_until, match, sorted_places, spans

_CODE, _PLACE, _MOMENT = "__code", "__place", "__moment"
_CHUNK = 1 << 14
_LONG_AGO = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Questions:
    """Entities and moments (UTC microseconds) that were asked about, sorted by both.

    `entities` has the keys with their first and last question, `order` the place at which each of the sorted questions
    was asked, `number` how many places there are.
    """

    number: int
    entities: pl.DataFrame
    moments: np.ndarray
    order: np.ndarray

    @classmethod
    def of(cls, keys: pl.DataFrame, moments: pl.Series) -> Questions:
        """The questions about `keys` at `moments`; one with a null has no answer and is left out."""
        asked = moments.alias(_MOMENT).to_frame().hstack(keys.get_columns()).with_row_index(_PLACE).drop_nulls()
        named = asked.select(keys.columns)
        entities = named.unique().with_row_index(_CODE) if keys.width else pl.DataFrame()
        code = match(named, entities)[_CODE] if keys.width else pl.zeros(asked.height, pl.UInt32, eager=True)
        numbers = np.bincount(code.to_numpy(), minlength=0 if keys.width else 1)
        ends = np.cumsum(numbers)
        spans = pl.DataFrame({FIRST: ends - numbers, LAST: ends - 1}, schema={FIRST: pl.Int64, LAST: pl.Int64})
        order = sorted_places(code, asked[_MOMENT])
        return cls(
            len(moments),
            entities.drop(_CODE).hstack(spans) if keys.width else spans,
            asked[_MOMENT].to_numpy()[order],
            asked[_PLACE].to_numpy()[order],
        )

    def newest(self, keys: pl.DataFrame, known: pl.Series) -> np.ndarray:
        """For each question the newest of the rows of `keys`, `known` by its moment; -1 where there is none.

        Of two rows known from one moment it is the later one.
        """
        found = np.full(self.number, -1, np.int64)
        if len(known) and len(self.moments):
            row = self._newest(keys, known.to_numpy())
            found[self.order] = row
        return found

    def _newest(self, keys: pl.DataFrame, known: np.ndarray) -> np.ndarray:
        """The same by sorted question. A row answers the first question that may know it, unless a newer one does, and
        the later ones of its entity up to the next that has a row of its own."""
        place, is_asked = self._places(keys, known)
        rows = np.flatnonzero(is_asked)
        place, known = place[rows], known[rows]
        latest = np.full(len(self.moments), _LONG_AGO)
        np.maximum.at(latest, place, known)
        newest = latest[place] == known
        row = np.full(len(self.moments), -1, np.int64)
        row[place[newest]] = rows[newest]  # the last of those that have one place stays
        answered = np.maximum.accumulate(np.where(row >= 0, np.arange(len(row)), -1))
        return np.where(answered >= self._firsts(), row[answered], -1)

    def _places(self, keys: pl.DataFrame, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The first question of each row's entity that may know the row, and whether there is one."""
        first, last = spans(keys, self.entities, len(known))
        place = np.empty(len(known), np.int64)

        def search(start: int) -> None:
            piece = slice(start, start + _CHUNK)
            place[piece] = last_until(self.moments, first[piece], last[piece], known[piece] - 1) + 1

        with ThreadPoolExecutor(pl.thread_pool_size()) as pool:
            list(pool.map(search, range(0, len(known), _CHUNK)))
        return place, place <= last

    def _firsts(self) -> np.ndarray:
        """The first question of the entity of each question."""
        first, last = (self.entities[name].to_numpy() for name in (FIRST, LAST))
        order = np.argsort(first)
        return np.repeat(first[order], (last - first + 1)[order])
