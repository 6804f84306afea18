"""What was read, as Feast's protobufs: value by value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from feast.feature_view import FeatureView
from feast.protos.feast.types.Value_pb2 import Value

from fti.stores.features.online.nested import moment
from fti.stores.features.online.reading import Group, LayoutOf
from fti.stores.features.online.sections import NEVER
from fti.stores.features.online.types import FIXED, tail, value_of

Answer = tuple[datetime | None, dict[str, Value] | None]
"""What Feast wants of a row: its time and its values, or nothing twice."""


def rows_of(
    group: Group, values: Sequence[bytes | None], layout: LayoutOf, keys: Sequence[bytes | None]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(event time, feature -> stored value or None) by row, or (NEVER, {}): for one view, value by value."""
    rows = group.decode(values, layout, keys)
    columns: dict[str, list[Any]] = {}
    for dtype, (block, valid) in rows.fixed.items():
        for place, name in enumerate(group.names[dtype]):
            pairs = zip(block[:, place].tolist(), valid[:, place].tolist(), strict=True)
            columns[name] = [value if present else None for value, present in pairs]
    columns.update(zip((name for _, name in group.tails), rows.tails, strict=True))
    found, events = rows.found[:, 0].tolist(), rows.events[:, 0].tolist()
    for row, online in enumerate(found):
        yield (events[row], {name: column[row] for name, column in columns.items()}) if online else (NEVER, {})


def protos(rows: Iterable[tuple[int, dict[str, Any]]], view: FeatureView) -> list[Answer]:
    """Rows as Feast wants them."""
    makers = {feature.name: _maker(feature.dtype) for feature in view.features}
    nothing = Value()
    return [
        (None, None)
        if event == NEVER
        else (
            moment(event),
            {name: nothing if value is None else makers[name](value) for name, value in values.items()},
        )
        for event, values in rows
    ]


def _maker(dtype: Any) -> Callable[[Any], Value]:
    """Stored value to protobuf."""
    kind = FIXED.get(str(dtype))
    if kind is None:
        return tail(dtype).to_proto
    return lambda value: value_of(kind.proto, kind.to_proto(value))
