"""Checksums of files: written down before a file takes its place, asked for before it is read.

Each folder has a file `.sums` of lines `<CRC-32> <bytes> <name>`. A file that has lines must be as one of them says:
between a line and its rename, that of the file before. One that has none, of a version before or from elsewhere, is
taken as it is. Small JSON files hold their own checksum.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from fti.errors import DataError
from fti.files import aside, replace_file

SUMS, SEAL = ".sums", "sha256"
TIDY_BYTES = 2**16
"""A longer list of sums loses the lines of files that are gone, whenever it has doubled."""
BLOCK = 2**20
SETTLED_NS = 100_000_000
"""A file that changed within this time may change again without a new time."""
RETRIES = 50
"""A file that is replaced while its bytes are read is looked at again."""
KEPT = 8
"""Lines of a file that stay: of so many writers at once each may be about to rename."""
_whole: dict[Path, tuple[int, ...]] = {}
"""File that was found whole -> what its inode then said."""
_tidied: dict[Path, int] = {}

Sum = tuple[int, int]
"""Checksum and bytes."""


@contextmanager
def aside_checked(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """As `fti.files.aside`, and the checksum of what was written is known before it takes the place of `path`."""
    with aside(path, durable=durable) as own:
        yield own
        _add(path, *sum_of(own), durable=durable)


def require_whole(paths: Iterable[Path], remedy: str, *, of: str = "") -> None:
    """Raise DataError, with the file and the `remedy`, for the first of `paths` that is not as it was written; `of`
    names the table that they lie below.

    A file is read once in a process, until it changes; one that is gone is nobody's.
    """
    for folder, files in groupby(paths, key=lambda path: path.parent):
        unknown = [path for path in files if (mark := _mark(path)) is not None and _whole.get(path) != mark]
        sums = sums_of(folder) if unknown else {}
        for path in unknown:
            if not is_whole(path, sums.get(path.name)):
                name = f"{of}: {path.name}" if of else path
                raise DataError(f"{name} cannot be read: it is damaged, its checksum is another one. {remedy}")


def sums_of(folder: Path) -> dict[str, set[Sum]]:
    """File name -> what it may be, of the files whose sums are known."""
    found: dict[str, set[Sum]] = {}
    try:
        lines = (folder / SUMS).read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return found
    for line in lines:
        checksum, size, name = line.decode(errors="replace").split(" ", 2)
        found.setdefault(name, set()).add((int(checksum, 16), int(size)))
    return found


def is_whole(path: Path, known: set[Sum] | None) -> bool:
    """Whether the file is as one of `known`, or of what its folder tells by now; without any, or if gone, it is."""
    for _ in range(RETRIES):
        mark = _mark(path)
        try:
            if mark is None or not known or _whole.get(path) == mark or sum_of(path) in known:
                if mark and time.time_ns() - max(mark[1:3]) > SETTLED_NS:
                    _whole[path] = mark
                return True
        except FileNotFoundError:
            return True
        told = sums_of(path.parent).get(path.name, known)
        if told == known and mark == _mark(path):
            return False
        known = told
    return False


def _mark(path: Path) -> tuple[int, ...] | None:
    try:
        about = os.stat(path)
    except FileNotFoundError:
        return None
    return about.st_ino, about.st_mtime_ns, about.st_ctime_ns, about.st_size


def sum_of(path: Path) -> Sum:
    """Checksum and bytes of a file."""
    checksum = size = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            checksum, size = zlib.crc32(block, checksum), size + len(block)
    return checksum, size


def _add(path: Path, checksum: int, size: int, *, durable: bool) -> None:
    """One more line for `path`, at the end of its folder's sums."""
    line = f"{checksum:08x} {size} {path.name}\n".encode()
    with _locked(path.parent) as handle:
        os.write(handle, line)
        if durable:
            os.fdatasync(handle)
        length = os.fstat(handle).st_size
        if length > max(TIDY_BYTES, 2 * _tidied.get(path.parent, 0)):
            _tidied[path.parent] = _tidy(path.parent, path.name)


@contextmanager
def _locked(folder: Path) -> Iterator[int]:
    """The folder's sums, for appending, by one process at a time; they may be replaced before it is its turn.

    Every write of a file waits here, so the kernel wakes the next one: a `file_lock` asks every 50 ms.
    """
    while True:
        handle = os.open(folder / SUMS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if (now := _mark(folder / SUMS)) is not None and now[0] == os.fstat(handle).st_ino:
                yield handle
                return
        finally:
            os.close(handle)


def _tidy(folder: Path, coming: str) -> int:
    """Leave the last lines of each file that is there, or is `coming`; bytes of the rest."""
    names = {*os.listdir(folder), coming}
    kept: dict[str, list[bytes]] = {}
    for line in (folder / SUMS).read_bytes().splitlines():
        if (name := line.decode(errors="replace").split(" ", 2)[-1]) in names:
            kept[name] = [*kept.get(name, [])[1 - KEPT :], line]
    text = b"".join(line + b"\n" for lines in kept.values() for line in lines)
    replace_file(folder / SUMS, text)
    return len(text)


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with one key more: the SHA-256 of the others."""
    return {**content, SEAL: _digest(content)}


def unsealed(text: bytes, path: Path, remedy: str, *, required: bool = False) -> dict[str, Any]:
    """The JSON object that `path` holds, without its seal; DataError where it is not what was sealed, or where there is
    no seal and one is `required`: those of versions before have none."""
    try:
        content = json.loads(text)
        seal = content.pop(SEAL, None)
        if (seal is None and not required) or seal == _digest(content):
            return dict(content)
    except (ValueError, AttributeError, TypeError):
        pass  # what is no JSON object is damaged as well
    raise DataError(f"{path} is damaged: it is not as it was written. {remedy}")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
