"""The prediction service: `python -m inference_pipeline.service --project flights --port 3000`.

BentoML's application (OpenAPI pages, `/healthz /livez /readyz /metrics`, `bentoml build`) behind a plain ASGI hot path
that answers `POST /predict` (one request), `POST /predict_batch` (`{"instances": [...]}`) and `GET /status`. Also
`bentoml serve inference_pipeline.service:svc`, with the project named in `FTI_SERVICE_PROJECT`.
"""

import argparse
import gc
import importlib
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fti.errors import NotReadyError
from fti.project import Project
from fti.settings import Settings

if TYPE_CHECKING:
    import bentoml

    from inference_pipeline.endpoint import Asgi, Endpoint
    from inference_pipeline.predictor import Predictor

SWITCH_SECONDS = 0.0005
"""How long a computing thread may keep the event loop waiting for the interpreter."""


def find_project(settings: Settings, name: str | None) -> Project:
    """The project called `name` among those of the settings; the first without a name."""
    projects = [importlib.import_module(module).project for module in settings.project_modules]
    for project in projects:
        if name in (None, project.name):
            return project  # type: ignore[no-any-return]
    known = [project.name for project in projects]
    raise NotReadyError(f"no project {name!r} in FTI_PROJECTS; there are {known}")


def open_predictor(settings: Settings, project: Project) -> "Predictor":
    """The predictor over the stores of the settings. Opens nothing yet."""
    from pathlib import Path

    import feature_repo
    from fti.stores.feature_store import FeatureStore
    from fti.stores.model_registry import ModelRegistry
    from fti.stores.prediction_log import PredictionLog
    from inference_pipeline.predictor import Predictor

    feature_store = FeatureStore(
        repo=Path(feature_repo.__file__).parent,
        root=str(settings.root / "feast"),
        lake=settings.lake,
        registry=settings.feast_registry,
        online_store=settings.online_store,
    )
    registry = ModelRegistry(tracking_uri=settings.mlflow, root=str(settings.root / "mlflow"))
    return Predictor(project, feature_store, registry, PredictionLog(str(settings.root / "predictions")))


def bento_service(endpoint: "Endpoint") -> "bentoml.Service[Any]":
    """The BentoML service of one project; its life is the predictor's life."""
    import bentoml

    from inference_pipeline import openapi

    predictor, project = endpoint.predictor, endpoint.predictor.project

    class PredictionService:
        def __init__(self) -> None:
            predictor.start()
            gc.collect()
            gc.freeze()  # what is loaded now stays: collections need not look at it while requests wait

        @bentoml.api(input_spec=openapi.request(project), output_spec=openapi.Answer)
        async def predict(self, **fields: Any) -> dict[str, Any]:
            return await endpoint.predict(openapi.body(fields))

        @bentoml.api(input_spec=openapi.batch(project), output_spec=openapi.Answers)
        async def predict_batch(self, **fields: Any) -> dict[str, Any]:
            return await endpoint.predict_batch(openapi.body(fields))

        def __is_ready__(self) -> bool:
            return predictor.champion is not None

        @bentoml.on_shutdown
        def close(self) -> None:
            predictor.stop()

    PredictionService.__doc__ = project.description
    svc: bentoml.Service[Any] = bentoml.service(name=f"{project.name}_predictions", workers=1)(PredictionService)
    return svc


def application(predictor: "Predictor") -> "Asgi":
    """The whole ASGI application, the hot path outermost."""
    from inference_pipeline.endpoint import Endpoint, HotPath

    endpoint = Endpoint(predictor)
    return HotPath(bento_service(endpoint).to_asgi(), endpoint)  # type: ignore[arg-type]


def prepare_process(settings: Settings) -> None:
    """Environment of a serving process: its own metrics, BentoML's files at home, no telemetry, quick switches."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    os.environ.setdefault("BENTOML_HOME", str(settings.root / "bentoml"))
    os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="fti-metrics-"))
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    sys.setswitchinterval(SWITCH_SECONDS)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve one project until a signal ends the process; requests in flight are answered first."""
    settings = Settings()
    parser = argparse.ArgumentParser(prog="python -m inference_pipeline.service", description=__doc__)
    parser.add_argument("--project", help="name of a project in FTI_PROJECTS; the first one if not given")
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.service_port)
    arguments = parser.parse_args(argv)
    prepare_process(settings)
    import uvicorn

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    app = application(open_predictor(settings, find_project(settings, arguments.project)))
    uvicorn.run(app, host=arguments.host, port=arguments.port, access_log=False, log_level="info", lifespan="on")  # type: ignore[arg-type]


def __getattr__(name: str) -> Any:
    """`svc`, made when BentoML asks for it: importing this module starts nothing."""
    if name != "svc":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from inference_pipeline.endpoint import Endpoint, HotPath

    settings = Settings()
    prepare_process(settings)
    endpoint = Endpoint(open_predictor(settings, find_project(settings, os.environ.get("FTI_SERVICE_PROJECT"))))
    svc = bento_service(endpoint)
    svc.add_asgi_middleware(HotPath, endpoint=endpoint)  # type: ignore[arg-type]
    globals()["svc"] = svc
    return svc


if __name__ == "__main__":
    main()
