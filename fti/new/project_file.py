"""`project.py` of a generated project: its table, features and label, each choice with its reason."""

from __future__ import annotations

from fti.new.declaration import complete, declaration, expectations
from fti.new.draft import Draft
from fti.new.findings import percent
from fti.new.render import block, dictionary, line, plain, text, tupled, value

POLARS = {"Bool": "pl.Boolean", "Float64": "pl.Float64", "Int64": "pl.Int64", "String": "pl.String"}
MOST_LEFT_OUT = 40
SPACED_BY_MILLISECOND = 900
"""Rows of one entity at one time that fit, a microsecond apart, before the row's history is known."""


def project_file(draft: Draft) -> str:
    """The module's source."""
    parts = [
        f"{_head(draft)}\n\n{_table(draft)}\n{_columns(draft)}",
        _read(draft),
        *([_history(draft)] if draft.windows else []),
        _transform(draft),
        *([_on_demand(draft)] if draft.parts else []),
        f"{_request(draft)}",
        _label(draft),
        declaration(draft),
    ]
    return "\n\n\n".join(parts)


def _head(draft: Draft) -> str:
    times, spec = draft.profile.times, draft.profile.spec
    place = plain(spec.path.rsplit("/", 1)[-1] or spec.url.rsplit("@", 1)[-1])
    span = f" of {times.start:%Y-%m-%d} .. {times.end:%Y-%m-%d}" if times else ""
    calendar = [name for name, used in (("calendar", draft.parts), ("days_before", draft.moments)) if used]
    declared = ["Dataset", "Features", "Label", "Model", "Monitor", "Project", "RequestField", "Service", "Source"]
    declared += ["Tables", *(["expect"] if expectations(draft) else [])]
    return "\n".join(
        [
            f'"""What is `{draft.label}` of a row of {line(place)}?',
            "",
            f"Written by `fti new` from {draft.profile.rows:,} rows{span}; yours to edit.",
            '"""',
            "",
            "from __future__ import annotations",
            "",
            "from datetime import UTC, datetime, timedelta",
            *(["from typing import Any"] if draft.own else []),
            "",
            "import polars as pl",
            "",
            *([f"from fti.calendar import {', '.join(calendar)}"] if calendar else []),
            "from fti.gate import Floor, NoWorseThanBaseline, NoWorseThanChampion",
            "from fti.new.source import read_rows",
            "from fti.new.spec import UTC_TIME, TableSpec",
            "from fti.project import (\n" + "".join(f"    {name},\n" for name in declared) + ")",
            "from fti.tabular import DEFAULTS, MAX_EPOCHS, search_space",
            *(["from fti.windows import Statistic, rolling_statistics, window_names"] if draft.windows else []),
        ]
    )


def _table(draft: Draft) -> str:
    """How the table is read, and its columns by plain names."""
    spec, short = draft.profile.spec, draft.profile.identifiers
    used = {*draft.entity, draft.time, draft.label, *(column.name for column in draft.own), *draft.moments}
    table = spec.only(name for name in spec.columns if short[name] in used)
    lines = [
        f"TABLE = {table.code(lead=len('TABLE = '))}",
        f"# {_about_entity(draft)}",
        f"ENTITY = {tupled(draft.entity)}",
        f"# {_about_time(draft)}",
        f"TIME = {text(draft.time)}",
    ]
    if draft.names:
        pairs = dictionary({name: value(fresh) for name, fresh in draft.names.items()}, lead=len("NAMES = "))
        lines += ["# The table's own names, where they are none that Python and Feast take.", f"NAMES = {pairs}"]
    if draft.left_out:
        lines.append("# Left out, with the reason. To put one back, add it to TABLE, COLUMNS and features.py:")
        for name, reason in list(draft.left_out.items())[:MOST_LEFT_OUT]:
            lines.append(f"#   {text(line(name)[:40])} ({text(line(spec.columns[name])[:30])}): {line(reason)}")
        more = len(draft.left_out) - MOST_LEFT_OUT
        lines += [f"#   and {more} more, which `fti new` shows"] if more > 0 else []
    return "\n".join(lines)


def _about_entity(draft: Draft) -> str:
    if draft.numbered:
        return "Every row is an entity of its own: its number in the file."
    if draft.series:
        return "The rows are one series of values in time: one entity, with one name."
    found = draft.profile.entities
    return f"Whom a row is about: {found.num_entities:,} of them, with {found.median_rows:g} rows each (median)."


def _about_time(draft: Draft) -> str:
    if not draft.timed:
        return "The table has no times: every row gets the same moment, and the test score is not the future's."
    return "When a row became known, UTC. Rows of one entity and time are put a microsecond apart."


def _columns(draft: Draft) -> str:
    """The row's own features, and the schema of the source."""
    lines = []
    if draft.own:
        own = {column.name: f"({POLARS[column.dtype]}, {value(column.example)})" for column in draft.own}
        lead = "COLUMNS: dict[str, tuple[Any, Any]] = "
        lines += [
            "# The row's own features: type, and an example. Numbers are 64 bits wide: large counts and money survive.",
            f"{lead}{dictionary(own, lead=len(lead))}",
        ]
    if draft.moments:
        lines += [
            "# Times, as days before the row: a date of training never comes again.",
            f"MOMENTS = {tupled(draft.moments)}",
            'AGES: dict[str, tuple[Any, Any]] = {f"{name}_days_before": (pl.Float64, 30.0) for name in MOMENTS}',
        ]
    if names := complete(draft):
        lines += ["# Never null in the table.", f"COMPLETE = {tupled(names, lead=len('COMPLETE = '))}"]
    schema = [f"{text(key)}: {POLARS[kind]}" for key, kind in draft.entity.items()]
    schema += ["TIME: UTC_TIME", f"{text(draft.label)}: {POLARS[draft.label_type]}"]
    schema += ["**{name: dtype for name, (dtype, _) in COLUMNS.items()}"] if draft.own else []
    schema += ["**dict.fromkeys(MOMENTS, UTC_TIME)"] if draft.moments else []
    return "\n".join([*lines, f"SCHEMA = {block('{', schema, '}', lead=len('SCHEMA = '))}"])


def _read(draft: Draft) -> str:
    names = (", names=NAMES" if draft.names else "") + (", series=True" if draft.series else "")
    return (
        f"def read_{draft.name}(start: datetime, end: datetime) -> pl.DataFrame:\n"
        '    """The rows of `[start, end)`, without copies, infinite numbers, and rows that lack entity or time."""\n'
        f"    return read_rows(TABLE, schema=SCHEMA, entity=ENTITY, time=TIME, start=start, end=end{names})"
    )


def _history(draft: Draft) -> str:
    """Statistics over an entity's earlier rows."""
    statistics = {name: block("(", [text(name), text(kind)], ")") for name, kind in draft.statistics.items()}
    times, crowd = draft.profile.times, draft.profile.entities.at_once
    if draft.series and times:
        crowd = 10 * draft.profile.rows // times.num_times
    delay = "milliseconds=1" if crowd <= SPACED_BY_MILLISECOND else "seconds=1"
    lead = "STATISTICS: dict[str, Statistic] = "
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
        f"{lead}{dictionary(statistics, lead=len(lead))}\n"
        f"WINDOWS = {tupled(draft.windows)}  # by the usual time between two rows of an entity\n\n\n"
        "def history(rows: pl.DataFrame) -> pl.DataFrame:\n"
        '    """Known a moment after its row, so that no row sees itself or others of its own time."""\n'
        "    past = rolling_statistics("
        'rows, entity=ENTITY, statistics=STATISTICS, windows=WINDOWS, prefix="past", time=TIME)\n'
        '    numbers = pl.col(window_names("past", STATISTICS, WINDOWS)).cast(pl.Float64)\n'
        f"    return past.select(*ENTITY, numbers, event_timestamp=pl.col(TIME) + timedelta({delay}))"
    )


def _transform(draft: Draft) -> str:
    name = draft.name
    lines = [
        "def transform(tables: Tables, start: datetime, end: datetime) -> dict[str, pl.DataFrame]:",
        '    """Rows to the rows of the feature views that became known in `[start, end)`."""',
        f"    rows = {_rows(draft)}",
        "    views: dict[str, pl.DataFrame] = {}",
    ]
    if draft.features:
        chosen = [*(["*COLUMNS"] if draft.own else []), *(["*AGES"] if draft.moments else [])]
        lines.append(f'    views["{name}_latest"] = rows.select(*ENTITY, {", ".join(chosen)}, event_timestamp=TIME)')
    if draft.windows:
        lines.append(f'    views["{name}_history"] = history(rows)')
    lines += [
        '    known = pl.col("event_timestamp").is_between(start, end, closed="left")',
        "    return {view: made.filter(known) for view, made in views.items()}",
    ]
    return "\n".join(lines)


def _rows(draft: Draft) -> str:
    """The expression of the table's rows, with the ages of its times."""
    table = f"tables[{text(draft.name)}]"
    return f"days_before({table}, TIME, MOMENTS)" if draft.moments else table


def _on_demand(draft: Draft) -> str:
    return (
        "def on_demand(requests: pl.DataFrame) -> pl.DataFrame:\n"
        '    """What the moment itself tells, UTC; made of the request, offline and in the service alike."""\n'
        f"    return calendar(requests, TIME, {tupled(draft.parts)})"
    )


def _request(draft: Draft) -> str:
    """The fields of a prediction request."""
    lines = []
    for key, kind in draft.entity.items():
        about = "Row number, none for a new row" if draft.numbered else "Whom the prediction is about"
        field = {"dtype": POLARS[kind], "description": text(about), "example": value(draft.key_examples[key])}
        field |= {"optional": "True"} if draft.numbered else {}
        lines.append(f"    {text(key)}: {_field(field, lead=len(key) + 4)},")
    moment = {"dtype": "UTC_TIME", "description": text("Moment of prediction, else now")}
    lines.append(f"    TIME: {_field({**moment, 'example': text(draft.moment), 'optional': 'True'}, lead=6)},")
    own = ["**COLUMNS"] * bool(draft.own) + ["**AGES"] * bool(draft.moments)
    if own:
        lines += [
            "    # a feature's value in the request counts; without it the entity's newest known one",
            "    **{",
            '        name: RequestField(dtype=dtype, description=f"{name}, if known", example=example, optional=True)',
            f"        for name, (dtype, example) in {_merged(own)}.items()",
            "    },",
        ]
    return "\n".join(["REQUEST = {", *lines, "}"])


def _merged(own: list[str]) -> str:
    return own[0].removeprefix("**") if len(own) == 1 else f"{{{', '.join(own)}}}"


def _field(arguments: dict[str, str], *, lead: int) -> str:
    parts = [f"{name}={source}" for name, source in arguments.items()]
    return block("RequestField(", parts, ")", indent=4, lead=lead)


def _label(draft: Draft) -> str:
    """The label of every row."""
    target, column = draft.profile.target, f"pl.col({text(draft.label)})"
    if target.task == "binary":
        positive = target.classes[-1]
        about = f"1 is {text(line(str(positive)))}, {percent(target.shares[-1])} of the rows"
        same = column if draft.label_type == "Bool" else f"({column} == {_constant(draft, positive)})"
        made = f"{same}.cast(pl.Int8)"
    elif target.task == "multiclass":
        about, made = f"one of {len(target.classes)} classes, as text", f"{column}.cast(pl.String)"
    else:
        about, made = "a number", f"{column}.cast(pl.Float64)"
    return (
        "def labels(tables: Tables) -> pl.DataFrame:\n"
        f'    """One row per row of the table. `{draft.label}` is {about}; null where it is not known yet."""\n'
        f"    label = {made}.alias({text(draft.label)})\n"
        f"    return {_rows(draft)}.select(*REQUEST, label, known_at=TIME)"
    )


def _constant(draft: Draft, found: object) -> str:
    """A class as the project's rows hold it."""
    if draft.label_type == "String":
        return text(str(found).lower() if isinstance(found, bool) else str(found))
    return repr(int(float(str(found)))) if draft.label_type == "Int64" else repr(found)
