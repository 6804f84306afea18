"""Python source as a formatter would write it: on one line where it fits, else one part a line."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

WIDTH = 120


def text(value: str) -> str:
    """A string literal in double quotes where that needs no escapes; unusual signs are escaped, letters are not."""
    literal = repr(value)
    if literal[0] == "'" and '"' not in literal and "'" not in literal[1:-1]:
        literal = f'"{literal[1:-1]}"'
    return plain(literal, escaped=True)


def plain(words: str, *, escaped: bool = False) -> str:
    """`words` without signs that look like others (curly quotes, odd spaces); as escapes, or as question marks."""

    def safe(letter: str) -> bool:
        return letter.isascii() or unicodedata.category(letter).startswith(("L", "M"))

    return "".join(letter if safe(letter) else ascii(letter)[1:-1] if escaped else "?" for letter in words)


def line(words: str) -> str:
    """Words for a comment or a docstring: one line, no quotes that would end it."""
    return plain(" ".join(words.split())).replace('"""', "'''").replace("\\", "/")


def value(found: Any) -> str:
    """A value of a type that projects hold, as source."""
    if isinstance(found, str):
        return text(found)
    if isinstance(found, datetime):
        return moment(found)
    if isinstance(found, timedelta):
        return span(found)
    return repr(found)


def moment(at: datetime) -> str:
    """`datetime(2024, 1, 31, tzinfo=UTC)`."""
    at = at.astimezone(UTC)
    parts = [at.year, at.month, at.day, at.hour, at.minute, at.second, at.microsecond]
    while len(parts) > 3 and parts[-1] == 0:
        parts.pop()
    return f"datetime({', '.join(map(str, parts))}, tzinfo=UTC)"


def span(length: timedelta) -> str:
    """`timedelta(days=3)`."""
    parts = {
        "days": length.days,
        "hours": length.seconds // 3600,
        "minutes": length.seconds // 60 % 60,
        "seconds": length.seconds % 60,
        "microseconds": length.microseconds,
    }
    found = ", ".join(f"{name}={number}" for name, number in parts.items() if number)
    return f"timedelta({found or 'days=0'})"


def block(before: str, parts: Sequence[str], after: str, *, indent: int = 0, lead: int = 0) -> str:
    """`before`, parts, `after`: on one line where they fit behind `lead` letters, else a part a line."""
    joined = f"{before}{', '.join(parts)}{after}"
    if "\n" not in joined and indent + lead + len(joined) < WIDTH:
        return joined
    pad = " " * (indent + 4)
    return before + "\n" + "".join(f"{pad}{part},\n" for part in parts) + " " * indent + after


def call(name: str, arguments: Mapping[str, str], *, indent: int = 0, lead: int = 0) -> str:
    """A call with keyword arguments, given as source."""
    return block(f"{name}(", [f"{key}={source}" for key, source in arguments.items()], ")", indent=indent, lead=lead)


def tupled(items: Iterable[Any], *, indent: int = 0, lead: int = 0) -> str:
    """A tuple of values."""
    parts = [value(item) for item in items]
    return f"({parts[0]},)" if len(parts) == 1 else block("(", parts, ")", indent=indent, lead=lead)


def dictionary(items: Mapping[str, str], *, indent: int = 0, lead: int = 0) -> str:
    """A dict from texts to source."""
    return block("{", [f"{text(key)}: {source}" for key, source in items.items()], "}", indent=indent, lead=lead)
