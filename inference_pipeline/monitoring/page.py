"""The drift report that people read: Evidently's HTML page and a small picture of the window, day by day."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from fti.model import drift
from fti.model.prediction import LABEL, PREDICTION, PROBABILITY
from fti.times import TIME

SAMPLE_ROWS = 2_000
NUM_FEATURES = 30
NUM_CURVES = 4
LARGEST = 1e12
MIN_DAY_ROWS = 50
DAY = "__day"
"""A column that no feature is called like."""
CURVES = {
    "binary": (pl.col(PROBABILITY), pl.col("actual"), "share"),
    "multiclass": (pl.col(PROBABILITY), pl.col(LABEL).cast(pl.String) == pl.col("actual").cast(pl.String), "share"),
    "regression": (pl.col(PREDICTION), pl.col("actual"), "value"),
}
"""Task -> what was said, what came true, and their unit."""


def evidently_html(
    current: pl.DataFrame, reference: pl.DataFrame, *, numeric: Sequence[str], categorical: Sequence[str]
) -> bytes | None:
    """Evidently's drift report about a sample of both frames, as a page; None when no column is left.

    It explains, it does not decide: columns that Evidently cannot take (without a value on one side, or with huge
    numbers) are left out.
    """
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [name for name in [*numeric, *categorical] if name in current.columns and name in reference.columns]
    samples = [_sample(frame, names, categorical) for frame in (current, reference)]
    known = [name for name in names if all(_is_plain(sample[name]) for sample in samples)]
    if not known:
        return None
    kinds = {"numerical_columns": numeric, "categorical_columns": categorical}
    definition = DataDefinition(**{kind: [name for name in own if name in known] for kind, own in kinds.items()})
    sides = [Dataset.from_pandas(sample.select(known).to_pandas(), data_definition=definition) for sample in samples]
    report = Report([DataDriftPreset(num_method="psi", cat_method="psi")]).run(*sides)
    return str(report.get_html_str(as_iframe=False)).encode()


def daily_distances(logged: pl.DataFrame, reference: Mapping[str, Any], features: Sequence[str]) -> pl.DataFrame:
    """Distance of `features` from the training data on every day of `logged`: columns `DAY`, then the features."""
    days = logged.sort(TIME).with_columns(pl.col(TIME).dt.date().alias(DAY)).partition_by(DAY, maintain_order=True)
    rows = [
        {DAY: rows[DAY][0], **{name: drift.distance(rows[name], reference["features"][name]) for name in features}}
        for rows in days
        if rows.height >= MIN_DAY_ROWS
    ]
    return pl.DataFrame(rows, schema={DAY: pl.Date, **dict.fromkeys(features, pl.Float64)})


def drift_plot(distances: pl.DataFrame, logged: pl.DataFrame, labelled: pl.DataFrame, task: str) -> bytes:
    """PNG: the features' distances by day above, the mean prediction and what came true below."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    for name in distances.columns[1:]:
        above.plot(distances[DAY].to_list(), distances[name].to_list(), marker=".", label=name)
    above.set_ylabel("distance from training")
    said, came_true, unit = CURVES[task]
    for frame, value, name in ((logged, said, f"mean {said.meta.output_name()}"), (labelled, came_true, "came true")):
        daily = frame.group_by(pl.col(TIME).dt.date().alias("day")).agg(value.mean().alias("value")).sort("day")
        below.plot(daily["day"].to_list(), daily["value"].to_list(), marker=".", label=name)
    below.set_ylabel(unit)
    for axes in (above, below):
        if axes.lines:
            axes.legend(fontsize=7)
    figure.autofmt_xdate()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def as_markdown(png: bytes) -> str:
    """A PNG inside Markdown, without a file."""
    return f"![drift](data:image/png;base64,{base64.b64encode(png).decode()})"


def _is_plain(values: pl.Series) -> bool:
    """Whether there is a value, and no number that a histogram cannot hold."""
    if values.dtype == pl.String:
        return values.null_count() < len(values)
    largest: Any = values.abs().max()
    return largest is not None and bool(largest < LARGEST)


def _sample(frame: pl.DataFrame, names: Sequence[str], categorical: Sequence[str]) -> pl.DataFrame:
    rows = frame.sample(min(SAMPLE_ROWS, frame.height), seed=7).select(names)
    text = [name for name in names if name in categorical]
    numbers = pl.exclude(text).cast(pl.Float64)
    return rows.with_columns(pl.col(text).cast(pl.String), pl.when(numbers.is_finite()).then(numbers))
