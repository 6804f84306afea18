"""The feature store: Feast, with the joins, reads and writes on its hot paths made on whole frames.

Feast's registry says what exists; the offline and online stores are Feast plugins of our own, so Feast's command line
and SDK work on the same state. Feast is imported at the first use: it takes seconds.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import polars as pl

from fti.errors import DataError, NotReadyError
from fti.project import Project

if TYPE_CHECKING:
    import feast

    from fti.stores.online_store import TableOnlineStore, ViewTable
    from fti.versions import ServedModel

TIME = "event_timestamp"
CHUNK = timedelta(days=31)
"""Most that materialization holds in memory at once, per view."""


@dataclass(frozen=True)
class ViewSchema:
    """Columns of a feature view with their polars types."""

    keys: dict[str, Any]
    features: dict[str, Any]


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
    served: Callable[[], Sequence[ServedModel]] = tuple
    """The models that serve, which a change of features must not surprise."""

    @cached_property
    def feast(self) -> feast.FeatureStore:
        """Feast itself, for what this class does not wrap."""
        import feast

        Path(self.root).mkdir(parents=True, exist_ok=True)
        if self.registry.startswith("sqlite:///"):
            Path(self.registry.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return feast.FeatureStore(config=self._config())

    def apply(self, project: Project) -> None:
        """Register the Feast objects of `project.features.repo`. Repeatable; one process at a time.

        ChangeError when that would change, in place, what a champion reads.
        """
        from fti.stores.registration import register

        with self._lock("apply"):
            register(self.feast, project, self.served)
        self._plans.clear()

    def versions(self, service: str) -> dict[str, str]:
        """The versions that the service and its views are registered with, by name."""
        from fti.versions import VERSION

        registered = [self.feast.get_feature_service(service), *(served.view for served in self._plan(service))]
        return {item.name: item.tags[VERSION] for item in registered if VERSION in item.tags}

    def feature_names(self, service: str) -> dict[str, list[str]]:
        """Feature view -> its features, as `service` reads them."""
        return {served.view.name: list(served.features) for served in self._plan(service)}

    def schemas(self, service: str) -> dict[str, ViewSchema]:
        """Feature view -> its columns, all features whether or not `service` reads them."""
        tables = {served.view.name: served.table for served in self._plan(service)}
        return {view: ViewSchema(table.key_schema, table.schema) for view, table in tables.items()}

    def historical(self, service: str, entity_rows: pl.DataFrame) -> pl.DataFrame:
        """All of `entity_rows`, in their order, with the features known at each row's `event_timestamp`."""
        plan = self._plan(service)
        job = self.feast.get_historical_features(entity_rows, self.feast.get_feature_service(service))
        types = {name: dtype for served in plan for name, dtype in _types(served).items()}
        try:
            rows: pl.DataFrame = job.to_polars()
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"the rows of {service} cannot be read ({reason}). Materialize those features again."
            ) from error
        return rows.select(*entity_rows.columns, *(pl.col(name).cast(dtype) for name, dtype in types.items()))

    def materialize(self, service: str, start: datetime, end: datetime, *, record: bool = False) -> dict[str, int]:
        """Bring the newest row of each entity in `[start, end]`, both included, to the online store.

        Returns the rows written by view. The newest row stays whatever the order of calls. `record` keeps Feast's
        list of materialized intervals up to date; it costs more than a small window does.
        """
        plan = self._plan(service)
        written = dict.fromkeys((served.view.name for served in plan), 0)
        for first, last in _chunks(start, end):
            for served, rows in zip(plan, self._latest(plan, first, last), strict=True):
                self._online.write(self.feast.config, served.table, rows.iter_rows())
                written[served.view.name] += rows.height
        for served in plan if record else []:
            self.feast.registry.apply_materialization(served.view, self.feast.project, start, end)
        return written

    def write_online(self, service: str, views: Mapping[str, pl.DataFrame]) -> dict[str, int]:
        """Bring rows (keys, `event_timestamp`, features) of views online; the newest row of an entity stays."""
        tables = {served.view.name: served.table for served in self._plan(service)}
        event = pl.col(TIME).dt.epoch("us").alias("event_ts")
        for view, rows in views.items():
            table = tables[view]
            values = rows.select(*table.keys, event, pl.lit(None, pl.Int64).alias("created_ts"), *table.features)
            self._online.write(self.feast.config, table, values.iter_rows())
        return {view: rows.height for view, rows in views.items()}

    def newest_online(self, service: str) -> datetime | None:
        """The latest event time of any entity online, over all views; None while nothing is."""
        connection = self._online.connection(self.feast.config)
        tables = [served.table.name for served in self._plan(service)]
        newest = [connection.execute(f'SELECT max(event_ts) FROM "{name}"').fetchone()[0] for name in tables]
        found = max((micros for micros in newest if micros is not None), default=None)
        return None if found is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found)

    def materialized_until(self, service: str) -> datetime | None:
        """End of what was materialized with `record`, for all views; none when a view's online table is empty."""
        ends: list[datetime] = []
        for served in self._plan(service):
            end = self.feast.get_feature_view(served.view.name).most_recent_end_time
            connection = self._online.connection(self.feast.config)
            if end is None or not served.table.filled(connection):
                return None
            ends.append(end)
        return min(ends, default=None)

    def missing_online(self, service: str, start: datetime, end: datetime) -> dict[str, int]:
        """View -> entities whose newest row of `[start, end]` in the lake is not (or only older) online."""
        plan = self._plan(service)
        newest: dict[str, dict[tuple[Any, ...], int]] = {served.view.name: {} for served in plan}
        for first, last in _chunks(start, end):
            for served, rows in zip(plan, self._latest(plan, first, last), strict=True):
                keys = rows.select(served.table.keys.keys()).iter_rows()
                newest[served.view.name] |= dict(zip(keys, rows["event_ts"], strict=True))
        found = {served.view.name: self._read(served, list(newest[served.view.name])) for served in plan}
        return {
            view: sum(key not in found[view] or found[view][key][0] < event for key, event in entities.items())
            for view, entities in newest.items()
        }

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

    def _latest(self, plan: list[ServedView], start: datetime, end: datetime) -> list[pl.DataFrame]:
        """The newest rows of `[start, end]` by view, in the columns of the online tables."""
        from fti.stores.offline_store import history_of
        from fti.stores.point_in_time import between, latest

        queries = []
        for served in plan:
            names = {feature: feature for feature in served.table.features}
            history = between(history_of(self.feast.config, served.view, names=names, span=(start, end)), start, end)
            created = pl.col(history.created).dt.epoch("us") if history.created else pl.lit(None, pl.Int64)
            event = pl.col(history.time).dt.epoch("us")
            times = event.alias("event_ts"), created.alias("created_ts")
            queries.append(latest(history).select(*served.table.keys, *times, *names))
        return pl.collect_all(queries)

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
            raise DataError(
                f"{self.repo}/feature_store.yaml: online_store must be fti.stores.online_store.TableOnlineStore"
            )
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
