"""The feature store: Feast, with the joins, reads and writes on its hot paths made on whole frames.

Feast's registry says what exists; the offline and online stores are Feast plugins of our own, so Feast's command line
and SDK work on the same state. Feast is imported at the first use: it takes seconds.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from fti.errors import DataError, NotReadyError
from fti.project import Project

if TYPE_CHECKING:
    import feast

    from fti.stores.online_store import TableOnlineStore, ViewTable

TIME = "event_timestamp"
CHUNK = timedelta(days=31)
"""Most that materialization holds in memory at once, per view."""


@dataclass(frozen=True)
class ServedView:
    """A feature view as one feature service reads it."""

    view: Any
    """The `feast.FeatureView`."""
    table: ViewTable
    keys: tuple[str, ...]
    """Columns of the entity rows, in the order of the table's keys."""
    features: tuple[str, ...]
    select: str
    ttl: int | None
    """Microseconds."""

    @cached_property
    def nothing(self) -> tuple[None, ...]:
        """The features of an entity that is not there."""
        return (None,) * len(self.features)


@dataclass(frozen=True)
class FeatureStore:
    """Where features live. `repo` holds `feature_store.yaml`; the other fields override the places it names.

    `root` is the folder of local state, `lake` the root of the feature tables, `registry` an SQLAlchemy URL,
    `online_store` the SQLite file of online features. Reads are safe from several threads.
    """

    repo: Path
    root: str
    lake: str
    registry: str
    online_store: str

    @cached_property
    def feast(self) -> feast.FeatureStore:
        """Feast itself, for what this class does not wrap."""
        import feast

        Path(self.root).mkdir(parents=True, exist_ok=True)
        if self.registry.startswith("sqlite:///"):
            Path(self.registry.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return feast.FeatureStore(config=self._config())

    def apply(self, project: Project) -> None:
        """Register the Feast objects of `project.features.repo`. Repeatable; one process at a time."""
        import feast

        kinds = (feast.Entity, feast.FeatureView, feast.FeatureService, feast.OnDemandFeatureView)
        objects = [value for value in vars(import_module(project.features.repo)).values() if isinstance(value, kinds)]
        with self._lock("apply"):
            self.feast.apply(objects)
        self._plans.clear()

    def feature_names(self, service: str) -> dict[str, list[str]]:
        """Feature view -> its features, as `service` reads them."""
        return {served.view.name: list(served.features) for served in self._plan(service)}

    def historical(self, service: str, entity_rows: pl.DataFrame) -> pl.DataFrame:
        """All of `entity_rows`, in their order, with the features known at each row's `event_timestamp`."""
        plan = self._plan(service)
        job = self.feast.get_historical_features(entity_rows, self.feast.get_feature_service(service))
        types = {name: dtype for served in plan for name, dtype in _types(served).items()}
        rows: pl.DataFrame = job.to_polars()
        return rows.select(*entity_rows.columns, *(pl.col(name).cast(dtype) for name, dtype in types.items()))

    def materialize(self, service: str, start: datetime, end: datetime, *, record: bool = False) -> dict[str, int]:
        """Bring the newest row of each entity in `[start, end]`, both included, to the online store.

        Returns the rows written by view. The newest row stays whatever the order of calls. `record` keeps Feast's
        list of materialized intervals up to date; it costs more than a small window does.
        """
        written = {}
        for served in self._plan(service):
            written[served.view.name] = sum(
                self._write(served, self._latest(served, first, last)) for first, last in _chunks(start, end)
            )
            if record:
                self.feast.registry.apply_materialization(served.view, self.feast.project, start, end)
        return written

    def missing_online(self, service: str, start: datetime, end: datetime) -> dict[str, int]:
        """View -> entities whose newest row of `[start, end]` in the lake is not (or only older) online."""
        missing = {}
        for served in self._plan(service):
            newest: dict[tuple[Any, ...], int] = {}
            for first, last in _chunks(start, end):
                rows = self._latest(served, first, last)
                newest |= {tuple(key): event for *key, event in rows.select(*served.table.keys, "event_ts").iter_rows()}
            found = self._read(served, list(newest))
            missing[served.view.name] = sum(key not in found or found[key][0] < at for key, at in newest.items())
        return missing

    def online(self, service: str, entity_rows: pl.DataFrame) -> pl.DataFrame:
        """The newest features of each row, with `missing_views`: the views that have none for it.

        Columns, types and order are those that `historical` adds. With an `event_timestamp` column, values that have
        outlived their view's TTL at that moment are missing, as they are in `historical`; without it nothing expires.
        """
        plan = self._plan(service)
        moments = entity_rows[TIME].dt.epoch("us").to_list() if TIME in entity_rows.columns else []
        answers: list[list[Any]] = [[] for _ in range(entity_rows.height)]
        missing: list[list[str]] = [[] for _ in range(entity_rows.height)]
        with self._snapshot():
            for served in plan:
                self._answer(served, entity_rows, moments, answers, missing)
        schema = {name: dtype for served in plan for name, dtype in _types(served).items()}
        for answer, views in zip(answers, missing, strict=True):
            answer.append(views)
        return pl.DataFrame(answers, schema={**schema, "missing_views": pl.List(pl.String)}, orient="row")

    def _answer(
        self,
        served: ServedView,
        entity_rows: pl.DataFrame,
        moments: Sequence[int],
        answers: list[list[Any]],
        missing: list[list[str]],
    ) -> None:
        """Append the features of one view to `answers`, or its name to `missing`."""
        keys = list(zip(*(entity_rows[key].to_list() for key in served.keys), strict=True))
        found = self._read(served, list(dict.fromkeys(keys)))
        for place, key in enumerate(keys):
            row = found.get(key)
            if row is None or (moments and served.ttl is not None and moments[place] - row[0] > served.ttl):
                answers[place].extend(served.nothing)
                missing[place].append(served.view.name)
            else:
                answers[place].extend(row[1])

    def _read(
        self, served: ServedView, keys: list[tuple[Any, ...]]
    ) -> dict[tuple[Any, ...], tuple[int, tuple[Any, ...]]]:
        """Key -> (event time, features) of the entities that are online."""
        cursor = self._online.connection(self.feast.config).execute(served.select, (orjson.dumps(keys),))
        return {keys[place]: (event, values) for place, event, *values in cursor}

    def _latest(self, served: ServedView, start: datetime, end: datetime) -> pl.DataFrame:
        """The newest rows of `[start, end]` in the columns of the online table."""
        from fti.stores.offline_store import history_of
        from fti.stores.point_in_time import between, latest

        names = {feature: feature for feature in served.table.features}
        history = between(history_of(self.feast.config, served.view, names=names, span=(start, end)), start, end)
        created = pl.col(history.created).dt.epoch("us") if history.created else pl.lit(None, pl.Int64)
        return latest(history).select(
            *served.table.keys,
            pl.col(history.time).dt.epoch("us").alias("event_ts"),
            created.alias("created_ts"),
            *names,
        )

    def _write(self, served: ServedView, rows: pl.DataFrame) -> int:
        self._online.write(self.feast.config, served.table, rows.iter_rows())
        return rows.height

    def _plan(self, service: str) -> list[ServedView]:
        """How each view of `service` is read; kept, since a changed service has a new name."""
        if service not in self._plans:
            from feast.errors import FeatureServiceNotFoundException

            try:
                projections = self.feast.get_feature_service(service).feature_view_projections
            except FeatureServiceNotFoundException:
                raise NotReadyError(f"feature service {service!r} is not registered: apply its project first") from None
            self._plans[service] = [self._served(projection) for projection in projections]
        return self._plans[service]

    def _served(self, projection: Any) -> ServedView:
        from fti.stores.online_store import ViewTable

        view = self.feast.get_feature_view(projection.name)
        view = view.with_projection(projection)
        table = ViewTable.of(self.feast.config, view)
        features = tuple(feature.name for feature in projection.features)
        keys = tuple(projection.join_key_map.get(key, key) for key in table.keys)
        ttl = view.ttl // timedelta(microseconds=1) if view.ttl else None
        return ServedView(view, table, keys, features, table.select(features), ttl)

    @cached_property
    def _plans(self) -> dict[str, list[ServedView]]:
        return {}

    @cached_property
    def _online(self) -> TableOnlineStore:
        from fti.stores.online_store import TableOnlineStore

        store = self.feast._get_provider().online_store
        if not isinstance(store, TableOnlineStore):
            raise DataError(f"{self.repo}/feature_store.yaml: online_store must be fti.stores.online_store")
        return store

    @contextmanager
    def _snapshot(self) -> Iterator[None]:
        """All views as of one moment."""
        from fti.stores.online_store import transaction

        with transaction(self._online.connection(self.feast.config), "DEFERRED"):
            yield

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        Path(self.root).mkdir(parents=True, exist_ok=True)
        with open(Path(self.root) / f"{name}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _config(self) -> Any:
        """`feature_store.yaml` with the places of this store."""
        import yaml
        from feast import RepoConfig

        values = yaml.safe_load((Path(self.repo) / "feature_store.yaml").read_text())
        values["registry"] |= {"path": self.registry}
        values["offline_store"] |= {"root": self.lake}
        values["online_store"] |= {"path": self.online_store}
        return RepoConfig(**values, repo_path=Path(self.repo))


def _types(served: ServedView) -> dict[str, Any]:
    return {feature: served.table.schema[feature] for feature in served.features}


def _chunks(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """`[start, end]` in pieces that share their edges: no row falls between two."""
    first = start
    while first + CHUNK < end:
        yield first, first + CHUNK
        first += CHUNK
    yield first, end
