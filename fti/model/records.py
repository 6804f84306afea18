"""What lies beside rows and models as JSON: a dataset's manifest, a model's info and its evaluation.

Each says its `format`. One without a number is of a version before and is read as well; one with a higher number than
this FTI writes is refused. What is as by default is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from fti.errors import DataError
from fti.project import Task

FORMAT = 1
"""Raise it with every change that an FTI of before would misread; `from_json` then has to read both."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A value that is kept as a JSON object."""

    def to_json(self) -> dict[str, Any]:
        """The object that `from_json` reads."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        defaults = {item.name: _default(item) for item in fields(self)}
        return {"format": FORMAT, **{name: value for name, value in values.items() if value != defaults[name]}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], place: str | Path) -> Self:
        """The value of the object that `place` holds; DataError when it is too new, or lacks what every one has."""
        if (number := content.get("format", 0)) > FORMAT:
            raise DataError(f"{place} has format {number}, and this FTI reads formats up to {FORMAT}: update FTI.")
        known = {"task": "binary", **content}  # those made before there were three tasks are binary
        lacking = [item.name for item in fields(cls) if _default(item) is MISSING and item.name not in known]
        if lacking:
            raise DataError(f"{place} does not say {', '.join(lacking)}: it is not whole. Make it again.")
        values = {item.name: known[item.name] for item in fields(cls) if item.name in known}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def _default(item: Any) -> Any:
    return item.default if item.default_factory is MISSING else item.default_factory()


@dataclass(frozen=True, kw_only=True)
class ModelColumns(Record):
    """What a model reads and what it predicts."""

    task: Task
    label: str
    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    classes: tuple[str, ...] = ()
    """Of a multiclass label, in the order of the probabilities."""
    project: str = ""
    feature_service: str = ""
    ranges: Mapping[str, list[str]] = field(default_factory=dict)
    """Split -> first and last moment of prediction, ISO 8601."""

    @classmethod
    def of(cls, columns: ModelColumns, **own: Any) -> Self:
        """These columns, and what is one's `own`."""
        shared = {item.name: getattr(columns, item.name) for item in fields(ModelColumns)}
        return cls(**{**shared, **own})


@dataclass(frozen=True, kw_only=True)
class Manifest(ModelColumns):
    """What a training dataset is. It holds no time of making: equal data has equal bytes, and so one version."""

    feature_views: Mapping[str, list[str]] = field(default_factory=dict)
    """View -> its features."""
    rows: Mapping[str, int] = field(default_factory=dict)
    """Split -> rows; so are the next three by split, one of them for each task."""
    positive_share: Mapping[str, float] = field(default_factory=dict)
    class_shares: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    label_statistics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shares: tuple[float, ...] = ()
    """Of a random split."""
    kept_together: tuple[str, ...] = ()
    """Columns whose equal rows a random split keeps in one part."""
    taken: float = 1.0
    """Share of all labelled rows that the splits hold."""
    statistics: tuple[Mapping[str, Any], ...] = ()
    """Of every numeric feature in the training split: feature, missing, mean, deviation, minimum, maximum."""
    reference: Mapping[str, Any] = field(default_factory=dict)
    """See `fti.model.drift.reference`."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Of the feature service and of its views, by name."""
    created_from: Mapping[str, Any] = field(default_factory=dict)
    """`label_sources`, `until` and `raw`: source -> period -> fingerprint of its rows."""

    @property
    def num_features(self) -> int:
        """Features, numeric and categorical."""
        return len(self.numeric) + len(self.categorical)

    @property
    def raw(self) -> Mapping[str, Mapping[str, str]]:
        """Source -> period -> fingerprint of its rows."""
        raw: Mapping[str, Mapping[str, str]] = self.created_from.get("raw", {})
        return raw


@dataclass(frozen=True, kw_only=True)
class ModelInfo(ModelColumns):
    """Where a model comes from."""

    dataset_version: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    run_id: str = ""
    job_key: str = ""
    """`TrainingJob.key` of the training that made it."""
    threshold: float = 0.5
    """Probability from which a model that no service answers with says label 1."""
    reference_predictions: Mapping[str, Any] = field(default_factory=dict)
    """That of the evaluation, once there is one; the file of the info never holds it."""


@dataclass(frozen=True)
class GateVerdict:
    """One gate's answer, in a sentence that says what was measured and what the limit is."""

    check: str
    passed: bool
    description: str


@dataclass(frozen=True, kw_only=True)
class Evaluation(Record):
    """A model measured on the test split of its dataset."""

    run_id: str
    dataset_version: str
    task: Task
    metrics: Mapping[str, Mapping[str, float | None]]
    """Model (`challenger`, `baseline`, `prior`, `champion`) -> metric -> value, None where the rows define none."""
    feature_service: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    slices: tuple[Mapping[str, Any], ...] = ()
    """Column, value, rows and the metrics of the challenger's slices."""
    champion_version: int | None = None
    champion_note: str = ""
    """Why the champion cannot be compared."""
    reference_predictions: Mapping[str, Any] = field(default_factory=dict)
    """`predictions`, a `fti.model.drift.reference` of those on the training split, and `overall` of the test split:
    `start`, `rows`, the metrics and, of a classifier, `expected_log_loss` (what its own probabilities promise), of a
    regressor, `rmse_error` (a standard error)."""
    gates: tuple[GateVerdict, ...] = ()
    summary: str = ""

    def to_json(self) -> dict[str, Any]:
        """As `Record.to_json`."""
        return {**super().to_json(), "gates": [vars(verdict) for verdict in self.gates]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], place: str | Path) -> Self:
        """As `Record.from_json`."""
        evaluation = super().from_json(content, place)
        return replace(evaluation, gates=tuple(GateVerdict(**verdict) for verdict in content.get("gates", ())))
