"""The different texts of a column with their rows: what its type is guessed from, whatever the order of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import polars as pl

MOST_WORDS, MOST_CELLS, FEWEST = 5_000, 1_000_000, 1_500
"""Different texts of a column that are looked at: fewer of a wide table."""
LETTERS = 100
"""Of a text, that decide what it is."""
_HASH = "hash"


@dataclass(frozen=True, kw_only=True)
class Words:
    """Different texts of a column: all, or of very many those with the lowest hashes, in the order of their hashes."""

    name: str
    texts: pl.Series
    """As in the file, cut to 100 letters."""
    rows: pl.Series
    """How many rows hold each of them."""
    whole: bool = True
    """Whether these are all texts of the column."""

    @cached_property
    def stripped(self) -> pl.Series:
        """The texts without the spaces around them."""
        return self.texts.str.strip_chars()

    def where(self, chosen: pl.Series) -> Words:
        """Those of the texts for which `chosen` is true."""
        return replace(self, texts=self.texts.filter(chosen), rows=self.rows.filter(chosen))

    def without(self, marks: Sequence[str]) -> Words:
        """The texts that are none of `marks` and not empty."""
        return self.where(~self.stripped.is_in(["", *marks]))

    def share(self, pattern: str) -> float:
        """Share of the rows whose text the pattern matches; exactly 1 or 0 for all or none of them."""
        return self.share_of(self.stripped.str.contains(pattern))

    def shares(self, *patterns: str) -> list[float]:
        """The shares of several patterns at once."""
        matched = self.stripped.to_frame("t").select(
            pl.col("t").str.contains(pattern).alias(str(at)) for at, pattern in enumerate(patterns)
        )
        return [self.share_of(matched[str(at)]) for at in range(len(patterns))]

    def share_of(self, chosen: pl.Series) -> float:
        """Share of the rows whose text is chosen."""
        return int(self.rows.filter(chosen).sum()) / max(1, int(self.rows.sum()))

    def any(self, pattern: str) -> bool:
        """Whether the pattern matches one of the texts."""
        return bool(self.stripped.str.contains(pattern).any())


def words_of(texts: pl.Series) -> Words:
    """The different texts of one column that is held in memory."""
    return words([texts.to_frame()], [texts.name])[texts.name]


def words(parts: Iterable[pl.DataFrame], names: Sequence[str]) -> Mapping[str, Words]:
    """The different texts of each column over all parts of a table, in one pass.

    Of a column with more than can be looked at, the texts with the lowest hashes are kept. A text that is kept at the
    end was kept from its first row on, so that its rows are counted exactly.
    """
    most = max(FEWEST, min(MOST_WORDS, MOST_CELLS // max(1, len(names))))
    counted: dict[str, pl.DataFrame] = {}
    for part in parts:
        for name in names:
            counted[name] = _kept(_counts(part[name], counted.get(name), most), most)
    return {
        name: Words(name=name, texts=table["text"], rows=table["rows"], whole=table.height < most)
        for name, table in counted.items()
    }


def _counts(texts: pl.Series, before: pl.DataFrame | None, most: int) -> pl.DataFrame:
    """Columns `text`, `rows` and `hash` of a part's texts together with those of the parts `before` it."""
    short = texts.drop_nulls().str.head(LETTERS).alias("text")
    if before is not None and before.height == most:
        short = short.filter(short.hash(7) <= before[_HASH].max())
    counts = short.value_counts(name="rows").with_columns(pl.col("text").hash(7).alias(_HASH))
    if before is None:
        return counts
    return pl.concat([before, counts]).group_by("text", _HASH).agg(pl.col("rows").sum()).select("text", "rows", _HASH)


def _kept(counts: pl.DataFrame, most: int) -> pl.DataFrame:
    """The texts with the lowest hashes, in order; texts decide between equal hashes."""
    return counts.sort(_HASH, "text").head(most)
