"""What the offline store answers: a query that runs when its result is asked for."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.fs
from feast.data_source import DataSource
from feast.errors import SavedDatasetLocationAlreadyExists
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.repo_config import RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from fti.errors import DataError
from fti.storage.reading import settled
from fti.stores.features.offline.source import Place, parquet_only, place, place_of, small

_ADDRESSABLE = 1 << 31
"""Bytes that a column with 32-bit offsets can hold."""


Query = Callable[[], pl.LazyFrame]
T = TypeVar("T")


class PolarsRetrievalJob(RetrievalJob):  # type: ignore[misc]
    """A query that runs when its result is asked for; Feast's `timeout` has no effect.

    `open_query` lists the files that the query reads, at once and again when one of them has gone meanwhile: a lake
    folds segments into other files at any time. `sources` are what it reads: a file there that does not fit is named.
    """

    def __init__(
        self,
        config: RepoConfig,
        open_query: Callable[[], Query],
        *,
        sources: Sequence[DataSource | None] = (),
        metadata: RetrievalMetadata | None = None,
        on_demand: list[OnDemandFeatureView] | None = None,
        full_names: bool = False,
    ) -> None:
        self._config = config
        self._open = open_query
        self._sources = sources
        with self._naming_files():
            self._query: Query | None = settled(open_query)
        self._metadata = metadata
        self._on_demand = on_demand or []
        self._full_names = full_names

    @property
    def full_feature_names(self) -> bool:
        return self._full_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        return self._on_demand

    @property
    def metadata(self) -> RetrievalMetadata | None:
        return self._metadata

    def to_polars(self) -> pl.DataFrame:
        """The result as a polars frame; on-demand feature views are run by Feast on Arrow."""
        return pl.DataFrame(self.to_arrow()) if self._on_demand else self._read(_collected)

    def to_sql(self) -> str:
        raise NotImplementedError(
            "the polars offline store runs no SQL: take the result with to_polars(), to_arrow() or to_df()"
        )

    def _read(self, use: Callable[[pl.LazyFrame], T]) -> T:
        """What `use` makes of the rows. The query is opened again when a file has gone or is another one now."""

        def read() -> T:
            query, self._query = self._query or self._open(), None
            result = use(query())
            self._query = query
            return result

        with self._naming_files():
            return settled(read)

    @contextmanager
    def _naming_files(self) -> Iterator[None]:
        """polars does not say which of many files it cannot read: look for it when it has failed."""
        try:
            yield
        except pl.exceptions.PolarsError:
            for source in self._sources:
                place_of(self._config, source).require_alike()
            raise

    def _save(self, write: Callable[[pl.LazyFrame], None]) -> None:
        """`write` the result."""
        if self._on_demand:
            write(pl.DataFrame(self.to_arrow()).lazy())
        else:
            self._read(write)

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal().to_pandas()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return _plain(self._read(_collected).to_arrow())

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Stream the result to the Parquet file of `storage` or, where its path is no `.parquet`, to a folder."""
        if not isinstance(storage, SavedDatasetFileStorage):
            raise DataError(f"the polars offline store saves to SavedDatasetFileStorage, not {type(storage).__name__}")
        options = storage.file_options
        parquet_only(options.file_format, options.uri)
        target = place(self._config, options.uri, endpoint=options.s3_endpoint_override or "")
        filesystem, path = target.filesystem
        if filesystem.get_file_info(path).type is not pa.fs.FileType.NotFound and not allow_overwrite:
            raise SavedDatasetLocationAlreadyExists(location=f"{options.uri} (allow_overwrite=True replaces it)")
        if target.is_local:
            self._save(lambda rows: _replace(rows, Path(path), is_file=path.endswith(".parquet")))
        else:
            self._save(lambda rows: _replace_objects(rows, target))


def _collected(rows: pl.LazyFrame) -> pl.DataFrame:
    return rows.collect(engine="streaming")


def _replace(rows: pl.LazyFrame, path: Path, *, is_file: bool) -> None:
    """Put `rows` at `path` by a rename: whoever reads it sees the old or the new rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    old = path.with_name(f"{aside.name}.old")
    try:
        rows.sink_parquet(aside if is_file else aside / "part-0.parquet", mkdir=True)
        if path.is_dir():
            os.replace(path, old)
        os.replace(aside, path)
    finally:
        for left in (aside, old):
            shutil.rmtree(left, ignore_errors=True)
            if left.is_file():
                left.unlink()


def _replace_objects(rows: pl.LazyFrame, target: Place) -> None:
    """The same on S3, where an object appears when it is complete; older ones of the folder go after that."""
    uri = target.uri if target.uri.endswith(".parquet") else f"{target.uri.rstrip('/')}/part-{uuid.uuid4().hex}.parquet"
    older = [file for file in target.files if file != uri]
    rows.sink_parquet(uri, storage_options=target.storage_options)
    filesystem, _ = target.filesystem
    for file in older:
        filesystem.delete_file(file.removeprefix("s3://"))


def _plain(table: pa.Table) -> pa.Table:
    """`table` in the types that Feast's own stores answer: `string` and `list`, where polars has `large_string`..."""
    fields = [
        pa.field(name, small(column.type)) if column.nbytes < _ADDRESSABLE else pa.field(name, column.type)
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    return table.cast(pa.schema(fields))
