"""What the online store needs of the place where it keeps its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from fti.stores.features.online.layout import Layout


@dataclass(frozen=True)
class Written:
    """Packed rows of one view: the view, its layout, and key and section of each row, newest event among them."""

    view: int
    name: str
    layout: Layout
    rows: Sequence[tuple[bytes, bytes]]
    newest: int
    """Microseconds."""
    latest: int = 2**62
    """Microseconds: a stored section of a later event cannot be right, so it gives way to any other."""


class Backend(Protocol):
    """Keys and values; a value holds the newest section of each view."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values of `keys`, as of one moment."""

    def write(self, rows: Written) -> None:
        """Put each section in its key's value unless a newer one is there."""

    def drop(self, prefix: bytes, view: int) -> None:
        """Take the sections of a view out of all values whose key begins with `prefix`."""

    def newest(self, views: Iterable[int]) -> dict[int, int]:
        """View -> the latest event time ever written to it; nothing for a view that is empty."""

    def layout(self, fingerprint: int) -> Layout:
        """A layout that was written with."""

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """All keys that begin with `prefix`, and their values."""

    def close(self) -> None:
        """Give the connections back."""
