"""The sensor that turns a drift into one governed retraining: once per episode, with a cooldown and a budget."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

import dagster as dg
from dagster import DagsterInstance
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord

from fti.project import Monitor, Project
from fti.times import AHEAD, last_moment

MINIMUM_SECONDS = 30
HISTORY = 100
"""Evaluations of a check that are looked at."""
BUDGET_PERIOD = timedelta(days=30)
MAX_REASON = 200
TRIGGER = "drift"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Evaluation:
    """One decided drift check. `until` is data time: the end of the window that it looked at."""

    check: str
    passed: bool
    until: datetime
    description: str


@dataclass(frozen=True)
class Retrain:
    """A retraining is due."""

    check: str
    since: datetime
    """Data time of the first failing evaluation of the episode."""
    until: datetime
    reason: str


@dataclass(frozen=True)
class Skip:
    """No retraining, and why."""

    reason: str


@dataclass(frozen=True)
class Requested:
    """A retraining that was requested, as the cursor remembers it. `until` is data time, ISO 8601 in UTC."""

    until: str
    reason: str


def decide(evaluations: Sequence[Evaluation], requested: Sequence[datetime], monitor: Monitor) -> Retrain | Skip:
    """Whether to retrain now.

    `evaluations` are the decided checks of `monitor.retrain_on`, newest first; `requested` the data times up to which
    models were retrained because of drift. An episode begins with the first failing evaluation since the check last
    passed or since the last retraining.
    """
    if not evaluations:
        return Skip("No drift report has decided anything yet.")
    episodes = [found for name in monitor.retrain_on if (found := episode(evaluations, name))]
    if not episodes:
        return Skip(f"No drift: {', '.join(monitor.retrain_on)} passed last, {evaluations[0].until:%Y-%m-%d %H:%M}.")
    latest = episodes[0][0]
    last = max(requested, default=None)
    if last is not None and latest.until <= last:
        return Skip(f"Same episode: the retraining up to {last:%Y-%m-%d %H:%M} already answers {latest.check}.")
    if last is not None and latest.until < last + monitor.cooldown:
        return Skip(f"{latest.check} fails, but the cooldown lasts until {last + monitor.cooldown:%Y-%m-%d %H:%M}.")
    recent = [moment for moment in requested if moment > latest.until - BUDGET_PERIOD]
    if len(recent) >= monitor.max_retrains_per_30_days:
        return Skip(f"{latest.check} fails, but the budget is used: {len(recent)} retrainings within 30 days.")
    since = min(found.until for found in episodes[0] if last is None or found.until > last)
    return Retrain(latest.check, since, latest.until, f"{latest.check}: {latest.description}"[:MAX_REASON])


def episode(evaluations: Sequence[Evaluation], check: str) -> list[Evaluation]:
    """The failing evaluations of `check` since it last passed, newest first."""
    found: list[Evaluation] = []
    for evaluation in (evaluation for evaluation in evaluations if evaluation.check == check):
        if evaluation.passed:
            break
        found.append(evaluation)
    return found


def decided_evaluations(instance: DagsterInstance, project: Project) -> list[Evaluation]:
    """What the checks of `monitor.retrain_on` decided, newest first by data time, then by check in the given order.

    Reports of windows ahead of the project's clock do not count: they would be the newest for ever.
    """
    asset, last = dg.AssetKey(project.key("drift_report")), last_moment(AHEAD, project.now())
    found = [
        evaluation
        for name in project.monitor.retrain_on
        for record in instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(asset, name), limit=HISTORY
        )
        if (evaluation := _decided(name, record)) is not None and evaluation.until <= last
    ]
    return sorted(found, key=lambda evaluation: evaluation.until, reverse=True)


def _decided(name: str, record: AssetCheckExecutionRecord) -> Evaluation | None:
    evaluation = record.evaluation if record.status.value in ("SUCCEEDED", "FAILED") else None
    if evaluation is None or not evaluation.metadata["decided"].value:
        return None
    until = datetime.fromisoformat(str(evaluation.metadata["until"].value)).astimezone(UTC)
    return Evaluation(name, evaluation.passed, until, evaluation.description or "")


def run_request(project: Project, job: str, due: Retrain) -> dg.RunRequest:
    """The training run up to the report's `until`. Its key is the episode: a lost cursor requests nothing twice."""
    until, monitor = due.until.isoformat(), project.monitor
    dataset = {
        "until": until,
        "validation_days": monitor.retrain_validation / timedelta(days=1),
        "test_days": monitor.retrain_test / timedelta(days=1),
    }
    return dg.RunRequest(
        run_key=f"{project.name}:{due.check}:{due.since.isoformat()}",
        job_name=job,
        run_config=project.run_config(training_dataset=dataset),
        tags={
            "fti/trigger": TRIGGER,
            "fti/reason": due.reason,
            "fti/drift-since": due.since.isoformat(),
            "fti/until": until,
        },
    )


def requested_before(instance: DagsterInstance, job: str, cursor: str | None) -> list[Requested]:
    """Retrainings because of drift, oldest first: those that the cursor remembers, and those that the runs tell of."""
    runs = instance.get_runs(dg.RunsFilter(job_name=job, tags={"fti/trigger": TRIGGER}), limit=HISTORY)
    told = [Requested(run.tags["fti/until"], run.tags["fti/reason"]) for run in runs]
    found = {entry.until: entry for entry in (*told, *(Requested(**entry) for entry in json.loads(cursor or "[]")))}
    return [found[until] for until in sorted(found)]


def training_is_running(instance: DagsterInstance, job: str) -> bool:
    """Whether a run of the training job is queued or under way."""
    return bool(instance.get_runs(dg.RunsFilter(job_name=job, statuses=UNFINISHED), limit=1))


def retrain_sensor(project: Project) -> dg.SensorDefinition:
    """Sensor `<project>_retrain_on_drift`."""
    job = project.job("training")

    @dg.sensor(
        name=project.job("retrain_on_drift"),
        job_name=job,
        minimum_interval_seconds=MINIMUM_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Requests {job} when {' or '.join(project.monitor.retrain_on)} fails.",
    )
    def retrain_on_drift(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        last = last_moment(AHEAD, project.now())
        past = requested_before(context.instance, job, context.cursor)
        due = decide(
            decided_evaluations(context.instance, project),
            [moment for entry in past if (moment := datetime.fromisoformat(entry.until)) <= last],
            project.monitor,
        )
        if isinstance(due, Skip):
            return dg.SkipReason(due.reason)
        if training_is_running(context.instance, job):
            return dg.SkipReason(f"{due.check} fails, and a run of {job} is already under way.")
        now = Requested(due.until.isoformat(), due.reason)
        cursor = json.dumps([asdict(entry) for entry in [*past, now]][-HISTORY:])
        return dg.SensorResult(run_requests=[run_request(project, job, due)], cursor=cursor)

    return retrain_on_drift
