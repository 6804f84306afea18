"""The state of one run of the loop: project, stores, definitions, Dagster's instance, and what has been measured."""

from __future__ import annotations

import gc
import logging
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from fti.errors import NotReadyError
from fti.local import servers
from fti.local.dagster_home import dagster_home
from fti.project import Project
from fti.settings import Settings
from fti.storage.periods import days_between
from fti.stores import Stores

if TYPE_CHECKING:
    import dagster as dg
    from rich.console import Console


PROCESS = "fti/process"
"""Tag of a run: the process that executes it."""
UNCAPTURED = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
"""What a run prints goes to the terminal: two processes per step that copy it into files would meet Ctrl-C too."""
MUCH = 256 << 20
"""Bytes that a job leaves behind and that are then looked through for what nobody needs, which takes a second."""
INTERRUPTED = "DagsterExecutionInterruptedError"


class Progress(logging.Handler):
    """Hands what Dagster logs of a run to the terminal's status line: which asset, and what its process reports."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.show: Callable[[str], None] = lambda message: None

    def emit(self, record: logging.LogRecord) -> None:
        meta = getattr(record, "dagster_meta", {})
        event = meta.get("dagster_event")
        if event is None:
            self.show(str(meta.get("orig_message", record.getMessage())))
        elif event.is_step_start:
            self.show(str(event.step_key).split("__")[-1])


@dataclass
class Loop:
    """One run of the demo: the project, its stores, Dagster's instance, and what has been measured so far."""

    settings: Settings
    project: Project
    stores: Stores
    defs: dg.Definitions
    instance: dg.DagsterInstance
    console: Console
    share: float
    progress: Progress
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.project.name

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Show progress and measure the seconds of one step."""
        begun = time.perf_counter()
        with self.console.status(f"{name} ...") as status:
            self.progress.show = lambda message: status.update(f"{name} ... [dim]{message}[/]")
            yield
        spent = time.perf_counter() - begun
        self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 2)
        self.console.print(f"[green]done[/]  {name}  [dim]{spent:.1f} s[/]")

    def execute(
        self,
        job: str,
        *,
        assets: tuple[str, ...] = (),
        run_config: Mapping[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        may_fail: bool = False,
    ) -> dg.ExecuteInProcessResult:
        """Run a job of the definitions in this process; a failure is raised unless it `may_fail`. Dagster takes Ctrl-C
        for a failure of the step in which it came: it is raised as what it was."""
        import dagster as dg
        import psutil

        memory = psutil.Process().memory_info
        before = memory().rss
        result = self.defs.resolve_job_def(self.project.job(job)).execute_in_process(
            instance=self.instance,
            run_config={"loggers": {"console": {}}, **(run_config or {})},
            tags={**(tags or {}), PROCESS: f"{socket.gethostname()}:{os.getpid()}"},
            asset_selection=[dg.AssetKey(self.project.key(noun)) for noun in assets] or None,
            raise_on_error=False,
        )
        if memory().rss - before > MUCH:
            gc.collect()  # what the steps held refers to itself, and the next one needs the room
        if not result.success and any(interrupted(event) for event in result.all_events):
            raise KeyboardInterrupt
        if not result.success and not may_fail:
            raise NotReadyError(f"{job} failed: {failure(result)}. Details: `fti up`, run {result.run_id}.")
        return result


def open_loop(settings: Settings, project: Project, console: Console, share: float = 1.0) -> Loop:
    """The loop of one project. Another project may be broken: nothing of it is built here."""
    import dagster as dg
    from dagster._core.instance.ref import InstanceRef

    from fti.definitions import build_one
    from fti.stores import open_stores

    os.environ.update(servers.environment(settings))
    _quiet()
    progress = Progress()
    reading = logging.getLogger("fti.new")
    reading.addHandler(progress)
    reading.setLevel(logging.INFO)
    with console.status("opening the stores ..."):
        instance = dg.DagsterInstance.from_ref(
            InstanceRef.from_dir(str(dagster_home(settings)), overrides={"compute_logs": UNCAPTURED})
        )
        end_dead_runs(instance)
        return Loop(
            settings=settings,
            project=project,
            stores=open_stores(settings),
            defs=dg.Definitions.merge(
                build_one(settings, project), dg.Definitions(loggers={"console": _logger(progress)})
            ),
            instance=instance,
            console=console,
            share=share,
            progress=progress,
        )


def _quiet() -> None:
    """Other libraries' warnings and set-up notes are not for this terminal."""
    logging.captureWarnings(True)
    warned = logging.getLogger("py.warnings")
    warned.addHandler(logging.NullHandler())
    warned.propagate = False
    for name in ("mlflow", "mlflow.store.db.utils", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _logger(progress: Progress) -> dg.LoggerDefinition:
    import dagster as dg

    def make(_: dg.InitLoggerContext) -> logging.Logger:
        logger = logging.Logger("fti.operations.demo", logging.INFO)
        logger.addHandler(progress)
        return logger

    return dg.LoggerDefinition(make)


def days(project: Project, start: datetime, end: datetime) -> dict[str, str]:
    """Run tags that make one run fill the partitions of `[start, end)`."""
    last = end - timedelta(microseconds=1)
    return {
        "dagster/asset_partition_range_start": project.partition(start),
        "dagster/asset_partition_range_end": project.partition(last),
    }


def daily_nouns(project: Project) -> tuple[str, ...]:
    """Nouns of the assets that have daily partitions, sources to features."""
    return (*(f"raw_{source.name}" for source in project.sources if source.timestamp), "features")


def missing_days(loop: Loop, start: datetime, end: datetime) -> bool:
    """Whether Dagster lacks a partition of the features in `[start, end)`."""
    import dagster as dg

    present = loop.instance.get_materialized_partitions(dg.AssetKey(loop.project.key("features")))
    return not present.issuperset(loop.project.partition(day) for day in days_between(start, end))


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Why a run failed, in the words of its checks, else of its steps."""
    checks = [
        f"{check.check_name}: {check.description}" for check in result.get_asset_check_evaluations() if not check.passed
    ]
    steps = [event.step_failure_data.error for event in result.all_events if event.is_step_failure]
    told = checks or [_innermost(error) for error in steps if error] or ["its log says why"]
    return "; ".join(told).removesuffix(".")


def interrupted(event: dg.DagsterEvent) -> bool:
    """Whether a step ended because somebody pressed Ctrl-C."""
    error = event.step_failure_data.error if event.is_step_failure else None
    while error is not None:
        if error.cls_name in (INTERRUPTED, "KeyboardInterrupt"):
            return True
        error = error.cause
    return False


def _innermost(error: Any) -> str:
    """What was raised in the user's code or the pipeline's, without what Dagster wraps around it."""
    while error.cause is not None:
        error = error.cause
    return re.sub(r"^fti\.errors\.\w+: ", "", str(error.message).strip())


def drift_checks(loop: Loop, until: datetime) -> dict[str, Any]:
    """Drift check -> its evaluation by the report of the window that ended at `until`."""
    import dagster as dg

    from inference_pipeline.monitoring.drift import CHECKS

    storage, asset = loop.instance.event_log_storage, dg.AssetKey(loop.project.key("drift_report"))
    found = {}
    for name in CHECKS:
        for record in storage.get_asset_check_execution_history(dg.AssetCheckKey(asset, name), limit=200):
            judged = record.status.value in ("SUCCEEDED", "FAILED")  # a killed run leaves a planned one
            if judged and record.evaluation and record.evaluation.metadata["until"].value == until.isoformat():
                found[name] = record.evaluation
                break
    return found


def sensor_request(loop: Loop) -> dg.RunRequest | None:
    """What the retrain sensor asks for now, evaluated as the daemon does; None when it skips, and it says why."""
    import dagster as dg

    sensor = loop.defs.resolve_sensor_def(loop.project.job("retrain_on_drift"))
    with dg.build_sensor_context(instance=loop.instance) as context:
        tick = sensor.evaluate_tick(context)
    if not tick.run_requests:
        loop.console.print(f"[dim]sensor  {tick.skip_message}[/]")
        return None
    return tick.run_requests[0]


def retraining(loop: Loop, now: datetime) -> tuple[dg.DagsterRun, dict[str, Any]] | None:
    """The retraining that was asked for at `now`: its run, and what came of it; None when there was none."""
    import dagster as dg
    import polars as pl

    tags = {"fti/trigger": "drift", "fti/until": now.isoformat()}
    runs = loop.instance.get_runs(dg.RunsFilter(job_name=loop.project.job("training"), tags=tags), limit=1)
    if not runs:
        return None
    run, reason = runs[0], runs[0].tags["fti/reason"]
    versions = loop.stores.model_registry.journal(loop.name).filter(pl.col("reason") == reason)["version"].to_list()
    return run, {
        "reason": reason,
        "until": f"{now:%Y-%m-%d}",
        "run_id": run.run_id,
        "version": versions[-1] if versions else None,
        "outcome": "promoted" if versions else "not promoted, the run says why",
    }


def end_dead_runs(instance: dg.DagsterInstance) -> None:
    """Runs whose process was killed stay started for ever, and the sensor would wait for them: cancel them. What other
    machines do is their own."""
    import dagster as dg
    import psutil

    unfinished = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED]
    for run in instance.get_runs(dg.RunsFilter(statuses=unfinished)):
        host, _, number = run.tags.get(PROCESS, "").rpartition(":")
        if host == socket.gethostname() and not psutil.pid_exists(int(number)):
            instance.report_run_canceled(run, message="The process that executed this run is gone.")
