"""The catalogue's page. Every text that comes from a project or from data goes through `escape`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from html import escape

from feature_pipeline.plots import bars, number
from feature_pipeline.statistics import ColumnProfile
from fti.catalog import MAX_REASONS, STATISTICS_DAYS, Column, Entry, Service, Table
from fti.catalog_style import SCRIPT, STYLE

GROUPS = {"view": "Feature views", "source": "Sources"}


def page(entries: Sequence[Entry], *, made_at: datetime) -> str:
    """The whole document."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><title>Feature catalogue</title>'
        f"<style>{STYLE}</style></head><body><header><strong>Feature catalogue</strong>"
        '<div class="find"><input id="find" type="search" placeholder="Search views, features, types, owners ( / )" '
        'aria-label="Search" autocomplete="off"><output id="count" for="find"></output></div>'
        f'<span class="made">{made_at:%Y-%m-%d %H:%M} UTC</span></header><div class="layout">'
        f"<nav>{''.join(map(_links, entries))}</nav><main>{''.join(map(_project, entries))}"
        f"<footer>Statistics are of the newest {STATISTICS_DAYS} days of each table; rows are all of them. "
        "Written by <code>fti catalog</code>.</footer>"
        f"</main></div><script>{SCRIPT}</script></body></html>\n"
    )


def _links(entry: Entry) -> str:
    parts = [f"<h2>{escape(entry.name)}</h2>"]
    parts += [_link(_anchor(entry, "service", service.name), service.name, "") for service in entry.services]
    for kind, title in GROUPS.items():
        tables = [table for table in entry.tables if table.kind == kind]
        parts.append(f"<h2>{title}</h2>" if tables else "")
        parts += [_link(_anchor(entry, kind, table.name), table.name, str(len(table.columns))) for table in tables]
    return "".join(parts)


def _link(anchor: str, text: str, small: str) -> str:
    return f'<a href="#{anchor}"><span>{escape(text)}</span><small>{small}</small></a>'


def _project(entry: Entry) -> str:
    views = [table for table in entry.tables if table.kind == "view"]
    features = sum(not column.is_key for view in views for column in view.columns)
    facts = {
        "feature views": str(len(views)),
        "features": str(features),
        "sources": str(len(entry.tables) - len(views)),
        "rows in the lake": _short(sum(table.held.num_rows for table in entry.tables)),
        "set aside": _short(sum(table.held.num_quarantined for table in entry.tables)),
        "newest online": f"{entry.newest_online:%Y-%m-%d}" if entry.newest_online else "none yet",
        "champion": escape(entry.champion.removeprefix(f"{entry.name} ") or "none yet"),
    }
    shown = "".join(f'<div class="fact"><b>{value}</b><span>{name}</span></div>' for name, value in facts.items())
    services = "".join(_service(entry, service) for service in entry.services)
    parts = [
        f'<h1 id="{_anchor(entry)}">{escape(entry.name)}</h1><p class="lead">{escape(entry.description)} '
        f"Owner: {escape(entry.owner)}.</p>",
        f'<div class="facts">{shown}</div>',
        f'<section><h2 class="group">Feature services</h2>{services}</section>' if services else "",
    ]
    for kind, title in GROUPS.items():
        cards = "".join(_table(entry, table) for table in entry.tables if table.kind == kind)
        parts.append(f'<section><h2 class="group">{title}</h2>{cards}</section>' if cards else "")
    return "".join(parts)


def _service(entry: Entry, service: Service) -> str:
    num = sum(len(features) for features in service.views.values()) + len(service.on_demand)
    links = ", ".join(
        f'<a href="#{_anchor(entry, "view", view)}">{escape(view)}</a> ({len(features)})'
        for view, features in service.views.items()
    )
    facts = [
        ("Reads", links),
        ("On demand", escape(", ".join(column.name for column in service.on_demand)) or _none("none")),
        ("Made by", escape(service.on_demand_function) or _none("none")),
        ("Used by", escape(", ".join(service.models)) or _none("no champion yet")),
    ]
    tags = '<span class="tag good">champion reads it</span>' if service.models else ""
    head = _head(service.name, tags, f"{num} features", service.description)
    text = " ".join((service.name, service.description, *service.models, *(c.name for c in service.on_demand)))
    return _card(_anchor(entry, "service", service.name), text, head, _facts(facts))


def _table(entry: Entry, table: Table) -> str:
    held = table.held
    features = [column for column in table.columns if not column.is_key]
    noun = "features" if table.kind == "view" else "columns"
    size = f"{held.num_rows:,} rows" if held.num_rows or held.num_days else "no rows yet"
    kept = f"TTL {_age(table.ttl)} · " if table.ttl else ""
    numbers = f"{kept}{len(features) if table.kind == 'view' else len(table.columns)} {noun} · {size}"
    head = _head(table.name, _tags(entry, table), numbers, table.description)
    text = " ".join((table.name, table.kind, table.description, table.owner, table.version, *table.entities))
    body = _facts(_table_facts(entry, table)) + _columns(entry, table)
    return _card(_anchor(entry, table.kind, table.name), text, head, body)


def _tags(entry: Entry, table: Table) -> str:
    tags = [f'<span class="tag plain mono">{escape(table.version[:12])}</span>'] if table.version else []
    if table.held.newest is None:
        tags.append('<span class="tag plain">no rows yet</span>' if not table.held.num_rows else "")
    elif table.kind == "view":
        age = entry.as_of - table.held.newest
        fresh = table.ttl is None or age <= table.ttl
        said = "fresh" if fresh else "older than its TTL"
        tags.append(f'<span class="tag {"good" if fresh else "bad"}">{said}, {_age(age)}</span>')
    if table.held.num_quarantined:
        tags.append(f'<span class="tag warn">{table.held.num_quarantined:,} rows set aside</span>')
    return "".join(tags)


def _table_facts(entry: Entry, table: Table) -> list[tuple[str, str]]:
    held = table.held
    period = f"{held.first} .. {held.newest:%Y-%m-%d %H:%M} UTC, {held.num_days} days" if held.newest else ""
    age = f", {_age(entry.as_of - held.newest)} old on {entry.as_of:%Y-%m-%d}" if held.newest else ""
    known = {service.name for service in entry.services}
    users = ", ".join(
        f'<a href="#{_anchor(entry, "service", name)}">{escape(name)}</a>' if name in known else escape(name)
        for name in table.used_by
    )
    sources = ", ".join(f'<a href="#{_anchor(entry, "source", name)}">{escape(name)}</a>' for name in table.made_from)
    facts = [
        ("Owner", escape(table.owner)),
        ("Entities" if table.entities else "Key", escape(", ".join(table.entities or table.key))),
        ("Time", f"<code>{escape(table.time)}</code>" if table.time else "reference table, no time"),
        ("TTL", _age(table.ttl) if table.ttl else ("none" if table.kind == "view" else "")),
        ("In the lake", (escape(period) + escape(age)) or ("" if held.num_rows else _none("no rows yet"))),
        ("Online", _online(entry, table) if table.kind == "view" else ""),
        ("Version", f"<code>{escape(table.version)}</code>" if table.version else ""),
        ("Made from", sources),
        ("Used by", users),
        ("Expectations", _list(table.expectations)),
        ("Set aside", _quarantine(table)),
        ("Tags", escape(", ".join(f"{name}={value}" for name, value in table.tags.items()))),
    ]
    return [(name, value) for name, value in facts if value]


def _online(entry: Entry, table: Table) -> str:
    newest = table.held.newest_online
    if newest is None:
        return _none("no rows yet")
    return f"newest {newest:%Y-%m-%d %H:%M} UTC, {_age(entry.as_of - newest)} old"


def _quarantine(table: Table) -> str:
    limit = (
        f"up to {table.max_quarantined_share:.2%} of a chunk's rows" if table.max_quarantined_share else "none allowed"
    )
    found = [f"{count:,} rows: {reason}" for reason, count in table.held.quarantined[:MAX_REASONS]]
    return limit + _list(found)


def _columns(entry: Entry, table: Table) -> str:
    header = (
        f"<th>{'feature' if table.kind == 'view' else 'column'}</th><th>type</th><th>distribution</th>"
        '<th class="num">null</th><th class="num">mean</th><th class="num wide">std</th><th class="num">min</th>'
        '<th class="num wide">median</th><th class="num">max</th>'
    )
    rows = "".join(_row(entry, table, column) for column in table.columns)
    return f'<div class="scroll"><table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table></div>'


def _row(entry: Entry, table: Table, column: Column) -> str:
    anchor = _anchor(entry, table.kind, table.name, column.name)
    key = ' <span class="tag plain">key</span>' if column.is_key else ""
    about = f"<small>{escape(column.description)}</small>" if column.description else ""
    text = escape(f"{column.name} {column.dtype} {column.description}".lower(), quote=True)
    name = escape(column.name)
    return (
        f'<tr id="{anchor}" data-text="{text}"><td class="what"><a class="mono" href="#{anchor}">{name}</a>'
        f'{key}{about}</td><td class="type">{escape(_type(column.dtype))}</td>{_profile(column.profile)}</tr>'
    )


def _profile(profile: ColumnProfile | None) -> str:
    if profile is None:
        return '<td class="none" colspan="7">no rows yet</td>'
    plot = bars(profile, width=120, height=30)
    drawn = (
        f'<svg class="plot{"" if profile.histogram else " text"}" viewBox="0 0 120 30" role="img">'
        f"<title>{escape(_title(profile))}</title>{plot}"
        '<line x1="0" y1="30.5" x2="120" y2="30.5"/></svg>'
    )
    share = f'{profile.null_share:.1%}<span class="nulls"><i style="width:{profile.null_share:.0%}"></i></span>'
    cells = f'<td>{drawn}</td><td class="num">{share if profile.num_nulls else "0"}</td>'
    if not profile.statistics:
        return cells + f'<td colspan="5">{_texts(profile)}</td>'
    values = {name: number(profile.statistics[name]) for name in ("mean", "std", "min", "median", "max")}
    return cells + "".join(
        f'<td class="num{" wide" if name in ("std", "median") else ""}">{value}</td>' for name, value in values.items()
    )


def _texts(profile: ColumnProfile) -> str:
    if profile.edges:
        return f"{profile.edges[0]:%Y-%m-%d %H:%M} .. {profile.edges[1]:%Y-%m-%d %H:%M}"
    shown = ", ".join(escape(text[:24]) for text, _ in profile.top[:4])
    more = f" of {profile.num_unique:,} values" if (profile.num_unique or 0) > len(profile.top[:4]) else ""
    return f"{shown}{more}"


def _title(profile: ColumnProfile) -> str:
    """Shown when the pointer rests on a plot."""
    if profile.statistics:
        return ", ".join(f"{name} {number(value)}" for name, value in profile.statistics.items())
    return ", ".join(f"{text} {count:,}" for text, count in profile.top)


def _head(name: str, tags: str, numbers: str, about: str) -> str:
    text = f'<p class="about">{escape(about)}</p>' if about else ""
    return f'<div class="head"><h3>{escape(name)}</h3>{tags}<span class="numbers">{escape(numbers)}</span></div>{text}'


def _card(anchor: str, text: str, head: str, body: str) -> str:
    return (
        f'<article class="card" id="{anchor}" data-text="{escape(text.lower(), quote=True)}"><details>'
        f'<summary>{head}</summary><div class="body">{body}</div></details></article>'
    )


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts) + "</dl>"


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li><code>{escape(line)}</code></li>" for line in lines)
    return f'<ul class="plain">{items}</ul>' if items else ""


def _none(text: str) -> str:
    return f'<span class="none">{text}</span>'


def _anchor(entry: Entry, *parts: str) -> str:
    return escape(".".join((entry.name, *parts)).replace(" ", "_"), quote=True)


def _type(dtype: str) -> str:
    return dtype.replace("Datetime(time_unit='us', time_zone='UTC')", "Datetime UTC")


def _age(span: timedelta) -> str:
    hours = span.total_seconds() / 3600
    return f"{hours:.0f} hours" if abs(hours) < 72 else f"{hours / 24:,.0f} days"


def _short(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1_000_000 else f"{count:,}"
