"""The model card: what a model is for, what it learned from, how well it does and where not. Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from fti.model.records import Evaluation, Manifest, ModelInfo
from fti.project import Project
from fti.project.gate import METRICS
from fti.stores.datasets.store import SPLITS
from training_pipeline.dataset.manifest import balance
from training_pipeline.judging.tables import markdown

ROWS_OF = {
    "challenger": "this model",
    "baseline": "baseline (gradient boosting)",
    "prior": "prior (no features)",
    "champion": "champion before",
}
WORST = 8
"""Slices that are listed."""
SLICE_ROWS = 30
"""Fewer rows say nothing about a slice."""
FEW_ROWS = 30
"""Training rows of a class below which the card warns."""
OFTEN_MISSING = 0.2
LISTED = 60
RANDOM = "**The split is random: the test score is that of rows like the training rows, not the future's.**"


def model_card(project: Project, manifest: Manifest, report: Evaluation, info: ModelInfo) -> str:
    """The card of the challenger that `report` is about; `info` is its bundle's."""
    sections = {
        "What it does": purpose(project, manifest),
        "Data": data(manifest),
        "Features": features(manifest),
        "Metrics on the test split": metrics(report),
        "Where it does worst": worst_slices(report),
        "Gates": gates(report),
        "Limits": limits(project, manifest, report),
        "How to make it again": origin(manifest, report, info),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items())
    return f"# {project.name}\n\n{summary(project, manifest, report)}\n\n{body}\n"


def summary(project: Project, manifest: Manifest, report: Evaluation) -> str:
    """The card's first lines."""
    first = next(iter(METRICS[report.task]))
    own, others = report.metrics["challenger"][first], []
    for name, who in (("baseline", "gradient boosting"), ("prior", "the prior"), ("champion", "the champion before")):
        if name in report.metrics:
            others.append(f"{who} {_number(report.metrics[name][first])}")
    failed = [gate.check for gate in report.gates if not gate.passed]
    lines = [
        project.description,
        f"{report.task.capitalize()} model of `{manifest.label}`, trained on {manifest.rows['train']:,} rows. "
        f"{first} {_number(own)} on {manifest.rows['test']:,} unseen rows; {', '.join(others)}.",
        f"Gates: {'failed: ' + ', '.join(failed) if failed else 'passed' if report.gates else 'none'}.",
    ]
    return "\n\n".join(lines + ([RANDOM] if manifest.shares else []))


def purpose(project: Project, manifest: Manifest) -> str:
    label, kind = project.label, manifest.task
    what = {
        "binary": f"the probability that `{label.name}` is 1, and label 1 from {project.service.threshold} on",
        "multiclass": f"the most probable of {len(manifest.classes)} values of `{label.name}`, and the "
        "probability of each",
        "regression": f"the number `{label.name}`",
    }[kind]
    ahead = f", {_span(label.horizon)} before `{label.time}`" if label.horizon else f", at `{label.time}`"
    key = ", ".join(f"`{name}`" for name in label.key if name != label.time)
    wait = f"{_span(label.delay)} after" if label.delay else "at"
    return (
        f"It predicts {what}, for one {key}{ahead}. The truth is known {'at most ' if label.delay else ''}{wait} "
        f"`{label.time}`. Owner: {project.owner}."
    )


def data(manifest: Manifest) -> str:
    rows = [
        {
            "split": name,
            "rows": manifest.rows[name],
            "label": balance(manifest, name),
            "from": manifest.ranges[name][0],
            "to": manifest.ranges[name][1],
        }
        for name in SPLITS
    ]
    how = (
        f"{RANDOM} {drawn(manifest)}"
        if manifest.shares
        else "The split is by time: the test rows are the newest, and no label of a split became known after its end."
    )
    if manifest.taken < 1:
        how += f" {_taken(manifest)}"
    return f"{markdown(pl.DataFrame(rows))}\n\n{how}"


def _taken(manifest: Manifest) -> str:
    return (
        f"These are {manifest.taken:.1%} of the labelled rows, drawn by a hash of their key: there are more than "
        "`Dataset.max_rows`."
    )


def drawn(manifest: Manifest) -> str:
    """How the rows of a random split were drawn."""
    shares = ", ".join(map(str, manifest.shares))
    if together := manifest.kept_together:
        names = " and ".join(f"`{name}`" for name in together)
        return f"All rows of one {names} are in one split, in shares of {shares}: no test row is of one in training."
    return f"Rows are drawn by a hash of their key, in shares of {shares}."


def features(manifest: Manifest) -> str:
    views = ", ".join(f"`{view}` ({len(names)})" for view, names in manifest.feature_views.items())
    return (
        f"Feature service `{manifest.feature_service}`, of the views {views}; others are made of the request.\n\n"
        f"- {len(manifest.numeric)} numeric: {_listed(manifest.numeric)}\n"
        f"- {len(manifest.categorical)} categorical: {_listed(manifest.categorical)}"
    )


def metrics(report: Evaluation) -> str:
    rows = [{"model": ROWS_OF[name], **measured} for name, measured in report.metrics.items()]
    note = f"\n\nThe champion before cannot be compared: {report.champion_note}." if report.champion_note else ""
    return markdown(pl.DataFrame(rows, infer_schema_length=None)) + note


def worst_slices(report: Evaluation) -> str:
    rising = {name: better for name, better in METRICS[report.task].items()}
    first = next(iter(rising))
    found = [row for row in report.slices if row[first] is not None and row["rows"] >= SLICE_ROWS]
    if not found:
        return "No slices were measured." if not report.slices else f"No slice has {SLICE_ROWS} test rows."
    found.sort(key=lambda row: row[first] if rising[first] else -row[first])
    columns = ["column", "value", "rows", *rising]
    return markdown(pl.DataFrame(found[:WORST], infer_schema_length=None).select(columns))


def gates(report: Evaluation) -> str:
    lines = [f"- {'passed' if gate.passed else '**failed**'}: {gate.description}" for gate in report.gates]
    return "\n".join(lines) or "This project has none."


def limits(project: Project, manifest: Manifest, report: Evaluation) -> str:
    """What to know before trusting an answer."""
    found = [RANDOM] if manifest.shares else []
    first, last = manifest.ranges["train"]
    if first[:10] != last[:10]:
        found.append(f"It has seen {first[:10]} to {last[:10]}; how it does in other times is not known.")
    often = [row["feature"] for row in manifest.statistics if row["missing"] > OFTEN_MISSING]
    if often:
        found.append(f"Missing in over {OFTEN_MISSING:.0%} of the training rows: {_listed(often)}.")
    rare = _rare_classes(manifest)
    if rare:
        found.append(f"Under {FEW_ROWS} training rows of: {_listed(rare)}. Their probabilities are guesses.")
    undefined = [name for name, value in report.metrics["challenger"].items() if value is None]
    if undefined:
        found.append(f"The test split holds one label only, which leaves undefined: {', '.join(undefined)}.")
    own, baseline = report.metrics["challenger"], report.metrics["baseline"]
    behind = [name for name, better in METRICS[report.task].items() if _worse(own[name], baseline[name], better)]
    if behind:
        found.append(f"Gradient boosting does better in {', '.join(behind)}.")
    found.append("A category that training has not seen counts as missing.")
    return "\n".join(f"- {line}" for line in found)


def origin(manifest: Manifest, report: Evaluation, info: ModelInfo) -> str:
    params = ", ".join(f"{name} {value}" for name, value in info.params.items())
    return (
        f"- dataset `{report.dataset_version}`: `fti dataset show {report.dataset_version[:12]}`\n"
        f"- MLflow run `{report.run_id}`: its `record.json` holds commit, packages, hardware and the command\n"
        f"- seed {info.seed}, parameters: {params or 'none'}\n"
        "- the same dataset, parameters, seed and code train the same model"
    )


def _rare_classes(manifest: Manifest) -> list[str]:
    rows = manifest.rows["train"]
    if manifest.class_shares:
        return [name for name, share in manifest.class_shares["train"].items() if share * rows < FEW_ROWS]
    if manifest.positive_share:
        share = manifest.positive_share["train"]
        return [str(label) for label, part in ((0, 1 - share), (1, share)) if part * rows < FEW_ROWS]
    return []


def _worse(own: float | None, theirs: float | None, more_is_better: bool) -> bool:
    if own is None or theirs is None:
        return False
    return own < theirs if more_is_better else own > theirs


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(f"`{name}`" for name in names[:LISTED]) + more if names else "none"


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def _span(span: timedelta) -> str:
    return str(span).removesuffix(", 0:00:00")
