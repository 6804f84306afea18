"""Print a profile for a person: the columns, then what was found."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fti.new.findings import Severity, percent
from fti.new.profiles import Column, Profile

MOST_COLUMNS = 40
MOST_FINDINGS = 30
BARS = " ▁▂▃▄▅▆▇█"
COLOURS: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "hint": "cyan"}


def print_profile(console: Console, profile: Profile) -> None:
    """The profile at 100 columns: a summary, at most 40 columns (those with a role first), at most 30 findings."""
    for line in summary(profile):
        console.print(escape(line))
    console.print(_columns(profile))
    hidden = len(profile.columns) - MOST_COLUMNS
    if hidden > 0:
        console.print(f"... and {hidden} more columns", style="dim")
    for finding in profile.findings[:MOST_FINDINGS]:
        mark = f"[{COLOURS[finding.severity]}]{finding.severity:>7}[/]"
        console.print(f"{mark}  {escape(finding.message)} [dim]{escape(finding.remedy)}[/]")
    if len(profile.findings) > MOST_FINDINGS:
        console.print(f"... and {len(profile.findings) - MOST_FINDINGS} more", style="dim")


def summary(profile: Profile) -> list[str]:
    """Rows, entities, time, label and split in one line each."""
    found, times, target, split = profile.entities, profile.times, profile.target, profile.split
    sampled = f", statistics of {profile.sampled:,} sampled rows" if profile.sampled < profile.rows else ""
    lines = [
        f"{profile.rows:,} rows x {len(profile.columns):,} columns{sampled}",
        f"entity     {', '.join(profile.entity)}: {found.num_entities:,}, {found.kind}"
        f" (median {found.median_rows:g}, at most {found.max_rows:,} rows each)",
    ]
    if times:
        lines.append(f"timestamp  {profile.timestamp}: {times.start:%Y-%m-%d %H:%M} to {times.end:%Y-%m-%d %H:%M}, {times.granularity}")
    shown = list(zip(target.classes, target.shares, strict=True))
    classes = ", ".join(f"{value} {percent(share)}" for value, share in shown[:6]) + (", ..." if len(shown) > 6 else "")
    lines.append(f"label      {target.name}: {target.task}, {target.why}" + (f" ({classes})" if classes else ""))
    parts = " / ".join(percent(share) for share in split.shares)
    if split.by_time and split.validation and split.test:
        parts += f", validation from {split.validation:%Y-%m-%d %H:%M}, test from {split.test:%Y-%m-%d %H:%M}"
    return [*lines, f"split      {'by time' if split.by_time else 'at random'}: {parts}"]


def _columns(profile: Profile) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("column", max_width=28, no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("nulls", justify="right", no_wrap=True)
    table.add_column("distinct", justify="right", no_wrap=True)
    table.add_column("values", max_width=36, no_wrap=True)
    special = [column for column in profile.columns if column.role not in ("feature", "left out")]
    others = [column for column in profile.columns if column.role in ("feature", "left out")]
    for column in [*special, *others][:MOST_COLUMNS]:
        style = "bold" if column in special else "dim" if column.role == "left out" else ""
        kind = column.role if column in special else column.kind
        row = (column.name, kind, percent(column.nulls), f"{column.distinct:,}", values_of(column))
        table.add_row(*(escape(cell) for cell in row), style=style)
    return table


def values_of(column: Column) -> str:
    """A small histogram with its range, the most frequent values, or one example."""
    if column.histogram and column.kind in ("numeric", "identifier"):
        return f"{bars(column.histogram)} {short(column.quantiles[0])} .. {short(column.quantiles[-1])}"
    if column.kind in ("categorical", "boolean", "constant") and column.top:
        return ", ".join(f"{short(value)} {percent(share)}" for value, share in column.top[:3])
    if column.kind == "datetime":
        return f"{str(column.least)[:16]} .. {str(column.most)[:16]}"
    return column.example.replace("\n", " ")


def bars(counts: tuple[int, ...]) -> str:
    """A histogram as a row of blocks; a bin with any row shows at least the lowest."""
    most = max(counts)
    return "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in counts)


def short(value: Any) -> str:
    """A value in few letters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value).replace("\n", " ")
    return text if len(text) <= 14 else f"{text[:13]}…"
