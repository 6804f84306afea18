"""The service's page: BentoML's OpenAPI description in the project's own words, drawn by the Swagger UI it ships.

Nothing comes from another host: the page that BentoML has for this loads badges and a tag manager of its own.
"""

from typing import TYPE_CHECKING, Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from fti.project import Project, RequestField
from inference_pipeline.serving.request import REQUEST_ID, describe

if TYPE_CHECKING:
    import bentoml

    from inference_pipeline.serving.predictor import Predictor

HTML = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{name} predictions</title>
<link rel="icon" type="image/png" href="./static_content/favicon-light-32x32.png">
<link rel="stylesheet" href="./static_content/swagger-ui.css">
<style>body {{ margin: 0 }} .topbar {{ display: none }} .swagger-ui .info td {{ padding-right: 1.5em }}</style>
</head>
<body>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script src="./static_content/swagger-ui-standalone-preset.js"></script>
<script src="./static_content/swagger-initializer.js"></script>
</body>
</html>
"""
POLICY = {"content-security-policy": "default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"}
JSON = "application/json"


def pages(service: "bentoml.Service[Any]", predictor: "Predictor") -> list[Route]:
    """The routes `/` and `/docs.json`."""

    async def page(request: Request) -> Response:
        return HTMLResponse(HTML.format(name=predictor.project.name), headers=POLICY)

    async def document(request: Request) -> Response:
        """BentoML has HTTP statuses as numbers among its keys."""
        content = orjson.dumps(specification(service, predictor), option=orjson.OPT_NON_STR_KEYS)
        return Response(content, headers=POLICY, media_type=JSON)

    return [Route("/", page), Route("/docs.json", document)]


def specification(service: "bentoml.Service[Any]", predictor: "Predictor") -> dict[str, Any]:
    """BentoML's OpenAPI document with what the project asks, what serves, and a request to try."""
    project = predictor.project
    found: dict[str, Any] = service.openapi_spec.asdict()
    champion = predictor.champion
    version = champion.version.version if champion else None
    found["info"] = {
        "title": f"{project.name} predictions",
        "version": f"model version {version}" if version else "no model yet",
        "description": words(project, version),
    }
    one = {name: field.example for name, field in project.service.request.items()}
    for path, example in (("/predict", one), ("/predict_batch", {"instances": [one]})):
        found["paths"][path]["post"]["requestBody"]["content"][JSON]["example"] = example
    return found


def words(project: Project, version: int | None) -> str:
    """What the service answers and what it is to be asked, in Markdown."""
    serves = (
        f"Version {version} of the {project.model.task} model `{project.name}` answers."
        if version
        else f"No model is champion yet: `fti run {project.name}` makes one."
    )
    rows = [f"| `{name}` | {_row(field)} |" for name, field in project.service.request.items()]
    return "\n".join(
        [
            f"**{project.description}**\n",
            f"{serves} An optional field that is left out has the newest value that the feature store knows of the"
            f" entity; `{REQUEST_ID}` may be any text of yours. [What serves](./status), [metrics](./metrics).\n",
            "| field | | takes |",
            "|---|---|---|",
            *rows,
        ]
    )


def _row(field: RequestField) -> str:
    """Whether a field must be given, and what it takes, as cells of a table."""
    return f"{'optional' if field.optional else 'required'} | {describe(field)}".replace("\n", " ")
