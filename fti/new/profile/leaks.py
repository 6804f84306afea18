"""Columns that should not be features: the label in disguise, what was known only later, copies of another column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from fti.new.profile.profiles import Kind, Target
from fti.tables.findings import Finding, listed, warning

MAX_AUC = 0.985
"""One column alone that ranks (binary) or tells apart every class (multiclass) this well is suspicious."""
MAX_CORRELATION = 0.985
"""The same for regression: |Spearman|, or the correlation ratio eta of a group's mean."""
SAMPLE_ROWS = 40_000
SAMPLE_CELLS = 8_000_000
BINS = 64
MIN_ROWS = 30
MIN_GROUPS = 20
"""With fewer entities, rows are halved instead."""
LATE_SHARE = 0.95


def disguised(
    rows: pl.DataFrame, target: Target, kinds: Mapping[str, Kind], groups: pl.Series
) -> list[tuple[str, Finding]]:
    """Features that give the label away, with a finding each.

    Each column alone predicts the label in two ways, on at most 40,000 rows with a label: by its order (ranks), and
    by the mean label of its values or of 64 quantile bins (null is one of them), learnt on one half of the entities
    (`groups`) and tested on the other, so that a value seen once tells nothing. Measured by ROC AUC, for several
    classes by the worst one-against-the-rest; for regression by |Spearman| and by the correlation of that mean with
    the label.
    """
    names = [name for name, kind in kinds.items() if kind in ("numeric", "boolean", "categorical", "datetime", "text")]
    if groups.n_unique() < MIN_GROUPS:
        groups = pl.int_range(rows.height, eager=True)
    known = rows.select(*names, __label=pl.col(target.name), __group=groups.hash(11) % 2).drop_nulls("__label")
    most = max(2_000, min(SAMPLE_ROWS, SAMPLE_CELLS // max(1, len(names))))
    if known.height > most:
        known = known.sample(most, seed=3)
    if known.height < MIN_ROWS or known["__label"].n_unique() < 2:
        return []
    outcomes = _outcomes(known["__label"], target)
    half = known["__group"].to_numpy() == 0
    found = []
    for name in names:
        strength = _strength(known[name], outcomes, half, target)
        same = kinds[name] in ("categorical", "boolean") and _one_to_one(known[name], known["__label"])
        if same or strength >= (MAX_CORRELATION if target.task == "regression" else MAX_AUC):
            found.append((name, _finding(name, target, strength, same)))
    return found


def _finding(name: str, target: Target, strength: float, same: bool) -> Finding:
    measure = "correlation" if target.task == "regression" else "ROC AUC"
    how = "each of its values goes with one label" if same else f"{measure} {strength:.3f}"
    message = f"`{name}` alone predicts `{target.name}` ({how}): it may be the label in disguise."
    remedy = "It is left out; use it only if it is known at the moment of prediction."
    return warning("label_in_disguise", message, remedy, name)


def _outcomes(label: pl.Series, target: Target) -> list[np.ndarray]:
    """What is predicted: the numbers of a regression, else one 0/1 vector per class (of two classes, one)."""
    if target.task == "regression":
        return [label.cast(pl.Float64).to_numpy()]
    classes = target.classes[-1:] if len(target.classes) == 2 else target.classes
    vectors = [(label == value).to_numpy().astype(np.float64) for value in classes]
    return [vector for vector in vectors if 5 <= vector.sum() <= len(vector) - 5]


def _strength(values: pl.Series, outcomes: Sequence[np.ndarray], half: np.ndarray, target: Target) -> float:
    """How well the column alone predicts, 0 .. 1; of several classes, the worst."""
    if not outcomes or values.null_count() == len(values):
        return 0.0
    ranks = None if values.dtype == pl.String else values.to_physical().rank().fill_null(0).to_numpy()
    codes = _codes(values)
    regression = target.task == "regression"
    strengths = []
    for outcome in outcomes:
        mean = _group_means(codes, outcome, half)
        score = _correlation if regression else _auc
        strength = score(mean[~half], outcome[~half])
        if ranks is not None:
            order = score(ranks, outcome)
            strength = max(strength, abs(order) if regression else max(order, 1 - order))
        strengths.append(strength)
    return float(min(strengths))


def _codes(values: pl.Series) -> np.ndarray:
    """Numbers of the values, or of their quantile bins; null is a value."""
    if values.dtype != pl.String and values.n_unique() > 2 * BINS:
        physical = values.to_physical().cast(pl.Float64)
        share = (physical.rank("max") * BINS / max(1, values.len() - values.null_count())).ceil()
        return share.fill_null(-1).cast(pl.Int64).to_numpy()
    return values.rank("dense").cast(pl.Int64).fill_null(-1).to_numpy()


def _group_means(codes: np.ndarray, outcome: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Mean outcome of each row's group in the first half; the overall mean where the group is not in it."""
    shifted = codes - codes.min()
    size = int(shifted.max()) + 1
    total = np.bincount(shifted[half], outcome[half], size)
    count = np.bincount(shifted[half], minlength=size)
    overall = outcome[half].mean() if half.any() else 0.0
    means = np.where(count > 0, total / np.maximum(count, 1), overall)
    result: np.ndarray = means[shifted]
    return result


def _auc(score: np.ndarray, outcome: np.ndarray) -> float:
    """ROC AUC by ranks (Mann-Whitney); 0.5 where one class is absent."""
    positive = int(outcome.sum())
    negative = len(outcome) - positive
    if not positive or not negative:
        return 0.5
    ranks = pl.Series(score).rank().to_numpy()
    return float((ranks[outcome > 0].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _correlation(score: np.ndarray, outcome: np.ndarray) -> float:
    """Spearman's for ranks, and eta for group means: Pearson's on the ranks of both; 0 where one is constant."""
    if len(outcome) < 3:
        return 0.0
    first, second = pl.Series(score).rank().to_numpy(), pl.Series(outcome).rank().to_numpy()
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _one_to_one(values: pl.Series, label: pl.Series) -> bool:
    """Whether each value goes with one label and each label with one value."""
    pairs = pl.DataFrame({"value": values, "label": label}).drop_nulls().unique()
    if pairs.height < 2 or values.null_count() > 0.5 * len(values):
        return False
    return pairs.height == pairs["value"].n_unique() == pairs["label"].n_unique()


def known_later(rows: pl.DataFrame, moments: pl.Series, names: Sequence[str]) -> list[tuple[str, Finding]]:
    """Datetime columns that are later than the row's own time in 95 % of the rows or more."""
    found = []
    for name in names:
        values = rows[name].cast(pl.Datetime("us"))
        own = moments.dt.replace_time_zone(None)
        if rows[name].dtype == pl.Date:
            own = own.dt.truncate("1d")
        known = (values > own).drop_nulls()
        if known.len() >= MIN_ROWS and float(known.mean() or 0) >= LATE_SHARE:  # type: ignore[arg-type]
            message = f"`{name}` is later than `{moments.name}` in the row: it was not known at that moment."
            found.append((name, warning("known_later", message, "It is left out.", name)))
    return found


def copies(rows: pl.DataFrame, kinds: Mapping[str, Kind]) -> list[tuple[str, Finding]]:
    """Columns with the content of an earlier one, as numbers (1 equals 1.0) or as texts."""
    by_mark: dict[tuple[object, ...], list[str]] = {}
    for name, kind in kinds.items():
        if kind not in ("constant", "empty", "other"):
            by_mark.setdefault(_mark(rows[name]), []).append(name)
    found = []
    for names in by_mark.values():
        firsts: list[str] = []
        for name in names:
            twin = next((first for first in firsts if _comparable(rows[first]).equals(_comparable(rows[name]))), None)
            if twin is None:
                firsts.append(name)
                continue
            message = f"{listed([name])} has the same content as {listed([twin])}."
            found.append((name, warning("duplicated_column", message, "The copy is left out.", name, twin)))
    return found


def _mark(values: pl.Series) -> tuple[object, ...]:
    """Equal for columns of equal content; cheap."""
    same = _comparable(values)
    return (str(same.dtype), same.null_count(), same.head(1_000).hash(1).sum(), same.tail(1_000).hash(1).sum())


def _comparable(values: pl.Series) -> pl.Series:
    return (values.cast(pl.Float64) if values.dtype.is_numeric() or values.dtype == pl.Boolean else values).alias("")
