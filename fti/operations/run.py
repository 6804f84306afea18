"""`fti run`: one project from its sources to an answered request. Every stage looks into the stores first and does only
what is missing; `fti demo` is made of the same stages."""

from __future__ import annotations

import json
import shlex
import shutil
import time
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from fti.errors import GateError, NotReadyError
from fti.local import servers
from fti.operations.session import Loop, daily_nouns, days, failure, open_loop
from fti.project.loading import find_project
from fti.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from fti.model.records import Evaluation, Manifest
    from fti.stores.registry.registry import ModelVersion
    from training_pipeline.launching.job import TrainingJob

RUN_TAG = "fti/run_id"
SWAP_SECONDS = 60
RIVALS = {"challenger": "this model", "baseline": "gradient boosting", "prior": "prior", "champion": "champion before"}
SPLITS = ("train", "validation", "test")
TAGS = {"fti/trigger": "run", "fti/reason": "fti run"}


@dataclass(frozen=True)
class Model:
    """What a training came to: its evaluation, its dataset's manifest, and its version once its gates passed."""

    evaluation: Evaluation
    manifest: Manifest
    version: ModelVersion | None

    @property
    def failed(self) -> list[str]:
        """The gates that it did not pass, in sentences."""
        return [gate.description for gate in self.evaluation.gates if not gate.passed]


def run(settings: Settings, name: str, *, num_trials: int | None = None, again: bool = False) -> None:
    """Features, dataset, study, training, gates, champion, service, one request; prints a table and what to do next."""
    from rich.console import Console

    console, begun = Console(), time.perf_counter()
    loop = open_loop(settings, find_project(settings.project_modules, name), console)
    features(loop, loop.project.dataset.until, again=again)
    online(loop)
    model = train(loop, tags=TAGS, num_trials=num_trials, again=again)
    print_model(console, model)
    serves, server = champion(loop, promoted(loop, model)), service(loop)
    with loop.step("service"):
        servers.start(server, settings)
        servers.wait_ready(server, settings)
        wait_for_version(server.url, serves.version)
    print_seconds(console, loop.seconds, time.perf_counter() - begun)
    ask(loop, server.url)


def features(loop: Loop, until: datetime, *, again: bool = False) -> None:
    """Raw rows and features of all days before `until`. Rows that the lake has already, and features that were made
    of the same rows by the same code, are left alone unless `again`."""
    project = loop.project
    static = tuple(f"raw_{source.name}" for source in project.sources if not source.timestamp)
    daily = daily_nouns(project)
    with loop.step("raw rows"):
        if static:
            loop.execute("features", assets=static)
        if raw := tuple(noun for noun in daily if noun != "features"):
            loop.execute("features", assets=raw, tags=days(project, project.partitions_start, until))
    with loop.step("features"):
        tags, config = days(project, project.partitions_start, until), project.run_config(features={"again": again})
        loop.execute("features", assets=("features",), tags=tags, run_config=config)


def online(loop: Loop) -> None:
    """The newest row of every entity, however old, in the online store."""
    with loop.step("online features"):
        loop.execute("features", assets=("online_features",))


def train(loop: Loop, *, tags: dict[str, str], num_trials: int | None = None, again: bool = False) -> Model:
    """Dataset, study, training, gates; the champion when they pass. A model that was registered is not made again, and
    its gates are asked again only if they are others now."""
    registry, datasets = loop.stores.model_registry, loop.stores.dataset_store
    with loop.step("training dataset"):
        tags = stage(loop, "training_dataset", tags)
    with loop.step("study"):
        config = loop.project.run_config(best_params={"num_trials": num_trials})
        tags = stage(loop, "best_params", tags, config)
    job = job_of(loop, tags)
    if again:
        shutil.rmtree(job.folder, ignore_errors=True)  # counts as never done; its MLflow run stays
    version = None if again else registered(loop, job.key)
    if version is None:
        with loop.step("training"):
            tags = stage(loop, "challenger", tags)
        with loop.step("evaluation and gates"):
            version = judge(loop, tags)
    else:
        tags = {**tags, RUN_TAG: version.run_id}
        if not answered(loop, version):
            with loop.step("evaluation and gates"):
                version = ask_again(loop, version, tags)
    evaluation = registry.evaluation(tags[RUN_TAG])
    return Model(evaluation, datasets.manifest(evaluation.dataset_version), version)


def stage(loop: Loop, noun: str, tags: dict[str, str], config: dict[str, Any] | None = None) -> dict[str, str]:
    """Materialize one asset of a training; returns `tags` with what it made, for the stages behind it."""
    from training_pipeline import chain

    result = loop.execute("training", assets=(noun,), tags=tags, run_config=config)
    return {**tags, **chain.tags(chain.made_in(result, loop.project, noun))}


def promoted(loop: Loop, model: Model) -> ModelVersion:
    """The version of `model`; GateError with what failed when it has none."""
    if model.version is None:
        champion = loop.stores.model_registry.champion(loop.name)
        stays = f"version {champion.version} stays champion and serves" if champion else "there is no champion"
        raise GateError(
            f"{loop.name}: the model did not pass its gates, {stays}. {' '.join(model.failed)} Give it more to learn "
            f"from (rows, features, trials), or change `gates` in the project, then `fti run {loop.name}`."
        )
    return model.version


def champion(loop: Loop, model: ModelVersion) -> ModelVersion:
    """The version that serves: `model`, unless another one has taken its place since."""
    found: ModelVersion | None = loop.stores.model_registry.champion(loop.name)
    if found is None or found.version == model.version:
        return model
    loop.console.print(
        f"Version {found.version} has become champion after version {model.version}: it goes on serving. "
        f"`fti run {loop.name} --again` trains anew and lets the gates decide.",
        soft_wrap=True,
    )
    return found


def answered(loop: Loop, version: ModelVersion) -> bool:
    """Whether the evaluation of `version` has the answers of the project's gates as they are now."""
    from training_pipeline.judging.gates import verdicts

    evaluation = loop.stores.model_registry.evaluation(version.run_id)
    return verdicts(loop.project.gates, evaluation) == evaluation.gates


def ask_again(loop: Loop, version: ModelVersion, tags: dict[str, str]) -> ModelVersion | None:
    """`version`, if the gates of now let it pass."""
    result = loop.execute("training", assets=("evaluation",), tags=tags, may_fail=True)
    return version if passed(loop, result, tags[RUN_TAG]) else None


def judge(loop: Loop, tags: dict[str, str]) -> ModelVersion | None:
    """Measure the challenger and promote it; None when a gate failed. Any other failure is raised."""
    registry = loop.stores.model_registry
    result = loop.execute("training", assets=("evaluation", "champion"), tags=tags, may_fail=True)
    if not passed(loop, result, tags[RUN_TAG]):
        return None
    (promotion,) = result.asset_materializations_for_node(loop.project.op("champion"))
    made: ModelVersion = registry.version(loop.name, int(str(promotion.metadata["version"].value)))
    return made


def passed(loop: Loop, result: Any, run_id: str) -> bool:
    """Whether the model of `run_id` was let pass by the gates; NotReadyError when something else stopped its
    evaluation, which ended in `result`."""
    if result.success:
        return True
    evaluation = loop.stores.model_registry.evaluation(run_id)
    if all(gate.passed for gate in evaluation.gates):
        raise NotReadyError(f"evaluation failed: {failure(result)}. Details: `fti up`, run {result.run_id}.")
    return False


def registered(loop: Loop, key: str) -> ModelVersion | None:
    """The version that the training job of this key made and that was promoted. One whose promotion was killed before
    it was written down is judged again."""
    registry = loop.stores.model_registry
    registry.finish_promotions(loop.name)
    for version in sorted({promotion.version for promotion in registry.promotions.of(loop.name)}, reverse=True):
        made: ModelVersion = registry.version(loop.name, version)
        if registry.bundle(made).info.job_key == key:
            return made
    return None


def job_of(loop: Loop, tags: dict[str, str]) -> TrainingJob:
    """The training of the dataset and the study that `tags` name."""
    from training_pipeline.fitting.tune import best_params
    from training_pipeline.launching.job import training_job

    registry, datasets = loop.stores.model_registry, loop.stores.dataset_store
    version = tags["fti/dataset_version"]
    _, params = best_params(loop.project, version, registry, tags["fti/study"])
    return training_job(loop.project, datasets, registry, dataset_version=version, params=params)


def service(loop: Loop) -> servers.Server:
    """The service that answers: the one that `fti up` started, else one on its port, else one on any free port."""
    settings = loop.settings
    server = servers.service_of(settings, loop.name)
    if servers.running(server.name, settings) is None and servers.is_taken(server.url):
        loop.console.print(f"[dim]{server.url} is taken, the service gets another port[/]")
        server = servers.service(settings, loop.name, servers.free_port(settings.host))
    return server


def wait_for_version(url: str, version: int) -> None:
    """Return once the service at `url` answers with model version `version`."""
    deadline = time.monotonic() + SWAP_SECONDS
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{url}/status", timeout=10) as response:
            if json.load(response)["model_version"] == version:
                return
        time.sleep(0.2)
    raise NotReadyError(f"the service at {url} did not take version {version} within {SWAP_SECONDS} s; see its log")


def ask(loop: Loop, url: str) -> None:
    """Send the project's example over HTTP; print the request as a command, and the answer."""
    fields = loop.project.service.request
    body = json.dumps(
        {name: field.example for name, field in fields.items() if field.example is not None}, ensure_ascii=False
    )
    request = urllib.request.Request(f"{url}/predict", body.encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    show = loop.console.print
    show(
        f"\ncurl -s {url}/predict -H 'content-type: application/json' -d {shlex.quote(body)}",
        markup=False,
        soft_wrap=True,
    )
    show(json.dumps(answer, indent=1, ensure_ascii=False), markup=False)
    show(
        f"\nThe service of {loop.name} runs at {url} until `fti down`; `fti up` shows the rest.",
        markup=False,
        soft_wrap=True,
    )


def print_model(console: Console, model: Model) -> None:
    """Rows, features, splits and gates, and the metrics beside those of the baseline, the prior and the champion."""
    from rich.table import Table

    manifest, evaluation = model.manifest, model.evaluation
    splits = ", ".join(f"{manifest.rows[split]:,} {split}" for split in SPLITS)
    facts = Table("", "", title=manifest.project, show_header=False)
    facts.add_row("rows", f"{sum(manifest.rows.values()):,}: {splits}")
    if manifest.shares:
        facts.add_row("split", "at random: the test score shows fit, not the future")
    if manifest.taken < 1:
        facts.add_row("taken", f"{manifest.taken:.1%} of the labelled rows (Dataset.max_rows)")
    for split in SPLITS if not manifest.shares else ():
        first, last = manifest.ranges[split]
        facts.add_row(split, f"{first[:16]} .. {last[:16]}")
    facts.add_row("features", f"{manifest.num_features}, {len(manifest.categorical)} of them categorical")
    facts.add_row("dataset", evaluation.dataset_version[:12])
    facts.add_row("model", f"version {model.version.version}" if model.version else "[red]not promoted[/]")
    for gate in evaluation.gates:
        facts.add_row("[green]passed[/]" if gate.passed else "[red]failed[/]", gate.description)
    console.print(facts)
    names = list(evaluation.metrics["challenger"])
    metrics = Table("test split, unseen in training", *names)
    for rival, title in RIVALS.items():
        if rival not in evaluation.metrics:
            continue
        values = [evaluation.metrics.get(rival, {}).get(name) for name in names]
        metrics.add_row(title, *("-" if value is None else f"{value:.4f}" for value in values))
    console.print(metrics)


def print_seconds(console: Console, seconds: dict[str, float], total: float) -> None:
    """Seconds by step, and of all with what lies between the steps."""
    from rich.table import Table

    table = Table("step", "seconds")
    for step, spent in seconds.items():
        table.add_row(step, f"{spent:.1f}")
    table.add_row("all", f"{total:.1f}", style="bold")
    console.print(table)
