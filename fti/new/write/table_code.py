"""The `Table` of a generated project: how the table is read, and a line for each of its columns."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from fti.new.write import choices
from fti.new.write.draft import Draft, Own
from fti.tables.render import WIDTH, block, dictionary, line, text, tupled, value
from fti.tables.spec import AS_STORED, usual_rule

POLARS = {"Bool": "pl.Boolean", "Float64": "pl.Float64", "Int64": "pl.Int64", "String": "pl.String"}
DTYPES = {"Bool": pl.Boolean, "Float64": pl.Float64, "Int64": pl.Int64, "String": pl.String}
TIME = "UTC_TIME"
MOST_LEFT_OUT = 40
SAMPLED = "a day of all of them does not fit into memory"


def table_code(draft: Draft) -> str:
    """`TABLE = Table(...)`, and before it what is left out."""
    made = "ROW_NUMBER" if draft.numbered else "ONE_SERIES" if draft.series else ""
    keys = {
        key: _column(draft, key, kind, example=value(draft.key_examples[key]), rule=made)
        for key, kind in draft.entity.items()
    }
    time = _column(draft, draft.time, TIME, example=text(draft.moment), rule="" if draft.timed else "NO_TIME")
    label = _column(draft, draft.label, draft.label_type)
    own, sampled = _features(draft), draft.profile.sample < 1
    return "\n".join(
        [
            *_left_out(draft),
            "TABLE = Table(",
            f"    data={draft.profile.spec.code(indent=4, lead=len('data='))},",
            f"    entity={_columns(keys)},  # {_about_entity(draft)}",
            f"    time={_columns({draft.time: time})},  # {_about_time(draft)}",
            f"    label={_columns({draft.label: label})},",
            *(
                ["    # type, an example, and what is known of the values: rows that break it are set aside"]
                if own
                else []
            ),
            f"    features={_columns(own)},",
            *([f"    sample={draft.profile.sample:g},  # of the entities: {SAMPLED}"] if sampled else []),
            ")",
        ]
    )


def _about_entity(draft: Draft) -> str:
    if draft.numbered:
        return "every row is its own"
    if draft.series:
        return "one series of values in time"
    found = draft.profile.entities
    return f"whom a row is about: {found.num_entities:,}, {found.median_rows:g} rows each"


def _about_time(draft: Draft) -> str:
    return "when a row became known" if draft.timed else "all rows have one"


def _columns(made: Mapping[str, str]) -> str:
    """A dict of columns, a line each where there are several."""
    if len(made) < 2:
        return dictionary(made, indent=4)
    return "{\n" + "".join(f"        {text(name)}: {source},\n" for name, source in made.items()) + "    }"


def _features(draft: Draft) -> dict[str, str]:
    """Feature -> its column, with its rules: never null, and all values where a line holds them."""
    whole, closed = complete(draft), choices.categories(draft.profile)
    ages = {f"{name}_days_before": name for name in draft.moments}
    made = {}
    for own in draft.features:
        known = {"days_before": "True"} if own.name in ages else {}
        known |= {"complete": "True"} if own.name in whole else {}
        every = {"values": tupled(closed[own.name])} if own.name in closed else {}
        short = [_feature(draft, own, ages.get(own.name, own.name), {**known, **more}) for more in (every, {})]
        made[own.name] = next((source for source in short if _fits(own.name, source)), short[-1])
    return made


def complete(draft: Draft) -> list[str]:
    """Features without a null in the table, at most `MAX_EXPECTED`."""
    own = {column.name for column in draft.own}
    found = [column.identifier for column in draft.profile.features if not column.nulls and column.identifier in own]
    return found[: choices.MAX_EXPECTED]


def _feature(draft: Draft, own: Own, origin: str, known: Mapping[str, str]) -> str:
    return _column(draft, own.name, own.dtype, origin=origin, example=value(own.example), known=known)


def _fits(name: str, source: str) -> bool:
    return "\n" not in source and len(f"        {text(name)}: {source},") <= WIDTH


def _column(
    draft: Draft,
    name: str,
    kind: str,
    *,
    origin: str = "",
    example: str = "",
    rule: str = "",
    known: Mapping[str, str] | None = None,
) -> str:
    """`Column(...)` of the column `name` of the project, made of the one with the plain name `origin`, or by `rule`."""
    spec, known = draft.profile.spec, known or {}
    stored = next((column for column, plain in draft.profile.identifiers.items() if plain == (origin or name)), name)
    usual = AS_STORED if "days_before" in known else usual_rule(spec.format, DTYPES.get(kind))
    how = "" if rule else spec.columns.get(stored, usual)
    parts = [
        POLARS.get(kind, kind),
        *([example] if example else []),
        *([f"of={text(stored)}"] if stored != name and not rule else []),
        *([f"how={rule}"] if rule else [f"how={text(how)}"] if how != usual else []),
        *([f"missing={tupled(spec.missing[stored])}"] if stored in spec.missing and not rule else []),
        *(f"{key}={source}" for key, source in known.items()),
    ]
    return block("Column(", parts, ")", indent=8, lead=len(text(name)) + 3)


def _left_out(draft: Draft) -> list[str]:
    """Columns that are not read, as comments."""
    if not draft.left_out:
        return []
    lines = ["# Left out, with the reason. To put one back, add it to the features:"]
    for name, reason in list(draft.left_out.items())[:MOST_LEFT_OUT]:
        rule = draft.profile.spec.columns[name]
        lines.append(f"#   {text(line(name)[:40])} ({text(line(rule)[:30])}): {line(reason)}")
    more = len(draft.left_out) - MOST_LEFT_OUT
    return [*lines, *([f"#   and {more} more, which `fti new` shows"] if more > 0 else [])]
