"""Checks of label rows and of the split."""

from __future__ import annotations

import polars as pl

from fti.errors import DataError
from fti.project import Project
from fti.testing.rehearsal import Rehearsal
from fti.testing.result import Broken
from fti.times import TIME, UTC_TIME

KNOWN_AT = "known_at"


def label_rows_are_requests(rehearsal: Rehearsal) -> None:
    """Columns and types of label rows, unique keys, no null in what every request must have."""
    project, rows = rehearsal.project, rehearsal.all_label_rows
    for name, field in project.service.request.items():
        if name not in rows.columns and (not field.optional or name in project.label.key):
            raise Broken(
                f"label rows lack the request field {name!r}: add it to Label.rows, or make the field optional."
            )
        if name in rows.columns and rows.schema[name] != field.dtype:
            raise Broken(
                f"the request field {name!r} is {field.dtype} in Service.request and {rows.schema[name]} in the label "
                "rows: make them the same."
            )
    if project.label.name not in rows.columns:
        raise Broken(f"label rows lack the label {project.label.name!r}: return it, null where it never becomes known.")
    asked = rehearsal.labelled
    if asked.is_empty():
        raise Broken(f"no label row has a {project.label.name!r}: look at Label.rows and at the dataset's time.")
    required = [name for name, field in project.service.request.items() if not field.optional]
    for name in dict.fromkeys([*required, *project.label.key, project.label.time]):
        if asked[name].null_count():
            raise Broken(
                f"{name!r} is null in {asked[name].null_count()} of {asked.height} labelled rows, and every request "
                "must have it: leave these rows out of Label.rows, or make the field optional."
            )
    repeated = asked.filter(pl.struct(project.label.key).is_duplicated())
    if repeated.height:
        example = repeated.select(project.label.key).row(0, named=True)
        raise Broken(
            f"{repeated.height} labelled rows share their key, for example {example}: add what tells them "
            "apart to Label.key."
        )


def labels_become_known_in_time(rehearsal: Rehearsal) -> None:
    """`known_at` is no earlier than the moment of prediction and no later than `delay` after the label's time."""
    label, rows = rehearsal.project.label, rehearsal.labelled
    if rows.schema.get(KNOWN_AT) != UTC_TIME:
        raise Broken(f"label rows need {KNOWN_AT!r} as Datetime('us', 'UTC'), it is {rows.schema.get(KNOWN_AT)}.")
    if rows[KNOWN_AT].null_count():
        raise Broken(f"{rows[KNOWN_AT].null_count()} rows have a label and no {KNOWN_AT!r}: say when it became known.")
    early, late = (
        rows.filter(pl.col(KNOWN_AT) < pl.col(TIME)),
        rows.filter(pl.col(KNOWN_AT) > pl.col(label.time) + label.delay),
    )
    if early.height:
        raise Broken(
            f"{early.height} of {rows.height} labels are known before they are asked for, for example "
            f"{_times(early, label.time)}: nothing is left to predict. Ask earlier (a longer "
            "Label.horizon), or mend known_at."
        )
    if late.height:
        raise Broken(
            f"{late.height} of {rows.height} labels become known more than {label.delay} (Label.delay) after "
            f"{label.time!r}, for example {_times(late, label.time)}: monitoring would miss them. Raise Label.delay."
        )


def splits_have_rows_and_classes(rehearsal: Rehearsal) -> None:
    """The project's own cut of all its label rows: rows in every part, and the classes to learn and to measure."""
    from training_pipeline.dataset.labelled import entity_rows
    from training_pipeline.dataset.split import drawn_by, split

    project = rehearsal.project
    cut, label = project.dataset, project.label
    tables = {
        name: project.source(name).read(project.partitions_start, cut.until + label.horizon) for name in label.sources
    }
    try:
        rows = entity_rows(project, tables, cut.start, cut.until)
        splits = split(rows, cut, key=drawn_by(project, rows))
    except DataError as error:
        raise Broken(f"{error} Dataset says how the rows are cut.") from error
    for name, part in splits.items():
        problem = _poor(project, part[label.name], splits["train"][label.name])
        if problem:
            raise Broken(
                f"the {name} split ({part.height} rows) has {problem}: make it longer, or cut at another time."
            )


def _poor(project: Project, values: pl.Series, train: pl.Series) -> str:
    """What the labels of a split lack."""
    if project.model.task == "regression":
        return "only one value of the label" if values.n_unique() < 2 else ""
    if values.n_unique() < 2:
        return f"only the class {values[0]!r}"
    unseen = sorted(str(value) for value in set(values.unique()) - set(train.unique()))
    return f"classes that the train split lacks ({', '.join(unseen[:5])})" if unseen else ""


def _times(rows: pl.DataFrame, time: str) -> str:
    row = rows.row(0, named=True)
    return f"{time} {row[time]}, asked {row[TIME]}, known {row[KNOWN_AT]}"
