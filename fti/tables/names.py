"""Names: columns as identifiers, unique headers, and what a mistyped name was meant to be."""

from __future__ import annotations

import difflib
import keyword
import re
import unicodedata
from collections.abc import Iterable, Sequence

from fti.errors import DataError

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
RESERVED = frozenset(
    [
        "event_timestamp",
        "created_timestamp",
        "event_time",
        "known_at",
        "request_id",
        "probability",
        "probabilities",
        "prediction",
        "label",
        "actual",
        "served_at",
        "model_version",
        "latency_ms",
        "later_views",
        "missing_views",
        "stale_views",
        "all",
        "and",
        "as",
        "asc",
        "between",
        "by",
        "case",
        "column",
        "create",
        "cross",
        "current",
        "desc",
        "distinct",
        "drop",
        "else",
        "end",
        "exists",
        "false",
        "from",
        "full",
        "group",
        "having",
        "in",
        "index",
        "inner",
        "insert",
        "into",
        "is",
        "join",
        "key",
        "left",
        "like",
        "limit",
        "not",
        "null",
        "on",
        "or",
        "order",
        "outer",
        "primary",
        "right",
        "row",
        "rows",
        "select",
        "set",
        "table",
        "then",
        "to",
        "true",
        "union",
        "unique",
        "update",
        "user",
        "using",
        "values",
        "view",
        "when",
        "where",
        "with",
    ]
)
"""Feast's own columns, FTI's own, and the words of SQL that no dialect takes unquoted as a column."""


def identifiers(names: Iterable[str]) -> dict[str, str]:
    """Column -> a name that Python, Feast and SQL take: ASCII letters, digits and `_`, at most 60 long. A name that
    is such a one stays as it is; others become lower-case.

    Accents are dropped (`Größe` -> `grosse`); other scripts become `column_<position>`. Python keywords, names that
    start with a digit or `_`, and Feast's own column names get a prefix or suffix; collisions are numbered in column
    order, so the mapping depends on nothing but the names.
    """
    taken: set[str] = set()
    mapping: dict[str, str] = {}
    for position, name in enumerate(names, 1):
        base = identifier(name) or f"column_{position}"
        chosen, number = base, 2
        while chosen.lower() in taken:
            chosen, number = f"{base.rstrip('_')}_{number}", number + 1
        mapping[name] = chosen
        taken.add(chosen.lower())
    return mapping


def identifier(name: str) -> str:
    """`name` as an identifier; empty when nothing of it can be kept. A name that is one stays as it is, unless it
    has `__`, which Feast puts between view and feature."""
    if PLAIN.fullmatch(name) and "__" not in name and len(name) <= 60 and not _taken(name):
        return name
    text = name.replace("ß", "ss").replace("ø", "o").replace("Ø", "O").replace("æ", "ae")
    ascii_name = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", ascii_name)
    result = re.sub(r"[^0-9a-zA-Z]+", "_", spaced).strip("_").lower()[:60].rstrip("_")
    if not result or (len(result) < 3 and len(name) > 6):
        return ""
    if result[0].isdigit():
        result = f"n_{result}"
    return f"{result}_" if _taken(result) else result


def _taken(name: str) -> bool:
    """Whether a name has a meaning of its own in Python, SQL or Feast."""
    return keyword.iskeyword(name) or keyword.issoftkeyword(name) or name.lower() in RESERVED


def unique_header(header: Sequence[str | None]) -> list[str]:
    """A file's header as names of a frame: empty ones become `column_<position>`, repeated ones are numbered."""
    taken: set[str] = set()
    names = []
    for position, cell in enumerate(header, 1):
        base = (cell or "").strip() or f"column_{position}"
        name, number = base, 2
        while name in taken:
            name, number = f"{base}_{number}", number + 1
        names.append(name)
        taken.add(name)
    return names


def require_column(name: str, columns: Sequence[str], *, role: str) -> None:
    """Raise `DataError` with the nearest name when the table has no column `name`."""
    if name in columns:
        return
    by_fold = {column.casefold(): column for column in columns}
    near = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=0.5)
    shown = ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")
    hint = f"did you mean {by_fold[near[0]]!r}?" if near else f"it has {shown}."
    raise DataError(f"The table has no column {name!r} for --{role}: {hint}")
