"""The prediction service: `python -m inference_pipeline.serving.service --project flights --port 3000`.

BentoML's application (OpenAPI pages, `/healthz /livez /readyz /metrics`, `bentoml build`) behind a plain ASGI hot path
that answers `POST /predict` (one request), `POST /predict_batch` (`{"instances": [...]}`) and `GET /status`. Also
`bentoml serve inference_pipeline.serving.service:svc`, with the project named in `FTI_SERVICE_PROJECT`.
"""

import argparse
import atexit
import gc
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from fti.project.loading import find_project, load_projects
from fti.settings import Settings
from fti.stores import open_stores

if TYPE_CHECKING:
    import bentoml
    from starlette.types import ASGIApp

    from inference_pipeline.serving.endpoint import Endpoint
    from inference_pipeline.serving.predictor import Predictor

SWITCH_SECONDS = 0.0005
"""How long a computing thread may keep the event loop waiting for the interpreter."""


def open_predictor(settings: Settings, name: str | None) -> "Predictor":
    """The predictor of the project called `name` (the first one without a name) over the stores of the settings."""
    from inference_pipeline.serving.predictor import Predictor

    entries = settings.project_modules
    project = find_project(entries, name) if name else load_projects(entries)[0]
    stores = open_stores(settings)
    return Predictor(project, stores.feature_store, stores.model_registry, stores.prediction_log)


def bento_service(endpoint: "Endpoint") -> "bentoml.Service[Any]":
    """The BentoML service of one project; its life is the predictor's life."""
    import bentoml

    from inference_pipeline.answer import answer_model, answers_model

    predictor, project, schema = endpoint.predictor, endpoint.predictor.project, endpoint.predictor.schema

    class PredictionService:
        def __init__(self) -> None:
            predictor.start()
            gc.collect()
            gc.freeze()  # what is loaded now stays: collections need not look at it while requests wait

        @bentoml.api(input_spec=schema.request, output_spec=answer_model(project))  # type: ignore[untyped-decorator]
        async def predict(self, **fields: Any) -> dict[str, Any]:
            return await endpoint.predict(_body(fields))

        @bentoml.api(input_spec=schema.batch, output_spec=answers_model(project))  # type: ignore[untyped-decorator]
        async def predict_batch(self, **fields: Any) -> dict[str, Any]:
            return await endpoint.predict_batch(_body(fields))

        def __is_ready__(self) -> bool:
            return predictor.champion is not None

        @bentoml.on_shutdown  # type: ignore[untyped-decorator]
        def close(self) -> None:
            predictor.stop()

    PredictionService.__doc__ = project.description
    svc: bentoml.Service[Any] = bentoml.service(name=f"{project.name}_predictions", workers=1)(PredictionService)
    return svc


def _body(fields: dict[str, Any]) -> bytes:
    """A validated model's fields as the JSON that the endpoint parses."""
    return orjson.dumps(fields, default=lambda model: model.model_dump(mode="json", exclude_unset=True))


def application(predictor: "Predictor") -> "ASGIApp":
    """The whole ASGI application, the hot path outermost."""
    from inference_pipeline.serving.endpoint import Endpoint, HotPath
    from inference_pipeline.serving.page import pages

    endpoint = Endpoint(predictor)
    service = bento_service(endpoint)
    return HotPath(service.to_asgi(), endpoint, pages(service, predictor))


def prepare_process(settings: Settings) -> None:
    """Environment of a serving process: its own metrics, BentoML's files at home, no telemetry, quick switches."""
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    os.environ.setdefault("BENTOML_HOME", str(settings.root / "bentoml"))
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="fti-metrics-")
        atexit.register(shutil.rmtree, os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
    os.environ.setdefault("POLARS_MAX_THREADS", "2")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a small network on waiting threads only loses time
    sys.setswitchinterval(SWITCH_SECONDS)


def main(argv: Sequence[str] | None = None) -> None:
    """Serve one project until a signal ends the process; requests in flight are answered first."""
    settings = Settings()
    parser = argparse.ArgumentParser(prog="python -m inference_pipeline.serving.service", description=__doc__)
    parser.add_argument("--project", help="name of a project in FTI_PROJECTS; the first one if not given")
    parser.add_argument("--host", default=settings.host)
    parser.add_argument("--port", type=int, default=settings.service_port)
    arguments = parser.parse_args(argv)
    prepare_process(settings)
    import uvicorn

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    app = application(open_predictor(settings, arguments.project))
    uvicorn.run(app, host=arguments.host, port=arguments.port, access_log=False, log_level="info", lifespan="on")


def __getattr__(name: str) -> Any:
    """`svc`, made when BentoML asks for it: importing this module starts nothing."""
    if name != "svc":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from inference_pipeline.serving.endpoint import Endpoint, HotPath
    from inference_pipeline.serving.page import pages

    settings = Settings()
    prepare_process(settings)
    endpoint = Endpoint(open_predictor(settings, os.environ.get("FTI_SERVICE_PROJECT")))
    svc = bento_service(endpoint)
    svc.add_asgi_middleware(HotPath, endpoint=endpoint, pages=pages(svc, endpoint.predictor))
    globals()["svc"] = svc
    return svc


if __name__ == "__main__":
    main()
