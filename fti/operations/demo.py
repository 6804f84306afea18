"""`fti demo`: a model's whole life on real data, on a clock that moves through the past.

History is ingested, a first model trained, promoted and served; then weeks of real traffic are sent to the service over
HTTP. The clock moves in ticks: at each tick only what had become known by then is materialized online. After each
week labels are joined and drift is judged; when the sensor asks for a retraining it runs, and the service swaps the new
champion in while it answers. Every step looks into the stores first and does only what is missing.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from fti.files import replace_json
from fti.local import servers
from fti.operations.replay import requests_of, send
from fti.operations.run import features, online, promoted, service, train, wait_for_version
from fti.operations.session import (
    Loop,
    daily_nouns,
    days,
    drift_checks,
    missing_days,
    open_loop,
    retraining,
    sensor_request,
)
from fti.project.loading import load_projects
from fti.settings import Settings

WEEK = timedelta(days=7)
WEEKS_AFTER_RETRAINING = 3


def run(settings: Settings, *, weeks: int, share: float) -> dict[str, Any]:
    """Run the loop; print the table and write `<home>/demo.json`. Returns what that file holds."""
    from rich.console import Console

    from fti.operations import status as report

    console = Console()
    begun = time.perf_counter()
    (project, *_) = load_projects(settings.project_modules)
    loop = open_loop(settings, project, console, share)
    history(loop)
    first_model(loop)
    server = service(loop)
    try:
        replay(loop, server, weeks)
    finally:
        found = servers.running(server.name, settings)
        if found and found["owner"] == "demo":
            servers.stop(server.name, settings)
    count(loop)
    compare_champions(loop)
    loop.figures |= {"seconds": loop.seconds, "total_seconds": round(time.perf_counter() - begun, 1)}
    replace_json(settings.root / "demo.json", loop.figures)
    report.print_demo(console, loop.figures)
    return loop.figures


def history(loop: Loop) -> None:
    """Everything that was known when the first model went live: raw rows, features, online features."""
    project, until = loop.project, loop.project.dataset.until
    if missing_days(loop, project.partitions_start, until):
        features(loop, until)
    newest = loop.stores.feature_store.materialized_until(project.features.service)
    if newest is None or newest < until:
        online(loop)


def count(loop: Loop) -> None:
    """Rows of the sources and of the feature views, all weeks included."""
    lake, views = loop.stores.lake, loop.stores.feature_store.feature_names(loop.project.features.service)
    loop.figures["rows_in"] = {
        source.name: lake.num_rows(f"{loop.name}/raw/{source.name}") for source in loop.project.sources
    }
    loop.figures["feature_rows"] = {view: lake.num_rows(f"{loop.name}/features/{view}") for view in views}


def first_model(loop: Loop) -> None:
    """The first champion: dataset, study, challenger, evaluation, gates, promotion."""
    registry = loop.stores.model_registry
    if registry.champion(loop.name) is None:
        promoted(loop, train(loop, tags={"fti/trigger": "demo", "fti/reason": "first model"}))
    first = registry.journal(loop.name).row(0, named=True)["version"]
    loop.figures["first_model"] = _model_figures(loop, registry.version(loop.name, first))


def replay(loop: Loop, server: servers.Server, weeks: int) -> None:
    """Weeks of traffic, each followed by monitoring and, when the sensor asks for it, a retraining."""
    loop.figures["weeks"] = []
    week, weeks_since = loop.project.dataset.until, None
    for _ in range(weeks):
        served = serve_week(loop, server, week)
        drift, is_new = monitor(loop, week + WEEK)
        loop.figures["weeks"].append({"week": f"{week:%Y-%m-%d}", **served, **drift})
        if weeks_since is None and retrain(loop, server, week + WEEK, ask=is_new or bool(drift["failed"])):
            weeks_since = 0
        elif weeks_since is not None:
            weeks_since += 1
        if weeks_since == WEEKS_AFTER_RETRAINING:
            break
        week += WEEK
    loop.figures["requests_served"] = sum(row["requests"] for row in loop.figures["weeks"])


def serve_week(loop: Loop, server: servers.Server, start: datetime) -> dict[str, Any]:
    """Ingest a week, then replay its requests; those that the log holds already are not sent again."""
    import httpx
    import polars as pl

    project, store, end = loop.project, loop.stores.feature_store, start + WEEK
    horizon = project.label.horizon
    with loop.step(f"week of {start:%B %d}: features"):
        if missing_days(loop, start, end):
            loop.execute("features", assets=daily_nouns(project), tags=days(loop.project, start, end))
    requests = requests_of(project, loop.stores.lake, start, end, share=loop.share)
    logged = loop.stores.prediction_log.read(loop.name, start - horizon, end)["request_id"]
    fresh = requests.filter(~pl.col("request_id").is_in(logged.implode()))
    with loop.step(f"week of {start:%B %d}: {requests.height:,} requests"):
        if fresh.height:
            servers.start(server, loop.settings, owner="demo")
            servers.wait_ready(server, loop.settings)
            champion = loop.stores.model_registry.champion(loop.name)
            assert champion is not None
            wait_for_version(server.url, champion.version)
            with httpx.Client(base_url=server.url, timeout=60) as client:
                send(project, store, fresh, client=client, start=start - horizon, end=end - horizon)
    return {"requests": requests.height}


def monitor(loop: Loop, until: datetime) -> tuple[dict[str, Any], bool]:
    """Labels and the drift report of the week that ended: what failed and what each check found; whether it is new."""
    with loop.step(f"week until {until:%B %d}: labels, drift report"):
        checks = drift_checks(loop, until)
        is_new = not checks
        if is_new:
            config = {"until": until.isoformat()}
            loop.execute("monitoring", run_config=loop.project.run_config(labels=config, drift_report=config))
            checks = drift_checks(loop, until)
    failed = sorted(name for name, check in checks.items() if not check.passed)
    return {"failed": failed, "found": {name: check.description for name, check in checks.items()}}, is_new


def retrain(loop: Loop, server: servers.Server, now: datetime, *, ask: bool) -> bool:
    """Ask the sensor, as Dagster's daemon would; run what it requests and wait until the service has swapped."""
    found = retraining(loop, now)
    if found is None and not ask:
        return False
    if found is None or found[0].status.value == "CANCELED":
        request = sensor_request(loop) if found is None else found[0]
        if request is None:
            return False
        tags = {name: value for name, value in request.tags.items() if name.startswith("fti/")}
        with loop.step("retraining that the sensor asked for"):
            loop.execute("training", run_config=request.run_config, tags=tags, may_fail=True)
        found = retraining(loop, now)
        assert found is not None
        if (version := found[1]["version"]) and servers.pid(server.name, loop.settings):
            with loop.step("swap of the champion in the running service"):
                wait_for_version(server.url, version)
    loop.figures["retrain"] = found[1]
    return True


def compare_champions(loop: Loop) -> None:
    """Old and new champion on the same logged rows of the weeks after the retraining, labels known."""
    from training_pipeline.judging.measure import scores

    retrained = loop.figures.get("retrain")
    if not retrained or not retrained["version"]:
        return
    registry, log = loop.stores.model_registry, loop.stores.prediction_log
    start = datetime.fromisoformat(retrained["until"]).replace(tzinfo=UTC)
    rows = log.labelled(loop.name, start, start + WEEKS_AFTER_RETRAINING * WEEK)
    if not rows.height:
        return
    new, old = (
        registry.version(loop.name, retrained["version"]),
        registry.version(loop.name, loop.figures["first_model"]["version"]),
    )
    with loop.step("old champion against new on the weeks after"):
        loop.figures["new_model"] = _model_figures(loop, new)
        bundles = {"old_champion": registry.bundle(old), "new_champion": registry.bundle(new)}
        actual = rows["actual"].to_numpy()
        measured = {name: scores(actual, bundle.predict(rows), bundle.info) for name, bundle in bundles.items()}
        loop.figures["after_retraining"] = {"rows": rows.height, **measured}


def _model_figures(loop: Loop, version: Any) -> dict[str, Any]:
    """What is shown of a model version: its dataset and the metrics on its own test split."""
    registry, datasets = loop.stores.model_registry, loop.stores.dataset_store
    bundle = registry.bundle(version)
    manifest = datasets.manifest(bundle.info.dataset_version)
    return {
        "version": version.version,
        "run_id": version.run_id,
        "dataset": bundle.info.dataset_version,
        "rows": manifest.rows,
        "num_features": manifest.num_features,
        "ranges": manifest.ranges,
        "test": registry.evaluation(version.run_id).metrics,
    }
