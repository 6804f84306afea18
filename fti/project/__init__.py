"""What a use case is: the words of a declaration, and its rows, times and labels. It is cheap to import."""

from fti.project.declaration import (
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
    Tables,
    Task,
    View,
    expect,
)

__all__ = [
    "Dataset",
    "Expectation",
    "Features",
    "Freshness",
    "Label",
    "Model",
    "Monitor",
    "Project",
    "RequestField",
    "Service",
    "Source",
    "Tables",
    "Task",
    "View",
    "expect",
]
