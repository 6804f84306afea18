"""FTI: one declaration of a use case, three pipelines (feature, training, inference).

`from fti import Project, Source, train`: the words of a declaration, and the stages as functions (see `fti.stages`).
Nothing is imported before it is asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fti.project import (
        Dataset,
        Expectation,
        Features,
        Freshness,
        Label,
        Model,
        Monitor,
        Project,
        RequestField,
        Service,
        Source,
        expect,
    )
    from fti.project.gate import Floor, NoWorseThanBaseline, NoWorseThanChampion, SliceFloor
    from fti.stages import evaluate, load_project, make_dataset, make_features, predict, read_raw, train

__all__ = [
    "Dataset",
    "Expectation",
    "Features",
    "Floor",
    "Freshness",
    "Label",
    "Model",
    "Monitor",
    "NoWorseThanBaseline",
    "NoWorseThanChampion",
    "Project",
    "RequestField",
    "Service",
    "SliceFloor",
    "Source",
    "evaluate",
    "expect",
    "load_project",
    "make_dataset",
    "make_features",
    "predict",
    "read_raw",
    "train",
]
HOMES = ("fti.project", "fti.project.gate")
"""Modules of the declaration's words; the stages are in `fti.stages`, which imports polars."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fti' has no attribute {name!r}")
    for home in (*HOMES, "fti.stages"):
        module = importlib.import_module(home)
        if name in vars(module):
            return vars(module)[name]
    raise AttributeError(f"module 'fti' has no attribute {name!r}")
