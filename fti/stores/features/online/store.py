"""A Feast online store that keeps one packed value per entity, in SQLite or in Redis.

Feast's own stores keep a protobuf per feature value. Here all views of an entity lie in one value of bytes, so that a
request for many entities and views is one statement or one round trip, and whole columns are decoded at once. The
newest row of an entity and view wins whatever the order of writing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, cast

import polars as pl
from feast import utils
from feast.entity import Entity
from feast.feature_service import FeatureService
from feast.feature_view import FeatureView
from feast.infra.infra_object import InfraObject
from feast.infra.online_stores.helpers import compute_table_id
from feast.infra.online_stores.online_store import OnlineStore
from feast.infra.provider import PROVIDERS_CLASS_FOR_TYPE
from feast.infra.registry.base_registry import BaseRegistry
from feast.infra.supported_async_methods import SupportedAsyncMethods
from feast.online_response import OnlineResponse
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto
from feast.protos.feast.types.EntityKey_pb2 import EntityKey as EntityKeyProto
from feast.protos.feast.types.Value_pb2 import Value as ValueProto
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from pydantic import Field, field_validator, model_validator

from fti.stores.features.online import keys, packing
from fti.stores.features.online.backend import Backend
from fti.stores.features.online.call import Answered, Call, ColumnarResponse, Given, is_special, proto_of, require_keys
from fti.stores.features.online.opening import is_redis, open_backend
from fti.stores.features.online.protos import Answer, protos, rows_of
from fti.stores.features.online.reading import Group, Wanted
from fti.stores.features.online.sections import view_id
from fti.stores.features.online.serving import stored

BATCH = 10_000
"""Rows that are packed at once."""
MAX_CALLS = 256
"""Sets of features that are asked for, again and again."""
# Feast's provider changes values on their way to any online store: where this store is named, `local` is the exact one.
PROVIDERS_CLASS_FOR_TYPE["local"] = "fti.stores.features.provider.ExactProvider"
ProtoRow = tuple[EntityKeyProto, dict[str, ValueProto], datetime, datetime | None]


class PackedOnlineStoreConfig(FeastConfigBaseModel):  # type: ignore[misc]
    """`online_store:` in `feature_store.yaml`."""

    type: Literal["fti.stores.features.online.store.PackedOnlineStore"] = (
        "fti.stores.features.online.store.PackedOnlineStore"
    )
    path: str = "online.db"
    """File of an SQLite database, or the URL of a Redis server: `redis://host:6379/0`."""
    key_ttl_seconds: int | None = None
    """Redis only: an entity that is not written for this long is forgotten, all its views together."""
    max_ahead_seconds: int = Field(86_400, ge=0)
    """How far ahead of the clock a row may have happened; a later one is refused, since it would stay for ever."""

    @field_validator("path")
    @classmethod
    def _make_folder(cls, path: str) -> str:
        """The folder is made here, so that the registry beside it can be opened in a fresh clone."""
        if not is_redis(path):
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        return path

    @model_validator(mode="after")
    def _only_redis_forgets(self) -> PackedOnlineStoreConfig:
        if self.key_ttl_seconds is not None and not is_redis(self.path):
            raise ValueError("key_ttl_seconds needs Redis: SQLite forgets nothing by itself")
        return self


class PackedOnlineStore(OnlineStore):  # type: ignore[misc]
    """Feast's online store interface on a `Backend`."""

    def __init__(self) -> None:
        self._backends: dict[tuple[Any, ...], Backend] = {}
        self._calls: dict[tuple[Any, ...], tuple[Any, Call | None]] = {}

    def backend(self, config: RepoConfig) -> Backend:
        """Where the configuration says that values are kept."""
        own = config.online_store
        place = _place(config)
        if place not in self._backends:
            self._backends[place] = open_backend(
                own.path, project=config.project, folder=config.repo_path, key_ttl_seconds=own.key_ttl_seconds
            )
        return self._backends[place]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[FeatureView],
        tables_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
        partial: bool,
    ) -> None:
        """Forget the views to delete. Views to keep need nothing but keys that tell entities apart."""
        for view in tables_to_keep:
            keys.require_types(view)
        for view in tables_to_delete:
            start = keys.prefix(config.project, [own.name for own in keys.entity_columns(view)])
            self.backend(config).drop(start, view_id(table_name(config, view)))

    def plan(self, config: RepoConfig, desired_registry_proto: RegistryProto) -> list[InfraObject]:
        """Nothing: there is no table per view."""
        return []

    def teardown(self, config: RepoConfig, tables: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Forget these views, and give the connections back."""
        self.update(config, tables, (), entities, (), partial=False)
        self.backend(config).close()

    def online_write_batch(
        self,
        config: RepoConfig,
        table: FeatureView,
        data: list[ProtoRow],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Feast's own way in: a protobuf per value. A row is written as a whole; a value that it lacks is null."""
        for first in range(0, len(data), BATCH):
            rows = data[first : first + BATCH]
            packed = packing.of_protos(config.project, table_name(config, table), table, rows)
            self.backend(config).write(packing.known(packed, config.online_store.max_ahead_seconds))
            if progress:
                progress(len(rows))

    def write(self, config: RepoConfig, table: FeatureView, rows: pl.DataFrame) -> None:
        """Write a frame: the view's keys, `event_ts`, `created_ts` (microseconds, may be null) and its features."""
        for part in rows.iter_slices(BATCH):
            packed = packing.of_frame(config.project, table_name(config, table), table, part)
            self.backend(config).write(packing.known(packed, config.online_store.max_ahead_seconds))

    def online_read(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKeyProto],
        requested_features: list[str] | None = None,
    ) -> list[Answer]:
        """Feast's own way out: a protobuf per value."""
        return self._read(config, [(table, requested_features, entity_keys)])[0]

    def get_online_features(
        self,
        config: RepoConfig,
        features: list[str] | FeatureService,
        entity_rows: Any,
        registry: BaseRegistry,
        project: str,
        full_feature_names: bool = False,
        include_feature_view_version_metadata: bool = False,
    ) -> OnlineResponse:
        """What `feast.FeatureStore.get_online_features` asks: whole columns, without a protobuf per value.

        Feast's own way takes on-demand views, precomputed services, Feast's metrics, and keys other than plain text and
        whole numbers; it also makes the protobuf of an answer, from what was read, when somebody asks for it.
        """
        asked = (registry, project, features, full_feature_names)
        call = None if include_feature_view_version_metadata or is_special(features) else self._call(config, *asked)
        given = None if call is None else call.given(entity_rows)
        if call is None or given is None:
            require_keys(entity_rows, utils._get_cached_request_context(*asked)[3])
            return super().get_online_features(
                config,
                features,
                entity_rows,
                registry,
                project,
                full_feature_names,
                include_feature_view_version_metadata,
            )
        backend = self.backend(config)
        encoded, values = stored(backend, call.keys(given))
        proto = partial(_proto, config, call, given, (encoded, values, backend.layout), full_feature_names)
        return ColumnarResponse(call, given, call.group.decode(values, backend.layout, encoded), proto)

    def _call(self, config: RepoConfig, registry: BaseRegistry, project: str, features: Any, full: bool) -> Call | None:
        """How `features` are read; made anew when Feast has resolved them anew."""
        context = utils._get_cached_request_context(registry, project, features, full)
        key = (features.name if isinstance(features, FeatureService) else tuple(features), project, full)
        grouped, call = self._calls.get(key, (None, None))
        if grouped is not context[5]:
            grouped = context[5]
            views = [(view, view_id(table_name(config, view)), names) for view, names in grouped]
            call = Call.of(config.project, context, views, full, self._build_feature_types(grouped))
            if len(self._calls) >= MAX_CALLS:
                self._calls.clear()
            self._calls[key] = (grouped, call)
        return call

    def _read(
        self, config: RepoConfig, asked: Sequence[tuple[FeatureView, list[str] | None, Sequence[EntityKeyProto]]]
    ) -> list[list[Answer]]:
        """The answers for several views, by one read."""
        backend = self.backend(config)
        encoded = [[keys.of_proto(config.project, entity) for entity in entities] for _, _, entities in asked]
        distinct = [key for key in dict.fromkeys(chain.from_iterable(encoded)) if key is not None]
        values: dict[bytes | None, bytes | None] = dict(zip(distinct, backend.get(distinct), strict=True))
        answers = []
        for (view, names, _), part in zip(asked, encoded, strict=True):
            group = Group([Wanted(view_id(table_name(config, view)), packing.features_of(view, names), name=view.name)])
            answers.append(protos(rows_of(group, [values.get(key) for key in part], backend.layout, part), view))
        return answers

    def _read_features_per_fv(
        self,
        config: RepoConfig,
        grouped_refs: list[tuple[FeatureView, list[str]]],
        join_key_values: dict[str, Any],
        entity_name_to_join_key_map: dict[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """All views of `get_online_features` by one read; Feast's own way reads view after view."""
        unique = [
            utils._get_unique_entities(view, join_key_values, entity_name_to_join_key_map) for view, _ in grouped_refs
        ]
        asked = [
            (view, names, utils._get_entity_key_protos(entities))
            for (view, names), (entities, _, _) in zip(grouped_refs, unique, strict=True)
        ]
        answers = self._read(config, asked)
        for (view, names), (_, places, number), rows in zip(grouped_refs, unique, answers, strict=True):
            utils._populate_response_from_feature_data(
                names,
                rows,
                places,
                online_features_response,
                full_feature_names,
                view,
                number,
                include_feature_view_version_metadata,
            )

    @property
    def async_supported(self) -> SupportedAsyncMethods:
        """Both ways, in a thread: the event loop does not wait."""
        return SupportedAsyncMethods(read=True, write=True)

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: list[ProtoRow], progress: Callable[[int], Any] | None
    ) -> None:
        """`online_write_batch` in a thread."""
        await asyncio.to_thread(self.online_write_batch, config, table, data, progress)

    async def online_read_async(
        self,
        config: RepoConfig,
        table: FeatureView,
        entity_keys: list[EntityKeyProto],
        requested_features: list[str] | None = None,
    ) -> list[Answer]:
        """`online_read` in a thread."""
        return await asyncio.to_thread(self.online_read, config, table, entity_keys, requested_features)

    async def get_online_features_async(self, *arguments: Any, **named: Any) -> OnlineResponse:
        """`get_online_features` in a thread."""
        return await asyncio.to_thread(self.get_online_features, *arguments, **named)

    def retrieve_online_documents(self, *arguments: Any, **options: Any) -> Any:
        """Refused: vectors are kept and read like any list, but not searched."""
        raise NotImplementedError(
            "PackedOnlineStore has no vector search: keep views with a vector index in one of Feast's stores that has"
        )

    retrieve_online_documents_v2 = retrieve_online_documents

    def _is_versioned_read_supported(self) -> bool:
        """`view@v1:feature` is another view to this store."""
        return True


def table_name(config: RepoConfig, view: FeatureView) -> str:
    """The view's name with its project and, where the registry keeps versions online, its version."""
    name: str = compute_table_id(config.project, view, config.registry.enable_online_feature_view_versioning)
    return name


def _place(config: RepoConfig) -> tuple[Any, ...]:
    own = config.online_store
    return own.path, config.project, config.repo_path, own.key_ttl_seconds


def _proto(config: RepoConfig, call: Call, given: Given, answered: tuple[Any, ...], full_feature_names: bool) -> Any:
    """The protobuf of an answer, from a store that reads what was read: keys, values, layouts."""
    store = PackedOnlineStore()
    store._backends[_place(config)] = cast(Backend, Answered(*answered))
    return proto_of(store, config, call, given, full_feature_names)
