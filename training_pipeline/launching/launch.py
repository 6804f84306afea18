"""Where a training runs. A launcher starts `python -m training_pipeline.fitting.train` and hands back what it
reports."""

import os
import sys
import uuid
from dataclasses import dataclass
from typing import Protocol

import dagster as dg

from training_pipeline.launching.job import TrainingJob

MODULE = "training_pipeline.fitting.train"


class Launcher(Protocol):
    """One method: run the job somewhere, follow its Pipes messages, return the materialization that it reports."""

    def launch(self, context: dg.AssetExecutionContext, job: TrainingJob) -> dg.MaterializeResult: ...


@dataclass(frozen=True)
class SubprocessLauncher:
    """A process on this machine."""

    def launch(self, context: dg.AssetExecutionContext, job: TrainingJob) -> dg.MaterializeResult:
        path = job.registry.folder("jobs") / f"{job.key}-{uuid.uuid4().hex}.json"
        path.touch(0o600)  # addresses may hold passwords
        path.write_text(job.to_json())
        environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONUNBUFFERED": "1"}
        try:
            done = dg.PipesSubprocessClient(env=environment).run(
                context=context, command=[sys.executable, "-m", MODULE, "--job", str(path)]
            )
        finally:
            path.unlink()
        return done.get_materialize_result()
