"""Profile a table: every column, the entities, the time, the label, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from fti.new.profile import leaks, size
from fti.new.profile.columns import example_of, numbers, top_values
from fti.new.profile.entities import entities_of, rows_as_entities
from fti.new.profile.label import target_of
from fti.new.profile.look import Look, look
from fti.new.profile.notes import REASONS, column_findings, table_findings
from fti.new.profile.profiles import Column, Entities, Kind, Profile, Role, Split, Target, Times
from fti.new.profile.roles import checked
from fti.new.profile.tables import OpenedTable
from fti.new.profile.times import split_of, times_of
from fti.tables.findings import Finding, error, hint, ordered

FEW_DISTINCT = 50
"""Numbers with at most so many values show their most frequent ones."""

MICROSECOND = timedelta(microseconds=1)


def profile(
    table: OpenedTable,
    *,
    entity: tuple[str, ...],
    timestamp: str | None,
    label: str,
    task: str | None = None,
    now: datetime | None = None,
) -> Profile:
    """What is in the table, for whom (`entity` columns), at which time, and what is to be predicted.

    Without `entity` every row is an entity of its own. Columns are named as in the table; a wrong name is a `DataError`
    that suggests the nearest. `task` (`binary`, `multiclass`, `regression`) overrides the inferred one
    (`fti.new.profile.label.target_of`). What is wrong is in `Profile.findings`; `Profile.require_usable` raises the
    first that stops. Times later than `now` are found odd. A table of over 24 million cells is sampled
    (`Profile.sampled`).
    """
    table = checked(table, entity, timestamp, label)
    looked = look(table, entity, timestamp)
    entities, about_entities = _entities(looked, entity)
    times, about_times = _times(looked, timestamp, now := now or datetime.now(UTC))
    target, about_label = target_of(looked.rows[label], task, looked.moments)
    split, about_split = _split(looked, target, now)
    reasons, about_columns = _features(looked, entity, timestamp, target)
    sample, about_size = _sample(looked, times, len(looked.schema) - len(reasons), entity)
    about_table = [*table.findings, *table_findings(looked.num_rows, timestamp), *about_size]
    return Profile(
        spec=table.spec,
        rows=looked.num_rows,
        sampled=looked.rows.height,
        entity=entity,
        timestamp=timestamp,
        columns=_columns(looked, _roles(looked, entity, timestamp, label, reasons), reasons, table.identifiers),
        entities=entities,
        times=times,
        target=target,
        split=split,
        findings=ordered(about_table + about_entities + about_times + about_label + about_split + about_columns),
        sample=sample,
        row=_row(looked, entity, label),
    )


def _columns(
    looked: Look, roles: Mapping[str, Role], reasons: Mapping[str, str], identifiers: Mapping[str, str]
) -> tuple[Column, ...]:
    return tuple(_column(looked, name, identifiers[name], role, reasons.get(name, "")) for name, role in roles.items())


def _sample(looked: Look, times: Times | None, width: int, entity: tuple[str, ...]) -> tuple[float, list[Finding]]:
    """The share of the entities whose rows are read: all, unless one day is more than memory holds."""
    days = times.busiest if times else ()
    sample = size.sample(days, looked.num_rows, width)
    return sample, size.sample_finding(sample, days, looked.num_rows, entity)


def _entities(looked: Look, entity: tuple[str, ...]) -> tuple[Entities, list[Finding]]:
    if not entity:
        return rows_as_entities(looked.num_rows)
    found, notes = entities_of(looked.keys, entity, looked.key_moments, factor=looked.factor)
    return found, [*_fractional_keys(looked, entity), *notes]


def _fractional_keys(looked: Look, entity: tuple[str, ...]) -> list[Finding]:
    """Keys that are stored as fractions: whole numbers if all are, else no keys."""
    notes = []
    for name in entity:
        if looked.schema[name].is_float() and looked.facts[name].whole and not looked.facts[name].infinite:
            rows = looked.num_rows - looked.facts[name].nulls
            message = f"`{name}` holds whole numbers as fractions (7.0) in {rows:,} rows; as a key 7.0 is 7."
            notes.append(hint("whole_numbers", message, f"`--as {name}=text` keeps the texts of a CSV.", name))
        elif looked.schema[name].is_float():
            message = (
                f"`{name}` holds fractions, infinite numbers or ones over 2**53, and a key is a whole number or text."
            )
            notes.append(error("fractional_key", message, "Store it as one of these, or name another --entity.", name))
    return notes


def _row(looked: Look, entity: tuple[str, ...], label: str) -> dict[str, Any]:
    """The newest sampled row with an entity and a label; empty when there is none."""
    moments = looked.moments if looked.moments is not None else pl.int_range(looked.rows.height, eager=True)
    rows = looked.rows.with_columns(moments.alias("__at")).drop_nulls([*entity, label, "__at"])
    return rows.sort("__at").drop("__at").tail(1).to_dicts()[0] if rows.height else {}


def _split(looked: Look, target: Target, now: datetime) -> tuple[Split, list[Finding]]:
    """The split of the rows whose label is known, of days that are over."""
    if looked.span is None or looked.moments is None:
        return split_of(None, looked.rows[target.name], target.classes, span=None)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if looked.span[0] >= midnight:
        message = f"All rows of `{looked.moments.name}` are of today or later."
        remedy = "Features are made of days that are over, UTC: come back tomorrow, or name another --timestamp."
        return split_of(None, looked.rows[target.name], target.classes, span=None)[0], [
            error("no_past", message, remedy)
        ]
    ends = [looked.span[1], midnight - MICROSECOND]
    ends += [target.unknown_from - MICROSECOND] if target.unknown_from else []
    past = looked.moments.is_null() | (looked.moments < midnight)
    return split_of(
        looked.moments.filter(past),
        looked.rows[target.name].filter(past),
        target.classes,
        span=(looked.span[0], min(ends)),
    )


def _roles(
    looked: Look, entity: tuple[str, ...], timestamp: str | None, label: str, reasons: Mapping[str, str]
) -> dict[str, Role]:
    """Column -> role, in the table's order."""
    roles: dict[str, Role] = dict.fromkeys(looked.schema, "feature")
    roles.update(dict.fromkeys(reasons, "left out"))
    roles.update(dict.fromkeys(entity, "entity"))
    roles[label] = "label"
    if timestamp:
        roles[timestamp] = "timestamp"
    return roles


def _times(looked: Look, timestamp: str | None, now: datetime) -> tuple[Times | None, list[Finding]]:
    """The timestamp column, None when there is none."""
    if timestamp is None or looked.moments is None:
        return None, []
    dtype = looked.schema[timestamp]
    naive = not (isinstance(dtype, pl.Datetime) and dtype.time_zone)
    factor = looked.num_rows / max(1, looked.rows.height)
    return times_of(looked.moments, span=looked.span, naive=naive, is_date=dtype == pl.Date, now=now, factor=factor)


def _features(
    looked: Look, entity: tuple[str, ...], timestamp: str | None, target: Target
) -> tuple[dict[str, str], list[Finding]]:
    """Why columns are left out (column -> reason), and all findings on columns."""
    others: dict[str, Kind] = {
        name: kind for name, kind in looked.kinds.items() if name not in (*entity, timestamp, target.name)
    }
    suspects = leaks.copies(looked.rows, others)
    if looked.moments is not None:
        moments = [name for name, kind in others.items() if kind == "datetime"]
        suspects += leaks.known_later(looked.rows, looked.moments, moments)
    usable = {name: kind for name, kind in others.items() if name not in dict(suspects)}
    groups = (
        looked.rows.select(pl.struct(entity)).to_series() if entity else pl.int_range(looked.rows.height, eager=True)
    )
    suspects += leaks.disguised(looked.rows, target, usable, groups)
    reasons = {name: REASONS[kind] for name, kind in others.items() if kind in REASONS}
    reasons |= {name: WHY[finding.code] for name, finding in suspects}
    return reasons, [finding for _, finding in suspects] + column_findings(looked, others, reasons)


WHY: Mapping[str, str] = {
    "duplicated_column": "a copy of another column",
    "known_later": "known only later",
    "label_in_disguise": "perhaps the label in disguise",
}


def _column(looked: Look, name: str, identifier: str, role: Role, reason: str) -> Column:
    """The statistics of one column."""
    values, fact, kind = looked.rows[name], looked.facts[name], looked.kinds[name]
    statistics = numbers(values) if values.dtype.is_numeric() else {}
    countable = kind not in ("other", "empty")
    few = looked.distinct[name] <= FEW_DISTINCT or values.dtype == pl.String
    return Column(
        name=name,
        identifier=identifier,
        dtype=str(values.dtype),
        kind="identifier" if role == "entity" else kind,
        role=role,
        reason=reason,
        nulls=fact.nulls / max(1, fact.rows),
        distinct=looked.distinct[name],
        infinite=fact.infinite,
        whole=fact.whole,
        least=fact.least,
        most=fact.most,
        mean=statistics.get("mean"),
        deviation=statistics.get("deviation"),
        quantiles=statistics.get("quantiles", ()),
        histogram=statistics.get("histogram", ()),
        top=top_values(values) if countable and few else (),
        example=example_of(values),
    )
