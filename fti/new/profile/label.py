"""The label: which task it asks for, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import polars as pl

from fti.errors import DataError
from fti.new.profile.profiles import Target, Task
from fti.tables.findings import Finding, error, hint, listed, percent, warning
from fti.times import UTC_TIME

TASKS: tuple[Task, ...] = ("binary", "multiclass", "regression")
MAX_CLASSES = 100
MAX_WHOLE_CLASSES = 20
"""Whole numbers with more values than this are amounts, not classes."""
MIN_ROWS = 50
MIN_CLASS_ROWS = 10
RARE = 0.01
POSITIVE = ("1", "true", "yes", "y", "t", "positive", "pos", "bad", "churned", "fraud", "default", "malignant")


def target_of(label: pl.Series, task: str | None, moments: pl.Series | None) -> tuple[Target, list[Finding]]:
    """The label's task, classes and findings. `moments` are the rows' times, of the same length, or None.

    Without an override: boolean or two values -> binary; text -> multiclass; whole numbers of up to 20 values that
    lie close together (range under 50) and repeat 5 times on average -> multiclass; all other numbers -> regression.
    An override that the values cannot satisfy is a `DataError`.
    """
    values = label.drop_nulls()
    distinct = values.n_unique()
    chosen, why, findings = _task(values, distinct, task)
    classes, shares = ((), ()) if chosen == "regression" else _classes(values, chosen)
    nulls = label.null_count() / max(1, label.len())
    unknown = _unknown_from(label, moments) if moments is not None and label.null_count() else None
    findings += _null_findings(label, nulls, unknown)
    findings += _class_findings(label.name, chosen, classes, shares, values.len(), nulls)
    if values.len() and values.len() < MIN_ROWS <= label.len():
        message = f"Only {values.len()} rows have a label; a model needs at least {MIN_ROWS}."
        findings.append(error("too_few_rows", message, "Give more rows.", label.name))
    target = Target(
        name=label.name, task=chosen, why=why, classes=classes, shares=shares, nulls=nulls, unknown_from=unknown
    )
    return target, findings


def _task(values: pl.Series, distinct: int, asked: str | None) -> tuple[Task, str, list[Finding]]:
    inferred, why, findings = _inferred(values, distinct)
    if asked is None or asked == inferred:
        return inferred, why if asked is None else "as asked", findings
    if asked not in TASKS:
        raise DataError(f"--task {asked!r} is none of {', '.join(TASKS)}.")
    name = values.name
    if asked == "binary" and distinct > 2:
        raise DataError(
            f"--task binary: `{name}` has {distinct:,} values, not two. Leave --task out, or use {inferred}."
        )
    if asked == "regression" and not values.dtype.is_numeric():
        raise DataError(f"--task regression: `{name}` holds {values.dtype}, not numbers. Leave --task out.")
    if asked == "multiclass" and distinct > MAX_CLASSES:
        raise DataError(f"--task multiclass: `{name}` has {distinct:,} values, over {MAX_CLASSES}. Use regression.")
    task: Task = next(task for task in TASKS if task == asked)
    return task, "as asked", [found for found in findings if found.code != "task_unsure"]


def _inferred(values: pl.Series, distinct: int) -> tuple[Task, str, list[Finding]]:
    """The task that the values suggest, and why."""
    name = values.name
    if distinct <= 2:
        return "binary", f"it has {distinct} value{'s' if distinct != 1 else ''}", []
    if values.dtype == pl.String:
        if distinct > MAX_CLASSES:
            message = f"`{name}` is text with {distinct:,} different values, too many for classes."
            return "multiclass", "it is text", [error("too_many_classes", message, "Choose another label.", name)]
        return "multiclass", f"it has {distinct} text values", []
    if not values.dtype.is_numeric():
        message = f"`{name}` holds {values.dtype}, which a model cannot predict."
        return "regression", "", [error("label_type", message, "Choose numbers, texts or truth values.", name)]
    whole = values.dtype.is_integer() or bool((values % 1 == 0).all())
    if not whole:
        return "regression", "it holds fractions", []
    spread = int(values.max()) - int(values.min())  # type: ignore[arg-type]
    if distinct <= MAX_WHOLE_CLASSES and spread < 50 and values.len() >= 5 * distinct:
        message = f"`{name}` holds {distinct} whole numbers, taken as classes."
        note = hint("task_unsure", message, "Use --task regression if they are amounts or grades.", name)
        return "multiclass", f"it has {distinct} whole numbers", [note]
    return "regression", f"it holds {distinct:,} different numbers", []


def _classes(values: pl.Series, task: Task) -> tuple[tuple[Any, ...], tuple[float, ...]]:
    """Classes in order with their shares; of two, the positive one is last: a word of `POSITIVE`, or the greater."""
    counts = dict(values.value_counts(name="__count").iter_rows())
    classes = sorted(counts)
    if task == "binary" and len(classes) == 2 and str(classes[0]).lower() in POSITIVE:
        positive = str(classes[1]).lower() in POSITIVE
        classes = classes if positive else classes[::-1]
    return tuple(classes), tuple(counts[value] / values.len() for value in classes)


def _unknown_from(label: pl.Series, moments: pl.Series) -> datetime | None:
    """The moment after the last labelled row, when at least half of the nulls and 90 % of the rows after it are
    null: the label of the newest rows is not yet known."""
    rows = pl.DataFrame({"known": label.is_not_null(), "at": moments.cast(UTC_TIME)}).drop_nulls("at").sort("at")
    if not rows["known"].any():
        return None
    # the cut that separates best: known rows before and null rows after count for it, the others against it
    gain = rows.select("at", score=pl.when("known").then(1).otherwise(-1)).group_by("at", maintain_order=True).sum()
    total = gain["score"].cum_sum()
    best = int(total.arg_max() or 0)
    cut: datetime = gain["at"][best]
    after, before = rows.filter(pl.col("at") > cut), rows.filter(pl.col("at") <= cut)
    late = after.filter(~pl.col("known")).height
    enough = after.height and late >= 0.9 * after.height and late >= 0.5 * (rows.height - int(rows["known"].sum()))
    clear = float(before["known"].mean() or 0) > 0.5  # type: ignore[arg-type]
    few = after.height - late <= 0.1 * int(rows["known"].sum())  # not a label that is rare at all times
    return next(iter(after["at"])) if enough and clear and few and late >= 5 else None


def _null_findings(label: pl.Series, nulls: float, unknown: datetime | None) -> list[Finding]:
    name = label.name
    if nulls == 1.0:
        return [error("label_missing", f"`{name}` is null in every row.", "Choose a label that is filled in.", name)]
    if unknown:
        message = f"`{name}` is null from {unknown:%Y-%m-%d %H:%M} on: the newest rows' label is not yet known."
        return [warning("label_not_yet_known", message, "Training stops before; these rows can be predicted.", name)]
    if nulls:
        message = f"`{name}` is null in {percent(nulls)} of the rows."
        return [
            warning("label_nulls", message, "These rows are left out; fill it in where null means something.", name)
        ]
    return []


def _class_findings(
    name: str, task: Task, classes: Sequence[Any], shares: Sequence[float], known: int, nulls: float
) -> list[Finding]:
    if task == "regression" or not known or len(classes) > MAX_CLASSES:
        return []
    if len(classes) == 1:
        rest = f" and is null in {percent(nulls)} of the rows" if nulls else ""
        message = f"`{name}` has one value only, {str(classes[0])[:40]!r},{rest}: there is nothing to tell apart."
        remedy = f"Give rows of at least two classes; `--as {name}=text` takes words of a CSV as classes."
        return [error("one_class", message, remedy, name)]
    few = [str(value) for value, share in zip(classes, shares, strict=True) if share * known < MIN_CLASS_ROWS]
    if few and (task == "binary" or len(classes) - len(few) < 2):
        these = f"Class {listed(few)} of `{name}` has" if len(few) == 1 else f"Classes {listed(few)} of `{name}` have"
        message = f"{these} under {MIN_CLASS_ROWS} rows, too few to learn or to test."
        return [error("class_too_rare", message, "Give more rows.", name)]
    if few:
        these = f"1 class of `{name}` has" if len(few) == 1 else f"{len(few)} classes of `{name}` have"
        message = f"{these} under {MIN_CLASS_ROWS} rows: {listed(few)}."
        return [warning("class_too_rare", message, "Merge rare classes with others, or give more rows.", name)]
    rare = min(shares)
    if rare < RARE:
        value = str(classes[list(shares).index(rare)])
        message = f"Class {value!r} of `{name}` is rare: {percent(rare)} of the rows."
        return [hint("imbalance", message, "Read PR AUC and log loss, not accuracy.", name)]
    return []
