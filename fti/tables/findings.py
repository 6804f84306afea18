"""What is wrong with a table, as typed values in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "hint"]
ORDER: tuple[Severity, ...] = ("error", "warning", "hint")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a person should know. An `error` means that no model can be made of the table as it is."""

    code: str
    """Short fixed name, for example `label_in_disguise`; the list is in `docs/your-own-table.md`."""
    severity: Severity
    message: str
    """What is the case: one sentence with names and figures."""
    remedy: str
    """What to do, or what the project will do about it: one sentence."""
    columns: tuple[str, ...] = ()
    """The columns it is about, by their names in the table."""


def error(code: str, message: str, remedy: str, *columns: str) -> Finding:
    """A finding that stops."""
    return Finding(code=code, severity="error", message=message, remedy=remedy, columns=columns)


def warning(code: str, message: str, remedy: str, *columns: str) -> Finding:
    """A finding that a person should look at before trusting the model."""
    return Finding(code=code, severity="warning", message=message, remedy=remedy, columns=columns)


def hint(code: str, message: str, remedy: str, *columns: str) -> Finding:
    """A finding that says what was assumed or left out."""
    return Finding(code=code, severity="hint", message=message, remedy=remedy, columns=columns)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first, then warnings, then hints; each in the order found."""
    return tuple(sorted(findings, key=lambda finding: ORDER.index(finding.severity)))


def listed(names: Sequence[str], most: int = 5) -> str:
    """`a, b and c`, or the first `most` names and the number of the others."""
    shown = [f"`{name}`" for name in names[:most]]
    if len(names) > most:
        return f"{', '.join(shown)} and {len(names) - most} more"
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def percent(share: float) -> str:
    """`0.04 %`, `3 %`, `97 %`: never 0 % for something, never 100 % for less than all."""
    if share in (0.0, 1.0) or 0.01 <= share <= 0.99:
        return f"{share:.0%}".replace("%", " %")
    return (
        f"{share:.2%}".replace("%", " %")
        if 0.0001 < share < 0.9999
        else ("under 0.01 %" if share < 0.5 else "over 99.99 %")
    )
