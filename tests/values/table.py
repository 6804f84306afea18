"""What each station refuses, by type: read by the test, which tries it, and by `docs/values.py`, which tells it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import polars as pl


def is_number(dtype: Any) -> bool:
    """Numbers of any width, decimals and booleans."""
    return bool(dtype.is_numeric() or dtype == pl.Boolean)


@dataclass(frozen=True)
class Refused:
    """The types that a station refuses, and in words what and why."""

    types: Callable[[Any], bool]
    about: str


REFUSED = {
    "windows": Refused(lambda dtype: not is_number(dtype), "what is no number: text, times, durations, lists, structs"),
    "category": Refused(
        lambda dtype: dtype.is_nested() or dtype == pl.Binary, "bytes, lists and structs: they are no one category"
    ),
    "number": Refused(
        lambda dtype: not is_number(dtype), "what is no number, also text unless every value of it is a number"
    ),
}
"""Station -> what it refuses; one that is not here keeps every value."""
