"""What FTI prints: the demo's closing table and `fti status`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from fti.local import servers
from fti.project.loading import load
from fti.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console


def print_demo(console: Console, figures: dict[str, Any]) -> None:
    """The closing table of `fti demo`."""
    from rich.table import Table

    first = figures["first_model"]
    facts = Table("", "", title="The loop", show_header=False)
    facts.add_row("rows in", ", ".join(f"{name} {rows:,}" for name, rows in figures["rows_in"].items()))
    feature_rows = sum(figures["feature_rows"].values())
    facts.add_row(
        "features",
        f"{first['num_features']} in the model; {feature_rows:,} rows in {len(figures['feature_rows'])} views",
    )
    splits = ", ".join(f"{first['rows'][split]:,} {split}" for split in ("train", "validation", "test"))
    facts.add_row("dataset", f"{first['dataset']}: {splits}")
    facts.add_row("first champion", f"version {first['version']}")
    facts.add_row("requests served", f"{figures['requests_served']:,}")
    for week in figures["weeks"]:
        facts.add_row(f"week of {week['week']}", ", ".join(week["failed"]) or "no drift")
    if retrained := figures.get("retrain"):
        facts.add_row("retrained because", retrained["reason"])
        facts.add_row("outcome", f"{retrained['outcome']}: version {retrained['version']}")
    console.print(facts)
    console.print(_metrics("Test split, unseen in training", first["test"]))
    if after := figures.get("after_retraining"):
        title = f"Weeks after the retraining, {after['rows']:,} served requests"
        console.print(_metrics(title, {name: after[name] for name in ("old_champion", "new_champion")}))
    console.print(_seconds(figures["seconds"], figures["total_seconds"]))


def _metrics(title: str, rows: dict[str, dict[str, float | None]]) -> Any:
    """Models by metrics; a metric that the rows do not define is blank."""
    from rich.table import Table

    metrics = list(dict.fromkeys(metric for values in rows.values() for metric in values))
    table = Table("", *metrics, title=title)
    for name, values in rows.items():
        found = (values.get(metric) for metric in metrics)
        table.add_row(name, *("" if value is None else f"{value:#.4g}" for value in found))
    return table


def _seconds(seconds: dict[str, float], total: float) -> Any:
    from rich.table import Table

    table = Table("step", "seconds", title="Time")
    for step, spent in seconds.items():
        table.add_row(step, f"{spent:.1f}")
    table.add_row("all", f"{total:.1f}", style="bold")
    return table


def print_status(settings: Settings) -> None:
    """Servers, champions and the newest drift report of every project, and what is wrong with a broken one."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    loaded = load(settings.project_modules, features=True)
    names = tuple(project.name for project in loaded.projects)
    streamed = tuple(project.name for project in loaded.projects if project.streamed)
    table = Table("server", "state", "address")
    for server in servers.servers(settings, names, streamed):
        running = servers.pid(server.name, settings)
        table.add_row(server.name, f"pid {running}" if running else "down", server.url)
    console.print(f"home {settings.root}")
    console.print(table)
    for line in _project_lines(settings, names):
        console.print(line)
    for broken in loaded.broken:
        console.print(str(broken), style="red", markup=False, soft_wrap=True)


def _project_lines(settings: Settings, names: Iterable[str]) -> Iterable[str]:
    from fti.stores import open_stores

    stores = open_stores(settings)
    for name in names:
        champion = stores.model_registry.champion(name)
        newest = stores.prediction_log.newest(name, datetime.now(UTC))
        days: list[date] = next((stores.lake.days(table) for table in stores.lake.tables(f"{name}/features")), [])
        yield f"{name}: champion {f'version {champion.version}' if champion else f'none yet; run `fti run {name}`'}"
        yield f"{name}: features of {len(days)} day{'s' * (len(days) != 1)}{f', the last {days[-1]}' if days else ''}"
        yield f"{name}: newest logged prediction {newest or 'none'}"
