"""A table as a log of versions: Parquet files that never change, and numbered manifests that name those of a version.

    <table>/2013-01-31.1f3a9c2e.parquet  2013-01-31~000001.77b0c4d1.parquet
            _versions/000000000012.json  _versions/newest

A commit writes its files, then one manifest, put if absent: of two writers at one number the second looks again and
tries the next. A reader takes a version and opens what it names; it never lists the folder. Numbers are never freed:
the manifests that are left are always the last ones without a gap, so that a writer that was asleep finds the version
it stood on gone, and starts again.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from fti.errors import ConflictError, DataError
from fti.storage.blobs import Blobs

FORMAT = 1
VERSIONS, KEPT = "_versions", "_kept"
NEWEST = f"{VERSIONS}/newest"
RETENTION = timedelta(minutes=15)
"""How long a version that was replaced can still be read."""
GRACE = timedelta(days=1)
"""Age from which a file that no version names is nobody's."""
CLEAN_EVERY = 64
ATTEMPTS, PAUSE_SECONDS = 200, 0.02

logger = logging.getLogger(__name__)
_newest: dict[tuple[str, str], Version] = {}
"""Newest version of a table that this process has seen."""


@dataclass(frozen=True, kw_only=True)
class File:
    """One Parquet file of a table: the rows of a `period` (a UTC day `2013-01-31`, a month `2013-01`, or `all`).

    `segment` 0 is the period's own file; higher ones hold rows that came later, each taking the place of the row of the
    same `key`. `time` names the time column, `days` the days of the month that a file of a month has rows of.
    """

    name: str
    period: str
    rows: int
    size: int
    crc32: int
    segment: int = 0
    key: tuple[str, ...] = ()
    time: str = ""
    days: tuple[int, ...] = ()

    @property
    def sum(self) -> tuple[int, int]:
        """Checksum and bytes."""
        return self.crc32, self.size

    @property
    def order(self) -> tuple[str, int]:
        return self.period, self.segment


@dataclass(frozen=True)
class Version:
    """The files of one version, each period's own before its segments, oldest first. Number 0 has none."""

    number: int = 0
    files: tuple[File, ...] = ()
    writer: str = ""

    def of(self, period: str) -> list[File]:
        """The files of one period."""
        return [file for file in self.files if file.period == period]

    @property
    def segments(self) -> list[File]:
        return [file for file in self.files if file.segment]


@dataclass(frozen=True)
class TableLog:
    """The versions of one table. `blobs` is the table's own address."""

    blobs: Blobs

    def newest(self) -> Version:
        """The version that is in force: the one this process knows, and what was committed after it."""
        version = self._known()
        while following := self._after(version):
            version = following
        if version.number:
            _newest[self._id] = version
        return version

    def at(self, number: int) -> Version:
        """One version; FileNotFoundError where there is none, or none any more. DataError for a damaged manifest."""
        key = _manifest(number)
        return _decoded(self.blobs.read(key), self.blobs.address(key))

    def kept(self, number: int) -> Version:
        """A version that `keep` was asked for, or that is still there."""
        try:
            return self.at(number)
        except FileNotFoundError:
            key = f"{KEPT}/{number:012d}.json"
            return _decoded(self.blobs.read(key), self.blobs.address(key))

    def keep(self, version: Version) -> None:
        """Hold the files of `version` until its record below `_kept` is deleted. ConflictError if they are gone."""
        self.blobs.write(f"{KEPT}/{version.number:012d}.json", _encoded(version))
        if not self.blobs.exists(_manifest(version.number)):
            self.blobs.delete(f"{KEPT}/{version.number:012d}.json")
            raise ConflictError(f"{self.blobs.uri}: version {version.number} is no longer there. Take a newer one.")

    def put(self, content: bytes, *, period: str, rows: int, segment: int = 0, **facts: Any) -> File:
        """Write a file that the next commit may name."""
        stem = f"{period}~{segment:06d}" if segment else period
        name = f"{stem}.{uuid.uuid4().hex[:12]}.parquet"
        self.blobs.write(name, content)
        size, crc32 = len(content), zlib.crc32(content)
        return File(name=name, period=period, segment=segment, rows=rows, size=size, crc32=crc32, **facts)

    def commit(self, change: Callable[[Version], Iterable[File] | None]) -> Version:
        """Make the files that `change` gives for the newest version the next one; None leaves it as it is.

        `change` is called again when somebody else commits meanwhile: it sees theirs. ConflictError when that happens
        too often, or when it takes so long that a cleaner may have taken the new files for nobody's.
        """
        started = time.time()
        for attempt in range(ATTEMPTS):
            base = self.newest()
            files = change(base)
            if files is None:
                return base
            if time.time() - started > GRACE.total_seconds() / 2:
                raise ConflictError(f"{self.blobs.uri}: a commit was held up for hours; nothing changed. Run again.")
            ordered = tuple(sorted(files, key=lambda file: file.order))
            version = Version(base.number + 1, ordered, uuid.uuid4().hex)
            if self.blobs.create(_manifest(version.number), _encoded(version)) and self._follows(version):
                self._announce(version)
                return version
            time.sleep(random.uniform(0, PAUSE_SECONDS * min(attempt + 1, 10)))
        raise ConflictError(f"{self.blobs.uri}: {ATTEMPTS} other commits came first. Try again when fewer write to it.")

    def clean(self, retention: timedelta = RETENTION, grace: timedelta = GRACE) -> int:
        """Delete the versions that were replaced longer ago than `retention`, the files that only they name, and files
        older than `grace` that no version names; how many files. Where two clean at once, one of them does."""
        try:
            return self._clean(datetime.now(UTC) - retention, datetime.now(UTC) - grace)
        except FileNotFoundError:
            return 0

    def _clean(self, replaced_before: datetime, written_before: datetime) -> int:
        written = self._manifests()
        numbers = sorted(written)
        dropped = [number for number in numbers[:-2] if written[number + 1] < replaced_before]
        named = {file.name for number in dropped for file in self.at(number).files}
        self.blobs.delete(*map(_manifest, dropped))  # the oldest first: what is left has no gap
        live = {file.name for number in numbers[len(dropped) :] for file in self.at(number).files}
        live |= {file.name for number in self._numbers(KEPT) for file in self.kept(number).files}
        files = [blob for blob in self.blobs.entries(recursive=False) if blob.key.endswith(".parquet")]
        gone = (named | {blob.key for blob in files if blob.modified < written_before}) - live
        self.blobs.delete(*sorted(gone))
        return len(gone)

    @property
    def _id(self) -> tuple[str, str]:
        return self.blobs.uri, str(self.blobs.options)

    def _known(self) -> Version:
        """A version to look on from: that of this process, of the note beside the manifests, or of their list."""
        version = _newest.get(self._id)
        if version and self.blobs.exists(_manifest(version.number)):
            return version
        try:
            return self.at(int(self.blobs.read(NEWEST)))
        except (FileNotFoundError, ValueError):
            numbers = self._manifests()
        return self.at(max(numbers)) if numbers else Version()

    def _after(self, version: Version) -> Version | None:
        try:
            return self.at(version.number + 1)
        except FileNotFoundError:
            return None

    def _manifests(self) -> dict[int, datetime]:
        """Number of each version that is there, and when it was written."""
        manifests = (blob for blob in self.blobs.entries(VERSIONS) if blob.key.endswith(".json"))
        return {int(blob.key[-17:-5]): blob.modified for blob in manifests}

    def _numbers(self, folder: str) -> list[int]:
        return [int(blob.key[-17:-5]) for blob in self.blobs.entries(folder)]

    def _follows(self, version: Version) -> bool:
        """Whether the manifest that was just created follows one that is there. If not, its number was used before and
        cleaned up while this writer slept: nobody has read it, and it goes again."""
        if version.number > 1:
            follows = self.blobs.exists(_manifest(version.number - 1))
        else:
            follows = sorted(self._manifests())[:2] in ([1], [1, 2])
        if not follows:
            self.blobs.delete(_manifest(version.number))
        return follows

    def _announce(self, version: Version) -> None:
        _newest[self._id] = version
        self.blobs.write(NEWEST, str(version.number).encode())
        if version.number % CLEAN_EVERY == 0:
            self.clean()


def _manifest(number: int) -> str:
    return f"{VERSIONS}/{number:012d}.json"


def _encoded(version: Version) -> bytes:
    """Two lines: the manifest as JSON, and its checksum."""
    files = [asdict(file) for file in version.files]
    about = {"format": FORMAT, "version": version.number, "writer": version.writer, "files": files}
    content = orjson.dumps(about)
    return b"%s\n%08x\n" % (content, zlib.crc32(content))


def _decoded(content: bytes, address: str) -> Version:
    manifest, _, checksum = content.partition(b"\n")
    if checksum != b"%08x\n" % zlib.crc32(manifest):
        raise DataError(
            f"{address} is damaged. Delete it, which brings the version before back, and materialize again."
        )
    about = orjson.loads(manifest)
    if about["format"] > FORMAT:
        raise DataError(f"{address} was written by a newer version of FTI. Upgrade this one.")
    return Version(about["version"], tuple(map(_file, about["files"])), about["writer"])


def _file(fields: dict[str, Any]) -> File:
    return File(**{**fields, "key": tuple(fields["key"]), "days": tuple(fields["days"])})
