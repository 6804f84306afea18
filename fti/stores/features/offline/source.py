"""Files of Feast's `FileSource`: where they lie, which of them a time range touches, how rows are added."""

from __future__ import annotations

import glob
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet as pq
from feast.data_format import ParquetFormat
from feast.data_source import DataSource
from feast.infra.offline_stores.file_source import FileSource
from feast.repo_config import RepoConfig

from fti.errors import DataError, NotReadyError
from fti.files import aside, file_lock
from fti.storage.blobs import open_blobs
from fti.storage.periods import touches
from fti.storage.reading import files_of, merged, require_as_written
from fti.storage.tables import File, TableLog, Version
from fti.stores.features.offline.layout import CASTS
from fti.stores.features.offline.point_in_time import aware
from fti.times import utc

_MARKS = "*?["
_STEM = re.compile(r"(\d{4}-\d\d(?:-\d\d)?)(?=[.~])")


@dataclass(frozen=True)
class Place:
    """A Parquet file, a folder of them (hive partitions too) or a glob, on this machine or on S3.

    `day_files` says that files named by a UTC day or month (`2013-01-31.parquet`, `2013-01-31~late.parquet`,
    `2013-01.parquet`) hold rows of that time alone, so that a time range need not open the others.
    """

    uri: str
    endpoint: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict)
    day_files: bool = False

    @cached_property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def is_glob(self) -> bool:
        """A path with a wildcard; the folders of a repository's own tables have none, whatever they are called."""
        return not self.day_files and any(mark in self.uri for mark in _MARKS)

    @cached_property
    def is_file(self) -> bool:
        """One object: it exists as such or, before it does, is named like one."""
        filesystem, path = self.filesystem
        kind = filesystem.get_file_info(path).type
        return kind is pa.fs.FileType.File or (kind is pa.fs.FileType.NotFound and path.endswith(".parquet"))

    @cached_property
    def filesystem(self) -> tuple[Any, str]:
        """The pyarrow file system and the path on it."""
        if self.is_local:
            return pa.fs.LocalFileSystem(), self.uri
        if not self.uri.startswith("s3://"):
            raise DataError(f"{self.uri}: the polars offline store lists and writes local folders and S3 only")
        names = {"access_key": "AWS_ACCESS_KEY_ID", "secret_key": "AWS_SECRET_ACCESS_KEY"}
        names |= {"session_token": "AWS_SESSION_TOKEN", "region": "AWS_DEFAULT_REGION"}
        options = {key: self.credentials[name] for key, name in names.items() if self.credentials.get(name)}
        if self._endpoint:
            options["endpoint_override"] = self._endpoint
        return pa.fs.S3FileSystem(**options), self.uri.removeprefix("s3://").rstrip("/")

    @cached_property
    def storage_options(self) -> dict[str, str] | None:
        """What polars needs beside the environment to reach the place."""
        if self.is_local:
            return None
        options = {name.lower(): value for name, value in self.credentials.items()}
        if self._endpoint:
            options["aws_endpoint_url"] = self._endpoint
        if self._endpoint.startswith("http://"):
            options["aws_allow_http"] = "true"
        return options

    @property
    def _endpoint(self) -> str:
        return self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""

    @cached_property
    def files(self) -> list[str]:
        """The Parquet files in name order, hidden ones (`.name`, `_name`) left out; none when there is nothing yet.
        Of a table that is a log of versions those of the newest one."""
        if self._of_version is not None:
            return list(self._of_version)
        if self.is_glob and not (self.is_local and Path(self.uri).exists()):
            return sorted(glob.glob(self.uri, recursive=True)) if self.is_local else [self.uri]
        if not self.is_local and not self.uri.startswith("s3://"):
            return [self.uri]
        filesystem, path = self.filesystem
        if filesystem.get_file_info(path).type is pa.fs.FileType.File:
            return [self.uri]
        found = filesystem.get_file_info(pa.fs.FileSelector(path, recursive=True, allow_not_found=True))
        start = len(path.rstrip("/"))
        inside = (info.path[start:] for info in found if info.type is pa.fs.FileType.File)
        names = [name for name in inside if name.endswith(".parquet") and "/." not in name and "/_" not in name]
        return [f"{self.uri.rstrip('/')}{name}" for name in sorted(names)]

    @cached_property
    def _of_version(self) -> dict[str, File] | None:
        """Address -> file of the newest version; None where there is no log of versions."""
        may_have_versions = Path(self.uri).is_dir() if self.is_local else self.day_files
        files = files_of(open_blobs(self.uri)) if may_have_versions else None
        return None if files is None else {f"{self.uri.rstrip('/')}/{file.name}": file for file in files}

    @property
    def folder(self) -> Path | None:
        """The local file or flat folder that holds the rows; none for S3, globs and partitions."""
        place = self.uri.rstrip("/")
        flat = self.is_local and bool(self.files) and {file.rpartition("/")[0] for file in self.files} == {place}
        return Path(self.uri) if flat or self.files == [self.uri] else None

    def scan(self, start: datetime | None = None, end: datetime | None = None) -> pl.LazyFrame:
        """The rows of the files that `[start, end]` touches, in file order."""
        if not self.files:
            raise NotReadyError(f"{self.uri}: no rows yet. Materialize the project's features first.")
        chosen = _touched(self.files, start, end) if self.day_files else self.files
        if self.is_local:
            require_as_written([Path(file) for file in chosen or self.files[:1]])
        if chosen and self._of_version:
            return merged(
                [self._of_version[address] for address in chosen],
                lambda files: self._open([f"{self.uri.rstrip('/')}/{file.name}" for file in files]),
            )
        rows = self._open(chosen or self.files[:1])
        return rows if chosen else rows.head(0)

    def _open(self, files: Sequence[str]) -> pl.LazyFrame:
        return pl.scan_parquet(
            list(files),
            glob=not self.is_local and self.is_glob,
            storage_options=self.storage_options,
            hive_partitioning=any("=" in file.removeprefix(self.uri) for file in self.files),
            extra_columns="ignore",
            cast_options=CASTS,
        )

    @property
    def arrow_schema(self) -> pa.Schema:
        """Columns and Arrow types of the first file and of its partitions."""
        if not self.files:
            raise NotReadyError(f"{self.uri}: no rows yet, so its columns are not known. Write its first file.")
        filesystem, _ = self.filesystem
        first = self.files[0].removeprefix("s3://")
        base = self.uri.removeprefix("s3://")
        found = pa.dataset.dataset(first, filesystem=filesystem, partitioning="hive", partition_base_dir=base)
        return found.schema.remove_metadata()

    def require_alike(self) -> None:
        """Name the first file that is no Parquet, or whose columns do not fit those of the first one."""
        filesystem, _ = self.filesystem
        wanted: pa.Schema | None = None
        for file in self.files:
            try:
                found = pq.read_schema(file.removeprefix("s3://"), filesystem=filesystem)
            except pa.ArrowInvalid as error:
                raise DataError(f"{file} is not a whole Parquet file: write it again or move it away") from error
            except FileNotFoundError:  # folded in this moment
                continue
            wanted = wanted or found
            for column in wanted:
                if column.name not in found.names:
                    raise DataError(f"{file} has no column {column.name!r} as {self.files[0]} has: move it away")
                if (own := found.field(column.name).type) != column.type:
                    raise DataError(
                        f"{file}: column {column.name!r} is {own}, in {self.files[0]} it is {column.type}: cast one"
                    )

    def add(self, table: pa.Table, time_column: str) -> None:
        """Append rows: to the file itself, to the folder as new files that sort after those that are there."""
        parts = Path(self.files[0].removeprefix(self.uri)).parts if self.files else ()
        hive = [part.split("=")[0] for part in parts if "=" in part]
        if self.is_file:
            self._extend(table)
        elif self.day_files and not hive:
            self._commit(table, time_column)
        else:
            self.add_files(table, stem="~", partition_by=hive)

    def _commit(self, table: pa.Table, time_column: str) -> None:
        """Add rows to the log of versions as segments of their days."""
        days = (times := pl.DataFrame(table.select([time_column]))).select(utc(times.schema, time_column).dt.date())
        if days.to_series().has_nulls():
            raise DataError(f"{self.uri}: rows without {time_column!r} have no day to be written to; fill it in")
        log = TableLog(open_blobs(self.uri))
        parts = {day: table.filter(pa.array(days.to_series() == day)) for day in days.to_series().unique().sort()}

        def change(base: Version) -> list[File]:
            files = list(base.files)
            for day, rows in parts.items():
                buffer = pa.BufferOutputStream()
                pq.write_table(rows, buffer)
                segment = max((file.segment for file in base.of(str(day))), default=0) + 1
                content = buffer.getvalue().to_pybytes()
                files.append(log.put(content, period=str(day), segment=segment, rows=rows.num_rows))
            return files

        log.commit(change)

    def add_files(self, table: pa.Table, *, stem: str = "", partition_by: Sequence[str] = ()) -> None:
        """Write `table` into new files of the folder, below hive partitions by `partition_by`, each by one rename."""
        filesystem, path = self.filesystem
        staged = f"{path}/.{uuid.uuid4().hex}"
        options: dict[str, Any] = {"filesystem": filesystem, "format": "parquet", "use_threads": False}
        options["basename_template"] = f"{stem}{time.time_ns():020d}-{uuid.uuid4().hex}-{{i}}.parquet"
        if partition_by:
            schema = pa.schema([table.schema.field(name) for name in partition_by])
            options["partitioning"] = pa.dataset.partitioning(schema, flavor="hive")
        if not self.is_local:  # an object appears when it is complete
            pa.dataset.write_dataset(table, path, existing_data_behavior="overwrite_or_ignore", **options)
            return
        try:
            pa.dataset.write_dataset(table, staged, **options)
            for file in sorted(Path(staged).rglob("*.parquet")):
                target = Path(path) / file.relative_to(staged)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(file, target)
        finally:
            shutil.rmtree(staged, ignore_errors=True)

    def _extend(self, table: pa.Table) -> None:
        """Rewrite the file with `table` after its rows, one row group at a time, and put it in place by one rename."""
        filesystem, path = self.filesystem
        with self._replaced() as target, filesystem.open_input_file(path) as file:
            old = pq.ParquetFile(file)
            with pq.ParquetWriter(target, old.schema_arrow, filesystem=filesystem) as writer:
                for group in range(old.num_row_groups):
                    writer.write_table(old.read_row_group(group))
                writer.write_table(table.cast(old.schema_arrow))

    @contextmanager
    def _replaced(self) -> Iterator[str]:
        """Where to write the new file. Two writers to one local file wait for each other; on S3 the last one wins."""
        if not self.is_local:
            yield self.filesystem[1]
            return
        path = Path(self.uri)
        with file_lock(path.with_name(f".{path.name}.lock")), aside(path) as own:
            yield str(own)


def file_source(source: DataSource | None) -> FileSource:
    """`source` as a `FileSource` of Parquet; anything else is refused."""
    if not isinstance(source, FileSource):
        raise DataError(
            f"the polars offline store reads FileSource, not {type(source).__name__}: give the feature view a "
            "FileSource, or name another offline_store in feature_store.yaml"
        )
    parquet_only(source.file_format, source.path)
    return source


def parquet_only(file_format: Any, path: str) -> None:
    """Refuse formats other than Parquet."""
    if not (file_format is None or isinstance(file_format, ParquetFormat)) or path.endswith((".csv", ".json")):
        kind = "this file" if file_format is None else type(file_format).__name__
        raise DataError(
            f"{path}: the polars offline store reads and writes Parquet, not {kind}. Convert it to Parquet."
        )


def place(config: RepoConfig, path: str, *, endpoint: str = "", credentials: Mapping[str, str] | None = None) -> Place:
    """Where `path` of a Feast object lies: below `root` or, without one, where Feast's own file store looks."""
    root = getattr(config.offline_store, "root", None)
    path = path.removeprefix("file://")
    is_relative = "://" not in path and not Path(path).is_absolute()
    if not is_relative:
        uri = path
    elif root and "://" in root:
        uri = f"{root.rstrip('/')}/{path}"
    else:
        uri = str(Path(config.repo_path or ".") / (root or ".") / path)
    return Place(uri, endpoint, dict(credentials or {}), day_files=bool(root) and is_relative)


def place_of(config: RepoConfig, source: DataSource | None) -> Place:
    """Where the rows of a source lie."""
    files = file_source(source)
    return place(
        config,
        files.path,
        endpoint=files.s3_endpoint_override or "",
        credentials=files.resolve_credentials(),
    )


def _touched(files: Sequence[str], start: datetime | None, end: datetime | None) -> list[str]:
    """Files that are not named by a UTC day or month outside `[start, end]`."""
    first = aware(start).date() if start else date.min
    last = aware(end).date() if end else date.max
    stems = (_STEM.match(file, file.rfind("/") + 1) for file in files)
    return [
        file for file, stem in zip(files, stems, strict=True) if stem is None or touches(stem.group(1), first, last)
    ]


def small(dtype: pa.DataType) -> pa.DataType:
    """The type with 32-bit offsets, as Feast knows it; polars writes the large one."""
    if pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype):
        return pa.string()
    if pa.types.is_large_binary(dtype) or pa.types.is_binary_view(dtype):
        return pa.binary()
    if pa.types.is_large_list(dtype):
        return pa.list_(small(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([(part.name, small(part.type)) for part in dtype])
    if pa.types.is_map(dtype):
        return pa.map_(small(dtype.key_type), small(dtype.item_type))
    return dtype
