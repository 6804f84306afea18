"""The catalogue's page: `templates/page.html` and what it calls to write values as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from feature_pipeline.batch.plots import bars, number
from feature_pipeline.batch.statistics import ColumnProfile
from fti.operations.catalog.contents import MAX_REASONS, STATISTICS_DAYS, Entry, Held, Table

GROUPS = {"view": "Feature views", "source": "Sources"}


def page(entries: Sequence[Entry], *, made_at: datetime) -> str:
    """The whole document."""
    environment = Environment(
        loader=PackageLoader("fti.operations.catalog"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        anchor=anchor, facts=facts, size=size, age=age, period=period, online=online, limit=limit, reasons=reasons,
        bars=drawn, number=number, texts=texts, title=title,
    )  # fmt: skip
    template = environment.get_template("page.html")
    return template.render(entries=entries, made_at=made_at, groups=GROUPS, statistics_days=STATISTICS_DAYS).lstrip()


def anchor(entry: Entry, *parts: str) -> str:
    """The id of an element."""
    return ".".join((entry.name, *parts)).replace(" ", "_")


def facts(entry: Entry) -> Mapping[str, str]:
    """A project in figures."""
    views = [table for table in entry.tables if table.kind == "view"]
    return {
        "feature views": str(len(views)),
        "features": str(sum(not column.is_key for view in views for column in view.columns)),
        "sources": str(len(entry.tables) - len(views)),
        "rows in the lake": short(sum(table.held.num_rows for table in entry.tables)),
        "set aside": short(sum(table.held.num_quarantined for table in entry.tables)),
        "newest online": f"{entry.newest_online:%Y-%m-%d}" if entry.newest_online else "none yet",
        "champion": entry.champion.removeprefix(f"{entry.name} ") or "none yet",
    }


def size(table: Table) -> str:
    """TTL, columns and rows of a table."""
    is_view, held = table.kind == "view", table.held
    num = sum(not column.is_key for column in table.columns) if is_view else len(table.columns)
    rows = f"{held.num_rows:,} rows" if held.num_rows or held.num_days else "no rows yet"
    kept = f"TTL {age(table.ttl)} · " if table.ttl else ""
    return f"{kept}{num} {'features' if is_view else 'columns'} · {rows}"


def period(entry: Entry, held: Held) -> str:
    """What of the past is in the lake; empty without rows that have a time."""
    if held.newest is None:
        return ""
    old = f"{age(entry.as_of - held.newest)} old on {entry.as_of:%Y-%m-%d}"
    return f"{held.first} .. {held.newest:%Y-%m-%d %H:%M} UTC, {held.num_days} days, {old}"


def online(entry: Entry, held: Held) -> str:
    """How old the newest row online is; empty without one."""
    newest = held.newest_online
    return f"newest {newest:%Y-%m-%d %H:%M} UTC, {age(entry.as_of - newest)} old" if newest else ""


def limit(table: Table) -> str:
    """How many rows may be set aside."""
    share = table.max_quarantined_share
    return f"up to {share:.2%} of a chunk's rows" if share else "none allowed"


def reasons(held: Held) -> list[str]:
    """Why rows were set aside, most frequent first."""
    return [f"{count:,} rows: {reason}" for reason, count in held.quarantined[:MAX_REASONS]]


def drawn(profile: ColumnProfile) -> Markup:
    """The path of a plot."""
    return Markup(bars(profile, width=120, height=30))


def texts(profile: ColumnProfile) -> str:
    """The period of a column of times, or the most frequent values."""
    if profile.edges:
        return f"{profile.edges[0]:%Y-%m-%d %H:%M} .. {profile.edges[1]:%Y-%m-%d %H:%M}"
    top = [text[:24] for text, _ in profile.top[:4]]
    more = f" of {profile.num_unique:,} values" if (profile.num_unique or 0) > len(top) else ""
    return f"{', '.join(top)}{more}"


def title(profile: ColumnProfile) -> str:
    """Shown when the pointer rests on a plot."""
    if profile.statistics:
        return ", ".join(f"{name} {number(value)}" for name, value in profile.statistics.items())
    return ", ".join(f"{text} {count:,}" for text, count in profile.top)


def age(span: timedelta) -> str:
    """In hours or days."""
    hours = span.total_seconds() / 3600
    return f"{hours:.0f} hours" if abs(hours) < 72 else f"{hours / 24:,.0f} days"


def short(count: int) -> str:
    """1,234 or 1.23 M."""
    return f"{count / 1e6:.2f} M" if count >= 1_000_000 else f"{count:,}"
