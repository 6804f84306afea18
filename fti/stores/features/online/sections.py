"""A value of the online store: the sections of an entity's feature views, sorted by view.

A section begins with `HEADER`: the view, its length, its layout, when its row happened and was created (microseconds
since 1970). Of two sections of one view the newer stays, the later written of equals; one from ahead of the clock goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from fti.errors import DataError

HEADER = Struct("<QIIqq")
_LENGTH = Struct("<I")
NEVER = -(2**63)
"""Stored for a row without a creation time, which is older than any other."""


class DamagedError(DataError):
    """Bytes of the online store that are not what was written."""


class Section(NamedTuple):
    """Where the section of a view lies in a value."""

    view: int
    length: int
    layout: int
    event: int
    created: int
    start: int


def view_id(table: str) -> int:
    """The number of a view, by its name with project and version."""
    return int.from_bytes(blake2b(table.encode(), digest_size=8).digest(), "little")


def walk(value: bytes) -> Iterator[Section]:
    """The sections of `value`, in their order."""
    start = 0
    while start < len(value):
        if start + HEADER.size > len(value):
            raise DamagedError("a section of the online store is cut off")
        view, length, layout, event, created = HEADER.unpack_from(value, start)
        if length < HEADER.size or start + length > len(value):
            raise DamagedError("a section of the online store has a length that cannot be")
        section = Section(view, length, layout, event, created, start)
        yield section
        start += section.length


def starts(value: bytes) -> list[int]:
    """Where each section of `value` begins."""
    found, start = [], 0
    while start + HEADER.size <= len(value):
        found.append(start)
        start += max(_LENGTH.unpack_from(value, start + 8)[0], HEADER.size)
    if start != len(value):
        raise DamagedError("the sections of a value of the online store are not as long as it")
    return found


def merge(old: bytes, new: bytes, latest: int = 2**62) -> bytes:
    """`old` with the one section `new` in its place, unless the section that is there is newer, but not of an event
    after `latest`."""
    view, _, _, event, created = HEADER.unpack_from(new)
    place = len(old)
    for section in walk(old):
        if section.view == view:
            if (event, created) < (section.event, section.created) and section.event <= latest:
                return old
            return old[: section.start] + new + old[section.start + section.length :]
        if section.view > view:
            place = section.start
            break
    return old[:place] + new + old[place:]


def without(value: bytes, view: int) -> bytes:
    """`value` without the section of `view`; nothing of one whose sections cannot be told apart any more."""
    try:
        kept = [section for section in walk(value) if section.view != view]
    except DamagedError:
        return b""
    return b"".join(value[section.start : section.start + section.length] for section in kept)
