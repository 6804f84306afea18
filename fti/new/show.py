"""Print a profile for a person: the columns, then what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fti.new.profile.profiles import Column, Profile, Split
from fti.tables.findings import Severity, percent

MOST_COLUMNS = 40
MOST_FINDINGS = 30
BARS = " ▁▂▃▄▅▆▇█"
COLOURS: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "hint": "cyan"}


def print_profile(console: Console, profile: Profile) -> None:
    """The profile at 100 columns: a summary, at most 40 columns (those with a role first), at most 30 findings."""
    console.print(_grid([(name, text, "bold") for name, text in summary(profile)]))
    console.print(_columns(profile))
    hidden = len(profile.columns) - MOST_COLUMNS
    if hidden > 0:
        console.print(f"... and {hidden:,} more columns", style="dim")
    shown = profile.findings[:MOST_FINDINGS]
    texts = [(found.severity, f"{found.message} {found.remedy}", COLOURS[found.severity]) for found in shown]
    console.print(_grid(texts))
    if len(profile.findings) > MOST_FINDINGS:
        console.print(f"... and {len(profile.findings) - MOST_FINDINGS} more", style="dim")


def _grid(rows: Sequence[tuple[str, str, str]]) -> Table:
    """Names with their texts beside them, wrapped."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column()
    for name, text, style in rows:
        grid.add_row(Text(name, style=style), Text(text))
    return grid


def summary(profile: Profile) -> list[tuple[str, str]]:
    """Rows, entities, time, label and split: a name and one sentence each."""
    found, times, target = profile.entities, profile.times, profile.target
    sampled = f", statistics of {profile.sampled:,} sampled rows" if profile.sampled < profile.rows else ""
    rows = f"median {found.median_rows:g}, at most {found.max_rows:,} rows each"
    lines = [
        ("table", f"{profile.rows:,} rows x {len(profile.columns):,} columns{sampled}"),
        ("entity", f"{', '.join(profile.entity)}: {found.num_entities:,}, {found.kind} ({rows})")
        if profile.entity
        else ("entity", "every row is its own"),
    ]
    if times:
        span = f"{times.start:%Y-%m-%d %H:%M} to {times.end:%Y-%m-%d %H:%M}, {times.granularity}"
        lines.append(("timestamp", f"{profile.timestamp}: {span}"))
    shown = list(zip(target.classes, target.shares, strict=True))
    classes = ", ".join(f"{short(value)} {percent(share)}" for value, share in shown[:6])
    classes = f" ({classes}{', ...' if len(shown) > 6 else ''})" if classes else ""
    lines.append(("label", f"{target.name}: {target.task}, {target.why}{classes}"))
    return [*lines, ("split", _split(profile.split))]


def _split(split: Split) -> str:
    parts = " / ".join(percent(share) for share in split.shares)
    if not (split.validation and split.test):
        return f"at random: {parts}"
    return f"by time: {parts}, validation from {split.validation:%Y-%m-%d %H:%M}, test from {split.test:%Y-%m-%d %H:%M}"


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
    if column.histogram and column.kind == "numeric":
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
        return f"{value:,.0f}" if 10_000 <= abs(value) < 1e15 else f"{value:.4g}"
    text = str(value).replace("\n", " ")
    return text if len(text) <= 14 else f"{text[:13]}…"
