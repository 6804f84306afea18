"""`project.py` of a generated project: its table, views and label, each choice with its reason."""

from __future__ import annotations

from fti.new.write.declaration import declaration
from fti.new.write.draft import Draft
from fti.new.write.table_code import table_code
from fti.tables.findings import percent
from fti.tables.render import block, dictionary, line, plain, text, tupled
from fti.views.windows import COUNT

SPACED_BY_MILLISECOND = 900
"""Rows of one entity at one time that fit, a microsecond apart, before the row's history is known."""


def project_file(draft: Draft) -> str:
    """The module's source."""
    parts = [
        f"{_head(draft)}\n\n{table_code(draft)}",
        *([_latest(draft)] if draft.features else []),
        *([_history(draft)] if draft.windows else []),
        *([_on_demand(draft)] if draft.parts else []),
        _label(draft),
        declaration(draft),
    ]
    return "\n\n\n".join(parts)


def _head(draft: Draft) -> str:
    times, spec = draft.profile.times, draft.profile.spec
    place = plain(spec.path.rsplit("/", 1)[-1] or spec.url.rsplit("@", 1)[-1])
    span = f" of {times.start:%Y-%m-%d} .. {times.end:%Y-%m-%d}" if times else ""
    made = ["NO_TIME"] * (not draft.timed) + ["ONE_SERIES"] * draft.series + ["ROW_NUMBER"] * draft.numbered
    return "\n".join(
        [
            f'"""What is `{draft.label}` of a row of {line(place)}?',
            "",
            f"Written by `fti new` from {draft.profile.rows:,} rows{span}; yours to edit.",
            '"""',
            "",
            "from datetime import UTC, datetime, timedelta",
            "",
            "import polars as pl",
            "",
            "from fti.project import Dataset, Features, Label, Model, Monitor, Project, Service, Tables, View",
            "from fti.project.gate import Floor, NoWorseThanBaseline, NoWorseThanChampion",
            f"from fti.tables.table import {', '.join([*made, 'UTC_TIME', 'Column', 'Table', 'TableSpec'])}",
            "from fti.tables.tabular import DEFAULTS, MAX_EPOCHS, search_space",
            *(["from fti.views.calendar import calendar"] if draft.parts else []),
            *(["from fti.views.windows import Rolling"] if draft.windows else []),
        ]
    )


def _latest(draft: Draft) -> str:
    """The function of the view of a row's own columns."""
    own = f"pl.exclude({text(draft.time)}, {text(draft.label)})"
    return (
        "def latest(rows: pl.DataFrame) -> pl.DataFrame:\n"
        '    """The columns of a row, known at its time."""\n'
        f"    return rows.select({own}, event_timestamp={text(draft.time)})"
    )


def _history(draft: Draft) -> str:
    """Statistics over an entity's earlier rows, and the function of their view."""
    statistics = {
        f"{name}_{kind}" if name == COUNT else name: block("(", [text(name), text(kind)], ")")
        for name, kind in draft.statistics.items()
    }
    times, crowd = draft.profile.times, draft.profile.entities.at_once
    if draft.series and times:
        crowd = 10 * draft.profile.rows // times.num_times
    delay = "milliseconds=1" if crowd <= SPACED_BY_MILLISECOND else "seconds=1"
    kind = "mean" if draft.label_type in ("Int64", "Float64") else "share"
    label = text(draft.label)
    about = (
        "# Of an entity's earlier rows: their number, and these. The label may be one of them only if it is known\n"
        f'# before the next row comes: then add {label}: ({label}, "{kind}").\n'
    )
    if draft.label_is_history:
        about = (
            "# A row is a value in time: known when the next one comes: earlier values may tell the next.\n"
            "# If the label becomes known later than its row, take it out: the model would see the future.\n"
        )
    return (
        f"{about}"
        "PAST = Rolling(\n"
        '    prefix="past",\n'
        f"    statistics={dictionary(statistics, indent=4, lead=len('statistics='))},\n"
        f"    windows={tupled(draft.windows)},  # by the usual time between two rows of an entity\n"
        f"    time={text(draft.time)},\n"
        ")\n\n\n"
        "def history(past: pl.DataFrame) -> pl.DataFrame:\n"
        '    """Known a moment after its row, so that no row sees itself or others of its own time."""\n'
        f"    known_at = pl.col({text(draft.time)}) + timedelta({delay})\n"
        f"    return past.select(pl.exclude({text(draft.time)}), event_timestamp=known_at)"
    )


def _on_demand(draft: Draft) -> str:
    return (
        "def on_demand(requests: pl.DataFrame) -> pl.DataFrame:\n"
        '    """What the moment itself tells, UTC; made of the request, offline and in the service alike."""\n'
        f"    return calendar(requests, {text(draft.time)}, {tupled(draft.parts)})"
    )


def _label(draft: Draft) -> str:
    """The label of every row."""
    target, column = draft.profile.target, f"pl.col({text(draft.label)})"
    if target.task == "binary":
        positive = target.classes[-1]
        about = f"1 for {text(line(str(positive)))}, {percent(target.shares[-1])} of the rows"
        made = f"{column}.cast(pl.Int8)"
        if draft.label_type != "Bool":
            made = f"({column} == {_constant(draft, positive)}).cast(pl.Int8).alias({text(draft.label)})"
    elif target.task == "multiclass":
        about, made = f"one of {len(target.classes)} classes, as text", f"{column}.cast(pl.String)"
    else:
        about, made = "a number", f"{column}.cast(pl.Float64)"
    return (
        "def labels(tables: Tables) -> pl.DataFrame:\n"
        f'    """One row per row of the table. `{draft.label}` is {about}; null where not known yet."""\n'
        f"    label = {made}\n"
        f"    return tables[{text(draft.name)}].with_columns(label, known_at={text(draft.time)})"
    )


def _constant(draft: Draft, found: object) -> str:
    """A class as the project's rows hold it."""
    if draft.label_type == "String":
        return text(str(found).lower() if isinstance(found, bool) else str(found))
    return repr(int(float(str(found)))) if draft.label_type == "Int64" else repr(found)
