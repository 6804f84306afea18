"""What to say about columns and about the table as a whole."""

from __future__ import annotations

from collections.abc import Mapping

from fti.new.profile.columns import top_values
from fti.new.profile.label import MIN_ROWS
from fti.new.profile.look import Look
from fti.new.profile.profiles import Kind
from fti.tables.findings import Finding, error, hint, listed, percent, warning

NEARLY_CONSTANT = 0.995
MANY_VALUES = 1_000
MANY_NULLS = 0.6
REASONS: dict[Kind, str] = {
    "empty": "null in every row",
    "constant": "one value only",
    "identifier": "an id, not a property",
    "text": "free text",
    "other": "no number, text or time",
}
"""Why columns of a kind are left out of a model."""
WHY_TIME = (
    "The table has no --timestamp. A model is only honest when it is tested on rows later than those it learnt from, "
    "and when features were known before the moment of prediction."
)
CONSTANT_TIME = (
    "Every row gets the same constant time and the split is random: the test score shows fit, not the future; "
    "name a time column if there is one."
)


def table_findings(num_rows: int, timestamp: str | None) -> list[Finding]:
    """What to say before any column is looked at."""
    found = []
    if num_rows < MIN_ROWS:
        message = f"The table has {num_rows} row{'s' if num_rows != 1 else ''}; a model needs at least {MIN_ROWS}."
        found.append(error("too_few_rows", message, "Give more rows."))
    if timestamp is None:
        found.append(warning("no_timestamp", WHY_TIME, CONSTANT_TIME))
    return found


def column_findings(looked: Look, features: Mapping[str, Kind], left_out: Mapping[str, str]) -> list[Finding]:
    """Findings on columns that are neither key, time nor label; many columns with one fault make one finding."""
    found = []
    for kind, (code, text, remedy) in GROUPS.items():
        names = [name for name, own in features.items() if own == kind]
        if names:
            verb = "is" if len(names) == 1 else "are"
            found.append(hint(code, f"{listed(names)} {verb} {text}.", remedy, *names))
    kept = {name: kind for name, kind in features.items() if name not in left_out}
    if not kept:
        found.append(_no_features(looked))
    return found + _infinite(looked) + _values(looked, kept)


GROUPS: dict[Kind, tuple[str, str, str]] = {
    "empty": ("all_null", "null in every row", "Left out."),
    "constant": ("constant", "the same in every row", "Left out."),
    "identifier": ("identifier", "an id: a model would learn it by heart", "Left out; if it is a property, rename it."),
    "text": ("text", "free text or hardly repeats", "Left out; make categories or numbers of it to use it."),
    "other": ("nested", "of a type that a model cannot use", "Left out; unpack it into plain columns to use it."),
}


def _no_features(looked: Look) -> Finding:
    message = "No column is left that a model could use."
    if looked.moments is None:
        return error("no_features", message, "Give columns with properties, or a --timestamp.")
    return warning("no_features", message, "Only the calendar and an entity's earlier rows can tell something.")


def _infinite(looked: Look) -> list[Finding]:
    names = [name for name, fact in looked.facts.items() if fact.infinite]
    if not names:
        return []
    count = sum(looked.facts[name].infinite for name in names)
    message = f"{listed(names)} hold{'s' if len(names) == 1 else ''} {count:,} infinite values."
    return [warning("infinite", message, "They are treated as missing values.", *names)]


def _values(looked: Look, kept: Mapping[str, Kind]) -> list[Finding]:
    """Nearly constant columns, those that are mostly null, and categories beyond counting."""
    found = []
    steady, sparse = [], []
    for name, kind in kept.items():
        fact = looked.facts[name]
        if kind in ("categorical", "boolean", "numeric") and looked.distinct[name] <= MANY_VALUES:
            top = top_values(looked.rows[name], 1)
            steady += [name] if top and top[0][1] >= NEARLY_CONSTANT else []
        sparse += [name] if fact.nulls > MANY_NULLS * fact.rows else []
        if kind == "categorical" and looked.distinct[name] > MANY_VALUES:
            message = f"`{name}` has {looked.distinct[name]:,} categories; rare ones cannot be learnt."
            found.append(hint("many_categories", message, "Group them if you can.", name))
    if steady:
        message = f"{listed(steady)}: one value fills over {percent(NEARLY_CONSTANT)} of the rows."
        found.append(hint("nearly_constant", message, "Kept; leave it out if it has no meaning.", *steady))
    if sparse:
        message = f"{listed(sparse)}: over {percent(MANY_NULLS)} of the rows are null."
        found.append(hint("mostly_null", message, "Kept; a missing value can tell something.", *sparse))
    return found
