"""What the end of a section says: whose it is, and a checksum of all before.

    content, zeros up to a multiple of 8 | a hash of the entity's key (4) | CRC-32 (4)

With its checksum, a section is a multiple of the checksum's polynomial, and so is one section after the other: a whole
read is checked at once. A flipped bit, two of them, or up to 32 side by side are always found.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from struct import Struct
from zlib import adler32, crc32

SIZE = 8
"""Bytes at the end of a section, whose length is a multiple of it."""
_WORD = Struct("<I")
_NOTHING = 0xFFFFFFFF
"""The state of `crc32` before the first byte of a section, and after its last one."""


def padded(length: int) -> int:
    """Bytes of a content of `length` bytes with the zeros behind it."""
    return -(-length // SIZE) * SIZE


def sealed(content: bytes, key: bytes) -> bytes:
    """The section of this content, whose length is a multiple of `SIZE`, for the entity `key`."""
    content += _WORD.pack(adler32(key))
    return content + _WORD.pack(crc32(content, _NOTHING) ^ _NOTHING)


def is_whole(sections: bytes) -> bool:
    """Whether one or more sections are what was written."""
    return crc32(sections, _NOTHING) == _NOTHING


def owners(keys: Iterable[bytes]) -> bytes:
    """The hashes of keys."""
    return array("I", map(adler32, keys)).tobytes()


def is_of(section: bytes, key: bytes) -> bool:
    """Whether the section was written for the entity `key`."""
    return section[-SIZE:-4] == _WORD.pack(adler32(key))
