"""One feature view, as one feature service reads it online."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import polars as pl

from fti.errors import DataError
from fti.stores.features.online.reading import Wanted
from fti.stores.features.online.types import FIXED, Tail, declared, tail


@dataclass(frozen=True)
class ServedView:
    """A feature view as one feature service reads it."""

    view: Any
    """The `feast.FeatureView`, with the service's projection."""
    start: bytes
    """Prefix of its entities' keys."""
    columns: tuple[str, ...]
    """Columns of the entity rows, in the order of the sorted join keys."""
    key_types: tuple[Any, ...]
    wanted: Wanted
    types: dict[str, Any]
    """Feature -> polars type, in the order of the service."""

    @property
    def name(self) -> str:
        return str(self.view.name)

    @cached_property
    def loads(self) -> dict[str, Callable[[bytes], Any]]:
        """Feature of any length -> bytes to Python value."""
        return {name: kind.load for name, kind in self._tails.items()}

    def declared(self, rows: pl.DataFrame, entity_rows: pl.DataFrame) -> list[pl.Series]:
        """The features among `rows` as they are declared; DataError names the row of what cannot be."""
        of, row = f"feature view {self.name}", partial(self._entity, entity_rows)
        return [declared(rows[name], own.dtype, of=of, row=row) for name, own in self.features.items()]

    def _entity(self, rows: pl.DataFrame, place: int) -> str:
        """A row of entity rows, for people."""
        return ", ".join([f"row {place}", *(f"{name} {rows[name][place]!r}" for name in self.columns)])

    @cached_property
    def features(self) -> dict[str, Any]:
        """Feast's features by name, in the order of the service."""
        own = {feature.name: feature for feature in self.view.features}
        return {name: own[name] for name in self.types}

    @cached_property
    def _tails(self) -> dict[str, Tail]:
        return {name: tail(own.dtype) for name, own in self.features.items() if str(own.dtype) not in FIXED}

    def series(self, name: str, raws: Sequence[Any]) -> pl.Series:
        """A feature of any length as a column; what is not bytes is a value already."""
        if self.types[name] is None:
            raise DataError(f"feature {self.name}:{name} has no polars type; read it with get_online_features")
        load, dtype, stored = self.loads[name], self.types[name], self._tails[name].stored
        if stored == dtype:
            return pl.Series(name, [load(raw) if isinstance(raw, bytes) else raw for raw in raws], dtype)
        defaults = pl.Series(name, [None if isinstance(raw, bytes) else raw for raw in raws], dtype)
        return defaults.fill_null(
            pl.Series(name, [load(raw) if isinstance(raw, bytes) else None for raw in raws], stored).cast(dtype)
        )
