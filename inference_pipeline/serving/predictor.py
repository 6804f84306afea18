"""The champion in a running service: loads it, notices the next one, swaps it in, answers and logs requests."""

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from fti.errors import NotReadyError
from fti.model import prediction
from fti.model.bundle import ModelBundle
from fti.model.prediction import Outcome
from fti.project import Project
from fti.stores.features.store import FeatureStore
from fti.stores.predictions.log import PredictionLog
from fti.stores.predictions.upload import LogUpload
from fti.stores.registry.registry import ModelRegistry, ModelVersion
from fti.times import UTC_TIME
from inference_pipeline.serving.predict import LATER, STALE, UNKNOWN, StaleFeatures, predict, refuse
from inference_pipeline.serving.request import REQUEST_ID, RequestSchema, Row

logger = logging.getLogger("fti.project.service")

POLL_SECONDS = 1.0
RETRY_SECONDS = 30.0
"""A version that did not load is tried again after this long."""
WARM_UP_ROWS = (1, 64, 1)
UNKNOWN_FLAG, STALE_FLAG, LATER_FLAG = "unknown_entities", "stale_views", "later_views"
"""Flags of an answer: the feature views that had never seen its entity, whose values were too old, and whose values
happened after the moment of prediction."""

Answer = dict[str, Any] | StaleFeatures


@dataclass(frozen=True)
class Champion:
    """A model version, loaded and warmed up."""

    version: ModelVersion
    bundle: ModelBundle
    loaded_at: datetime


@dataclass(frozen=True)
class Arrival:
    """One parsed request and when it arrived, by `time.perf_counter`."""

    row: Row
    arrived: float


@dataclass
class Predictor:
    """Answers requests with the project's champion. Thread-safe: a swap replaces one attribute."""

    project: Project
    feature_store: FeatureStore
    registry: ModelRegistry
    log: PredictionLog
    schema: RequestSchema = field(init=False)
    poll_seconds: float = POLL_SECONDS
    champion: Champion | None = None
    served: int = 0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    failure: str | None = None
    """Why the newest champion is not serving, if it is not."""
    _failed: tuple[int, float] | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)
    _counting: threading.Lock = field(default_factory=threading.Lock)
    _uploads: LogUpload = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._uploads = LogUpload(self.log)
        self.schema = RequestSchema(self.project)

    def start(self) -> None:
        """Load the champion, if there is one; from now on follow its alias, and upload the log, in the background."""
        self._uploads.start()
        self._follow()
        threading.Thread(target=self._poll, name="champion-poller", daemon=True).start()

    def stop(self) -> None:
        """Stop following the alias, and upload the rest of the log."""
        self._stopped.set()
        self._uploads.stop()

    def answer(self, arrivals: Sequence[Arrival]) -> list[Answer]:
        """Predictions for parsed requests, in their order, logged durably before this returns.

        A request that stale features forbid to answer gets its error in place of a prediction and is not logged.
        """
        champion = self.champion
        if champion is None:
            raise NotReadyError(self._remedy())
        requests = pl.DataFrame([arrival.row for arrival in arrivals], schema=self.schema.frame, orient="row")
        rows = predict(self.project, self.feature_store, champion.bundle, requests)
        refused = refuse(self.project, self.feature_store, champion.bundle.info.feature_service, rows)
        if refused:
            kept = [place for place in range(rows.height) if place not in refused]
            rows, arrivals = rows[kept], [arrivals[place] for place in kept]
        given = iter(answers(self._log(rows, arrivals, champion), champion.bundle.info) if arrivals else [])
        return [refused[place] if place in refused else next(given) for place in range(requests.height)]

    def _log(self, rows: pl.DataFrame, arrivals: Sequence[Arrival], champion: Champion) -> pl.DataFrame:
        """The log's records of `rows`, durable when this returns."""
        now = time.perf_counter()
        latencies = [round((now - arrival.arrived) * 1e3, 3) for arrival in arrivals]
        number, version = len(arrivals), champion.version.version
        records = rows.hstack(
            [
                pl.Series("served_at", [datetime.now(UTC)] * number, UTC_TIME),
                pl.Series("model_version", [version] * number, pl.Int64),
                pl.Series("latency_ms", latencies, pl.Float64),
            ]
        )
        self.log.append(self.project.name, records)
        with self._counting:
            self.served += len(arrivals)
        return records

    def status(self) -> dict[str, Any]:
        """What is serving since when, for people and for the swap's observers."""
        champion = self.champion
        return {
            "project": self.project.name,
            "task": self.project.model.task,
            "ready": champion is not None,
            "model_version": champion.version.version if champion else None,
            "run_id": champion.version.run_id if champion else None,
            "dataset_version": champion.bundle.info.dataset_version if champion else None,
            "feature_service": champion.bundle.info.feature_service if champion else None,
            "classes": list(champion.bundle.info.classes) if champion else None,
            "loaded_at": champion.loaded_at.isoformat() if champion else None,
            "started_at": self.started_at.isoformat(),
            "requests_served": self.served,
            "failure": self.failure,
            "features": self._features(champion) if champion else None,
        }

    def _features(self, champion: Champion) -> dict[str, Any]:
        """Freshness of every feature view that the champion reads."""
        try:
            return self.feature_store.freshness(champion.bundle.info.feature_service, self.project.features.freshness)
        except NotReadyError as error:
            return {"failure": str(error)}

    def refresh(self) -> bool:
        """Swap in the version that carries the alias, if it is another one. Returns whether it did.

        Where that cannot be loaded and nothing serves yet, the version that served last does in its place.
        """
        version = self.registry.champion(self.project.name)
        if version is None or (self.champion and self.champion.version.version == version.version):
            self.failure = None
            return False
        if self._failed and self._failed[0] == version.version and time.monotonic() < self._failed[1]:
            return False
        self._failed = (version.version, time.monotonic() + RETRY_SECONDS)
        try:
            self.champion = self._load(version)
        except Exception:
            self.champion = self.champion or self._last_good(version.version)
            raise
        self._failed, self.failure = None, None
        logger.info("%s: version %s is serving", self.project.name, version.version)
        return True

    def _load(self, version: ModelVersion) -> Champion:
        bundle = self.registry.bundle(version)
        row = self.schema.example()
        for number in WARM_UP_ROWS:
            requests = pl.DataFrame([row] * number, schema=self.schema.frame, orient="row")
            predict(self.project, self.feature_store, bundle, requests)
        return Champion(version=version, bundle=bundle, loaded_at=datetime.now(UTC))

    def _last_good(self, broken: int) -> Champion | None:
        """The version that was champion last and can be loaded."""
        name = self.project.name
        served = [promotion.version for promotion in reversed(self.registry.promotions.of(name))]
        for number in dict.fromkeys(number for number in served if number != broken):
            try:
                return self._load(self.registry.version(name, number))
            except Exception:  # whatever is wrong with it, an older one may do
                logger.exception("%s: version %s could not be loaded either", name, number)
        return None

    def _follow(self) -> None:
        try:
            self.refresh()
        except Exception as error:  # whatever a new model or a registry does, the old model goes on serving
            serving = f" Version {self.champion.version.version} goes on serving." if self.champion else ""
            self.failure = f"{type(error).__name__}: {error}{serving}"
            logger.exception("%s: the champion could not be loaded", self.project.name)

    def _poll(self) -> None:
        while not self._stopped.wait(self.poll_seconds):
            self._follow()

    def _remedy(self) -> str:
        reason = f" ({self.failure})" if self.failure else ""
        name = self.project.name
        return (
            f"{name} has no champion that serves{reason}. Materialize {name}/champion; it is picked up within seconds."
        )


def answers(records: pl.DataFrame, outcome: Outcome) -> list[dict[str, Any]]:
    """The JSON answer of every record. Probabilities of classes come by the classes' names."""
    names = [REQUEST_ID, *prediction.COLUMNS[outcome.task], "model_version", "latency_ms"]
    columns = {name: records[name].to_list() for name in names}
    if prediction.PROBABILITIES in columns:
        columns[prediction.PROBABILITIES] = [
            dict(zip(outcome.classes, row, strict=True)) for row in columns[prediction.PROBABILITIES]
        ]
    later = records[LATER].to_list() if LATER in records.columns else [[]] * records.height
    flags = zip(records[UNKNOWN].to_list(), records[STALE].to_list(), later, strict=True)
    return [
        {**dict(zip(names, row, strict=True)), "flags": flags_of(*views)}
        for row, views in zip(zip(*columns.values(), strict=True), flags, strict=True)
    ]


def flags_of(unknown: list[str], stale: list[str], later: list[str]) -> dict[str, list[str]]:
    """The flags that are set."""
    flags = {UNKNOWN_FLAG: unknown, STALE_FLAG: stale, LATER_FLAG: later}
    return {name: views for name, views in flags.items() if views}
