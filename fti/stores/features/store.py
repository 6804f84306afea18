"""The feature store: Feast, with the joins, reads and writes on its hot paths made on whole frames.

Feast's registry says what exists; the offline and online stores are Feast plugins of our own, so Feast's command line
and SDK work on the same state. Feast is imported at the first use: it takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from fti.errors import DataError, NotReadyError
from fti.project import Freshness, Project
from fti.storage.locks import lock
from fti.storage.reading import settled
from fti.storage.sql import database, is_postgresql
from fti.times import TIME

if TYPE_CHECKING:
    import feast

    from fti.stores.features.online.backend import Backend
    from fti.stores.features.online.served import ServedView
    from fti.stores.features.online.serving import ServicePlan
    from fti.stores.features.online.store import PackedOnlineStore
    from fti.versions.views import ServedModel

BATCH_ROWS = 500_000
"""Rows of a view in memory at once while it is materialized."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVERYTHING_BY_TTL: Mapping[str, Freshness] = {}
"""No policies: every view has its TTL."""


@dataclass(frozen=True)
class ViewSchema:
    """Columns of a feature view with their polars types."""

    keys: dict[str, Any]
    features: dict[str, Any]


@dataclass(frozen=True)
class FeatureStore:
    """Where features live. `repo` holds `feature_store.yaml`; the other fields override the places it names.

    `root` is the folder of local state, `lake` the root of the feature tables, `registry` an SQLAlchemy URL,
    `online_store` the SQLite file of online features or the URL of a Redis server. Reads are safe from several threads.
    """

    repo: Path
    root: str
    lake: str
    registry: str
    online_store: str
    batch_rows: int = BATCH_ROWS
    served: Callable[[], Sequence[ServedModel]] = tuple
    """The models that serve, which a change of features must not surprise."""
    database: str = ""
    """Where its locks are; SQLite files below `root` unless given."""

    @cached_property
    def feast(self) -> feast.FeatureStore:
        """Feast itself, for what this class does not wrap."""
        import feast

        Path(self.root).mkdir(parents=True, exist_ok=True)
        if self.registry.startswith("sqlite:///"):
            Path(self.registry.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        elif is_postgresql(self._database):
            database(self._database)  # makes the schema that the registry's tables lie in
        return feast.FeatureStore(config=self._config())

    def apply(self, project: Project) -> None:
        """Register the Feast objects of `project.features.repo`. Repeatable; one process at a time.

        ChangeError when that would change, in place, what a champion reads.
        """
        from fti.stores.features.registration import register

        with lock(self._database, "feast-apply"):
            register(self.feast, project, self.served)
        self._plans.clear()
        self.check_freshness(project.features.service, project.features.freshness)

    def versions(self, service: str) -> dict[str, str]:
        """The versions that the service and its views are registered with, by name."""
        from fti.stores.features.registration import registered_versions

        return registered_versions(self.feast, service)

    def services(self, project: Project) -> list[str]:
        """The project's feature service, and the other ones in its Feast module, which older models may still read."""
        from fti.stores.features.registration import services

        return services(project)

    def feature_names(self, service: str) -> dict[str, list[str]]:
        """Feature view -> its features, as `service` reads them."""
        return {served.name: list(served.types) for served in self._plan(service).views}

    def schemas(self, service: str) -> dict[str, ViewSchema]:
        """Feature view -> its columns, all features whether or not `service` reads them."""
        from fti.stores.features.online.types import polars_type

        def columns(fields: Sequence[Any]) -> dict[str, Any]:
            return {column.name: polars_type(column.dtype) for column in fields}

        views = [served.view for served in self._plan(service).views]
        return {view.name: ViewSchema(columns(view.entity_columns), columns(view.features)) for view in views}

    def historical(self, service: str, entity_rows: pl.DataFrame) -> pl.DataFrame:
        """All of `entity_rows`, in their order, with the features known at each row's `event_timestamp`."""
        found = self.feast.get_feature_service(service)
        try:
            rows: pl.DataFrame = self.feast.get_historical_features(entity_rows, found).to_polars()
        except pl.exceptions.PolarsError as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"the rows of {service} cannot be read ({reason}). Materialize those features again."
            ) from error
        features = chain.from_iterable(served.declared(rows, entity_rows) for served in self._plan(service).views)
        return rows.select(*entity_rows.columns, *features)

    def materialize(self, service: str, start: datetime, end: datetime, *, record: bool = False) -> dict[str, int]:
        """Bring the newest row of each entity in `[start, end]`, both included, to the online store.

        Returns the rows written by view. The newest row stays whatever the order of calls, so a call that was
        interrupted is simply made again. `record` keeps Feast's list of materialized intervals up to date; it costs
        more than a small window does.
        """
        written: dict[str, int] = {}
        for served in self._plan(service).views:
            written[served.name] = settled(partial(self._bring_online, served.view, start, end))
        for served in self._plan(service).views if record else []:
            self.feast.registry.apply_materialization(served.view, self.feast.project, start, end)
        return written

    def _bring_online(self, view: Any, start: datetime, end: datetime) -> int:
        from fti.stores.features.materialization import newest_rows

        written = 0
        for rows in newest_rows(self.feast.config, view, start, end, self.batch_rows):
            self._online.write(self.feast.config, view, rows)
            written += rows.height
        return written

    def write_online(self, service: str, views: Mapping[str, pl.DataFrame]) -> dict[str, int]:
        """Bring rows (keys, `event_timestamp`, features) of views online; the newest row of an entity stays."""
        served = {served.name: served.view for served in self._plan(service).views}
        event = pl.col(TIME).dt.epoch("us").alias("event_ts")
        for view, rows in views.items():
            values = rows.with_columns(event, pl.lit(None, pl.Int64).alias("created_ts"))
            self._online.write(self.feast.config, served[view], values)
        return {view: rows.height for view, rows in views.items()}

    def newest_by_view(self, service: str) -> dict[str, datetime | None]:
        """Feature view -> the latest event time that ever came online; None while nothing is."""
        views = self._plan(service).views
        found = self._backend.newest(served.wanted.view for served in views)
        return {served.name: _moment(found.get(served.wanted.view)) for served in views}

    def newest_online(self, service: str) -> datetime | None:
        """The latest event time of any entity online, over all views; None while nothing is."""
        return max((event for event in self.newest_by_view(service).values() if event is not None), default=None)

    def materialized_until(self, service: str) -> datetime | None:
        """End of what was materialized with `record`, for all views; None when nothing of a view is online."""
        ends: list[datetime] = []
        for view, newest in self.newest_by_view(service).items():
            end = self.feast.get_feature_view(view).most_recent_end_time
            if end is None or newest is None:
                return None
            ends.append(end)
        return min(ends, default=None)

    def missing_online(self, service: str, start: datetime, end: datetime) -> dict[str, int]:
        """View -> entities whose newest row of `[start, end]` in the lake is not (or only older) online."""
        from fti.stores.features.materialization import missing, newest_rows

        def of_view(served: ServedView) -> int:
            rows = newest_rows(self.feast.config, served.view, start, end, self.batch_rows)
            return missing(served, self._backend, rows)

        return {served.name: settled(partial(of_view, served)) for served in self._plan(service).views}

    def online(
        self, service: str, entity_rows: pl.DataFrame, freshness: Mapping[str, Freshness] = EVERYTHING_BY_TTL
    ) -> pl.DataFrame:
        """The newest features of each row, with `missing_views` (never seen) and `stale_views` (seen too long ago).

        Columns, types and order are those that `historical` adds. With an `event_timestamp` column, values that are
        older at that moment than their view's `freshness` (without one: its TTL, as in `historical`) are null, or the
        policy's defaults; without it nothing is stale. Where values happened after that moment, `later_views` names
        their views, row by row: the online store holds no older ones.
        """
        moments = entity_rows.get_column(TIME, default=None)
        times = None if moments is None else _micros(moments)
        return self._plan(service).read(self._backend, entity_rows, times, freshness)

    def online_events(self, service: str, entity_rows: pl.DataFrame) -> pl.DataFrame:
        """When the online values of each view (a column) happened, row by row; null where nothing is online."""
        return self._plan(service).events(self._backend, entity_rows)

    def freshness(self, service: str, freshness: Mapping[str, Freshness]) -> dict[str, Any]:
        """Feature view -> its policy, and the event time of the newest row that ever came online."""
        from fti.stores.features.online.freshness import policy_of

        newest = self.newest_by_view(service)
        answer = {}
        for served in self._plan(service).views:
            own = policy_of(served, freshness.get(served.name))
            event = newest[served.name]
            answer[served.name] = {
                "max_age_seconds": own.max_age.total_seconds() if own.max_age else None,
                "on_stale": own.on_stale,
                "newest_event": event.isoformat() if event else None,
            }
        return answer

    def check_freshness(self, service: str, freshness: Mapping[str, Freshness]) -> None:
        """Raise `DataError` unless every policy is of a view that `service` reads, and fits it."""
        views = self._plan(service).views
        unknown = freshness.keys() - {served.name for served in views}
        if unknown:
            raise DataError(f"freshness of {', '.join(sorted(unknown))}: {service} reads no such feature view")
        self._plan(service).limits(freshness)

    def _plan(self, service: str) -> ServicePlan:
        """How `service` is read; kept, since a changed service has a new name."""
        if service not in self._plans:
            from feast.errors import FeatureServiceNotFoundException

            from fti.stores.features.online.serving import ServicePlan

            try:
                projections = self.feast.get_feature_service(service).feature_view_projections
            except FeatureServiceNotFoundException:
                raise NotReadyError(f"feature service {service!r} is not registered: apply its project first") from None
            self._plans[service] = ServicePlan([self._served(projection) for projection in projections])
        return self._plans[service]

    def _served(self, projection: Any) -> ServedView:
        from fti.stores.features.online.sections import view_id
        from fti.stores.features.online.serving import served_view
        from fti.stores.features.online.store import table_name

        view = self.feast.get_feature_view(projection.name).with_projection(projection)
        return served_view(self.feast.project, view, view_id(table_name(self.feast.config, view)), projection)

    @cached_property
    def _plans(self) -> dict[str, ServicePlan]:
        return {}

    @cached_property
    def _online(self) -> PackedOnlineStore:
        from fti.stores.features.online.store import PackedOnlineStore

        store = self.feast._get_provider().online_store
        if not isinstance(store, PackedOnlineStore):
            raise DataError(
                f"{self.repo}/feature_store.yaml: online_store must be "
                "fti.stores.features.online.store.PackedOnlineStore"
            )
        return store

    @cached_property
    def _backend(self) -> Backend:
        """Where online values lie."""
        return self._online.backend(self.feast.config)

    @property
    def _database(self) -> str:
        return self.database or f"sqlite:///{self.root}/fti.db"

    def _config(self) -> Any:
        """`feature_store.yaml` with the places of this store."""
        import yaml
        from feast import RepoConfig

        values = yaml.safe_load((Path(self.repo) / "feature_store.yaml").read_text())
        values["registry"] |= {"path": self.registry}
        values["offline_store"] |= {"root": self.lake}
        values["online_store"] |= {"path": self.online_store}
        return RepoConfig(**values, repo_path=Path(self.repo))


def _moment(micros: int | None) -> datetime | None:
    return None if micros is None else EPOCH + timedelta(microseconds=micros)


def _micros(moments: pl.Series) -> np.ndarray[Any, Any]:
    """Microseconds since 1970."""
    return moments.to_numpy().astype("datetime64[us]", copy=False).view(np.int64)
