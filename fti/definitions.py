"""The composition root: every project's three pipelines, and the stores they meet in."""

import logging
import traceback
from collections.abc import Iterable

import dagster as dg

import feature_pipeline.definitions
import inference_pipeline.definitions
import training_pipeline.definitions
from fti.project import Project
from fti.project.loading import Broken, load
from fti.settings import Settings
from fti.stores import open_stores

PIPELINES = (feature_pipeline.definitions, training_pipeline.definitions, inference_pipeline.definitions)

logger = logging.getLogger("fti.definitions")


def build_one(settings: Settings, project: Project) -> dg.Definitions:
    """Definitions of one project over the stores that `settings` names; what is wrong in it is raised."""
    root = root_of(settings)
    return dg.Definitions.merge(root, of_project(project, root))


def build(settings: Settings) -> dg.Definitions:
    """Definitions of all projects of the settings. A broken project is one asset that says why."""
    loaded = load(settings.project_modules, features=True)
    root = root_of(settings)
    parts, broken = [], list(loaded.broken)
    for project in loaded.projects:
        try:
            parts.append(of_project(project, root))
        except Exception as error:  # noqa: BLE001  what a project declares may be wrong in any way: the others go on
            told = str(error).strip().splitlines() or [type(error).__name__]
            text = "".join(traceback.format_exception(error))
            broken.append(Broken(name=project.name, error=told[-1], where="", traceback=text))
    for found in broken:
        logger.error("%s\n%s", found, found.traceback)
    return dg.Definitions.merge(root, *parts, dg.Definitions(assets=broken_assets(broken)))


def root_of(settings: Settings) -> dg.Definitions:
    """What all projects share: the stores, and steps in the run's own process."""
    return dg.Definitions(resources=vars(open_stores(settings)), executor=dg.in_process_executor)


def of_project(project: Project, root: dg.Definitions) -> dg.Definitions:
    """The three pipelines of one project; what does not fit together in them is found here."""
    found = dg.Definitions.merge(*(pipeline.definitions(project) for pipeline in PIPELINES))
    dg.Definitions.validate_loadable(dg.Definitions.merge(root, found))
    return found


def broken_assets(broken: Iterable[Broken]) -> list[dg.AssetSpec]:
    """One asset for each broken project: in Dagster's pages it stands where the project would be."""
    by_name: dict[str, Broken] = {}
    for found in broken:
        same = sum(other.name == found.name for other in by_name.values())
        by_name[f"{found.name}_{same + 1}" if same else found.name] = found
    return [
        dg.AssetSpec(
            [name, "broken"],
            group_name="broken",
            description=f"This project could not be loaded. Correct it and reload.\n\n```\n{found}\n```",
            metadata={"traceback": dg.MetadataValue.md(f"```\n{found.traceback or found}\n```")},
        )
        for name, found in by_name.items()
    ]


@dg.definitions
def defs() -> dg.Definitions:
    """Everything Dagster knows of FTI."""
    return build(Settings())
