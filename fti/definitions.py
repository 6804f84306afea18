"""The composition root: every project's three pipelines, and the stores they meet in."""

import dagster as dg

import feature_pipeline.definitions
import inference_pipeline.definitions
import training_pipeline.definitions
from fti.loading import load_projects
from fti.settings import Settings
from fti.stores import open_stores

PIPELINES = (feature_pipeline.definitions, training_pipeline.definitions, inference_pipeline.definitions)


def build(settings: Settings) -> dg.Definitions:
    """Definitions of all projects over the stores that `settings` names."""
    projects = load_projects(settings.project_modules)
    parts = [pipeline.definitions(project) for project in projects for pipeline in PIPELINES]
    root = dg.Definitions(resources=open_stores(settings), executor=dg.in_process_executor)
    return dg.Definitions.merge(root, *parts)


@dg.definitions
def defs() -> dg.Definitions:
    """Everything Dagster knows of FTI."""
    return build(Settings())
