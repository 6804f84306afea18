"""`fti demo`: a model's whole life on real data, on a clock that moves through the past.

History is ingested, a first model trained, promoted and served; then weeks of real traffic are sent to the service over
HTTP. The clock moves in ticks: at each tick only what had become known by then is materialized online. After each
week labels are joined and drift is judged; when the sensor asks for a retraining it runs, and the service swaps the new
champion in while it answers. Every step looks into the stores first and does only what is missing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fti import servers
from fti.errors import NotReadyError
from fti.project import Project, load_projects
from fti.replay import requests_of, send
from fti.settings import Settings

if TYPE_CHECKING:
    import dagster as dg
    from rich.console import Console

WEEK = timedelta(days=7)
WEEKS_AFTER_RETRAINING = 3
SWAP_SECONDS = 60


@dataclass
class Loop:
    """One run of the demo: the project, its stores, Dagster's instance, and what has been measured so far."""

    settings: Settings
    project: Project
    stores: dict[str, Any]
    defs: dg.Definitions
    instance: dg.DagsterInstance
    console: Console
    share: float
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.project.name

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show progress and measure the seconds of one step."""
        begun = time.perf_counter()
        with self.console.status(f"{name} ..."):
            yield
        spent = time.perf_counter() - begun
        self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 2)
        self.console.print(f"[green]done[/]  {name}  [dim]{spent:.1f} s[/]")

    def execute(
        self,
        job: str,
        *,
        assets: tuple[str, ...] = (),
        config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Run a job of the definitions in this process; a failed check or step ends the demo with its reason."""
        import dagster as dg

        result = self.defs.resolve_job_def(f"{self.name}_{job}").execute_in_process(
            instance=self.instance,
            run_config={"ops": config} if config else None,
            tags=tags,
            asset_selection=[dg.AssetKey(self.project.key(noun)) for noun in assets] or None,
            raise_on_error=False,
        )
        if not result.success:
            raise NotReadyError(f"{job} failed: {_failure(result)}. Details: `fti up`, run {result.run_id}.")
        return result


def run(settings: Settings, *, weeks: int, share: float) -> dict[str, Any]:
    """Run the loop; print the table and write `<home>/demo.json`. Returns what that file holds."""
    os.environ.update(servers.environment(settings))
    from rich.console import Console

    from fti import report

    console = Console()
    begun = time.perf_counter()
    loop = _open(settings, console, share)
    history(loop)
    train(loop)
    server = servers.service(settings, loop.name, settings.service_port)
    try:
        replay(loop, server, weeks)
    finally:
        servers.stop(server.name, settings)
    compare_champions(loop)
    loop.figures |= {"seconds": loop.seconds, "total_seconds": round(time.perf_counter() - begun, 1)}
    report.write_json(settings.root / "demo.json", loop.figures)
    report.print_demo(console, loop.figures)
    return loop.figures


def history(loop: Loop) -> None:
    """Everything that was known when the first model went live: raw rows, features, online features."""
    project, until = loop.project, loop.project.dataset.until
    with loop.step("features of the history"):
        if _missing_days(loop, project.partitions_start, until):
            loop.execute("features", tags=_days(project.partitions_start, until))
    lake = loop.stores["lake"]
    loop.figures["rows_in"] = {
        source.name: _num_rows(lake.read(f"{loop.name}/raw/{source.name}")) for source in project.sources
    }
    views = loop.stores["feature_store"].feature_names(project.features.service)
    loop.figures["feature_rows"] = {view: _num_rows(lake.read(f"{loop.name}/features/{view}")) for view in views}
    loop.figures["num_features"] = sum(map(len, views.values())) + len(project.features.on_demand_names)


def train(loop: Loop) -> None:
    """The first champion: dataset, study, challenger, evaluation, gates, promotion."""
    registry = loop.stores["model_registry"]
    with loop.step("first model: dataset, study, training, gates"):
        if registry.champion(loop.name) is None:
            loop.execute("training", tags={"fti/trigger": "demo", "fti/reason": "first model"})
    first = registry.journal(loop.name).row(0, named=True)["version"]
    loop.figures["first_model"] = _model_figures(loop, registry.version(loop.name, first))


def replay(loop: Loop, server: servers.Server, weeks: int) -> None:
    """Weeks of traffic, each followed by monitoring and, when the sensor asks for it, a retraining."""
    with loop.step("start of the service"):
        servers.start(server, loop.settings)
        servers.wait_ready(server, loop.settings)
    loop.figures["weeks"] = []
    week, weeks_since = loop.project.dataset.until, None
    for _ in range(weeks):
        served = serve_week(loop, server, week)
        drift = monitor(loop, week + WEEK)
        loop.figures["weeks"].append({"week": f"{week:%Y-%m-%d}", **served, **drift})
        if weeks_since is None and retrain(loop, server, week + WEEK):
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

    project, store, end = loop.project, loop.stores["feature_store"], start + WEEK
    with loop.step(f"week of {start:%B %d}: features"):
        if _missing_days(loop, start, end):
            nouns = (*(f"raw_{source.name}" for source in project.sources if source.timestamp), "features")
            loop.execute("features", assets=nouns, tags=_days(start, end))
    requests = requests_of(project, loop.stores["lake"], start, end, share=loop.share)
    logged = loop.stores["prediction_log"].read(loop.name, start, end)["request_id"]
    fresh = requests.filter(~pl.col("request_id").is_in(logged.implode()))
    with loop.step(f"week of {start:%B %d}: {requests.height:,} requests"):
        if fresh.height:
            with httpx.Client(base_url=server.url, timeout=60) as client:
                send(project, store, fresh, client=client, start=start, end=end)
    return {"requests": requests.height}


def monitor(loop: Loop, until: datetime) -> dict[str, Any]:
    """Labels and the drift report of the week that ended; the failed checks and what they measured."""
    with loop.step(f"week before {until:%B %d}: drift"):
        checks = _drift_checks(loop, until)
        if not checks:
            loop.execute("monitoring", config={f"{loop.name}__drift_report": {"config": {"until": until.isoformat()}}})
            checks = _drift_checks(loop, until)
    return {"drifted": sorted(name for name, passed in checks.items() if not passed)}


def retrain(loop: Loop, server: servers.Server, now: datetime) -> bool:
    """Ask the sensor, as Dagster's daemon would; run what it requests and wait until the service has swapped."""
    import dagster as dg

    registry = loop.stores["model_registry"]
    request = _sensor_request(loop)
    if request is None:
        return _was_retrained(loop, now)
    with loop.step("retraining asked for by the sensor"):
        job = loop.defs.resolve_job_def(request.job_name)
        result = job.execute_in_process(
            run_config=request.run_config, instance=loop.instance, tags=dict(request.tags), raise_on_error=False
        )
    version = registry.champion(loop.name).version
    promoted = result.success and version != loop.figures["first_model"]["version"]
    loop.figures["retrain"] = {
        "reason": request.tags["fti/reason"],
        "until": f"{now:%Y-%m-%d}",
        "run_id": result.run_id,
        "version": version if promoted else None,
        "outcome": "promoted" if promoted else "kept the champion: a gate failed",
    }
    assert isinstance(result, dg.ExecuteInProcessResult)
    if promoted:
        with loop.step("swap of the champion in the running service"):
            _wait_for_version(server.url, version)
    return True


def compare_champions(loop: Loop) -> None:
    """Old and new champion on the same logged rows of the weeks after the retraining, labels known."""
    from datetime import UTC

    retrained = loop.figures.get("retrain")
    if not retrained or not retrained["version"]:
        return
    registry, log = loop.stores["model_registry"], loop.stores["prediction_log"]
    start = datetime.fromisoformat(retrained["until"]).replace(tzinfo=UTC)
    rows = log.labelled(loop.name, start, start + WEEKS_AFTER_RETRAINING * WEEK)
    if not rows.height:
        return
    with loop.step("old champion against new on the weeks after"):
        new = _model_figures(loop, registry.version(loop.name, retrained["version"]))
        old = loop.figures["first_model"]
        loop.figures["new_model"] = new
        loop.figures["after_retraining"] = {
            "rows": rows.height,
            **{
                key: scores(
                    registry.bundle(registry.version(loop.name, model["version"])).predict(rows), rows["actual"]
                )
                for key, model in (("old_champion", old), ("new_champion", new))
            },
        }


def _open(settings: Settings, console: Console, share: float) -> Loop:
    import dagster as dg

    from fti.definitions import build
    from fti.stores import open_stores

    with console.status("opening the stores ..."):
        project = load_projects(settings.project_modules)[0]
        return Loop(
            settings=settings,
            project=project,
            stores=open_stores(settings),
            defs=build(settings),
            instance=dg.DagsterInstance.from_config(str(servers.dagster_home(settings))),
            console=console,
            share=share,
        )


def _days(start: datetime, end: datetime) -> dict[str, str]:
    """Run tags that make one run fill the daily partitions of `[start, end)`."""
    last = end - timedelta(days=1)
    return {
        "dagster/asset_partition_range_start": f"{start:%Y-%m-%d}",
        "dagster/asset_partition_range_end": f"{last:%Y-%m-%d}",
    }


def _missing_days(loop: Loop, start: datetime, end: datetime) -> bool:
    """Whether Dagster lacks a day of the features in `[start, end)`."""
    import dagster as dg

    from fti.stores.lake import days_between

    present = loop.instance.get_materialized_partitions(dg.AssetKey(loop.project.key("features")))
    return not present.issuperset(f"{day:%Y-%m-%d}" for day in days_between(start, end))


def _num_rows(table: Any) -> int:
    import polars as pl

    return int(table.select(pl.len()).collect().item())


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """Why a run failed, in the words of its checks, else of its steps."""
    checks = [f"{check.check_name}: {check.description}" for check in result.get_asset_check_evaluations() if not check.passed]
    steps = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    return "; ".join(checks or [error.message.strip() for error in steps if error] or ["its log says why"])


def _model_figures(loop: Loop, version: Any) -> dict[str, Any]:
    """What is shown of a model version: its dataset and the metrics on its own test split."""
    registry, datasets = loop.stores["model_registry"], loop.stores["dataset_store"]
    bundle = registry.bundle(version)
    manifest = datasets.load(bundle.info["dataset_version"]).manifest
    return {
        "version": version.version,
        "run_id": version.run_id,
        "dataset": bundle.info["dataset_version"],
        "rows": manifest["rows"],
        "ranges": manifest["ranges"],
        "test": registry.evaluation(version.run_id)["metrics"],
    }


def _drift_checks(loop: Loop, until: datetime) -> dict[str, Any]:
    """Drift check -> its evaluation by the report of the window that ended at `until`."""
    import dagster as dg

    from inference_pipeline.drift import CHECKS

    storage, asset = loop.instance.event_log_storage, dg.AssetKey(loop.project.key("drift_report"))
    found = {}
    for name in CHECKS:
        for record in storage.get_asset_check_execution_history(dg.AssetCheckKey(asset, name), limit=200):
            if record.evaluation and record.evaluation.metadata["until"].value == until.isoformat():
                found[name] = record.evaluation
                break
    return found


def _sensor_request(loop: Loop) -> dg.RunRequest | None:
    """What the retrain sensor asks for now, evaluated as the daemon does; None when it skips, and it says why."""
    import dagster as dg

    sensor = loop.defs.resolve_sensor_def(f"{loop.name}_retrain_on_drift")
    with dg.build_sensor_context(instance=loop.instance) as context:
        tick = sensor.evaluate_tick(context)
    if not tick.run_requests:
        loop.console.print(f"[dim]sensor  {tick.skip_message}[/]")
        return None
    return tick.run_requests[0]


def _wait_for_version(url: str, version: int) -> None:
    import httpx

    deadline = time.monotonic() + SWAP_SECONDS
    while time.monotonic() < deadline:
        if httpx.get(f"{url}/status", timeout=10).json()["model_version"] == version:
            return
        time.sleep(0.2)
    raise NotReadyError(f"the service at {url} did not take version {version} within {SWAP_SECONDS} s; see its log")
