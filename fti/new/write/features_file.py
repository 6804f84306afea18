"""`features.py` of a generated project: its Feast objects."""

from __future__ import annotations

from fti.new.write.draft import Draft
from fti.tables.findings import listed
from fti.tables.render import block, call, line, text


def features_file(draft: Draft) -> str:
    """The module's source."""
    name = draft.name
    views = ([f"{name}_latest"] if draft.features else []) + ([f"{name}_history"] if draft.windows else [])
    service = call(
        "FeatureService", {"name": text(f"{name}_v1"), "features": block("[", views, "]")}, lead=len(name) + 6
    )
    parts = [
        _head(draft),
        _entities(draft),
        *([_latest(draft)] if draft.features else []),
        *([_history(draft)] if draft.windows else []),
        f"# What the model reads. Other features are another service: add {name}_v2 and name it in project.py.\n"
        f"{name}_v1 = {service}\n",
    ]
    return "\n".join(parts)


def _head(draft: Draft) -> str:
    return "\n".join(
        [
            f'"""Feast objects of {draft.name}: whom features are about, and the views that hold them.',
            "",
            "What a view holds, and how its rows are made, is declared in project.py.",
            '"""',
            "",
            "from feast import Entity, FeatureService",
            "from feast.value_type import ValueType",
            "",
            "from fti.feast_view import feature_view",
            "",
            "from .project import project",
            "",
        ]
    )


def _entities(draft: Draft) -> str:
    made = []
    for key, kind in draft.entity.items():
        value_type = f"ValueType.{'INT64' if kind == 'Int64' else 'STRING'}"
        arguments = {"name": text(f"{draft.name}_{key}"), "join_keys": f'["{key}"]', "value_type": value_type}
        made.append(f"{key}_entity = {call('Entity', arguments, lead=len(key) + 10)}\n")
    return "".join(made)


def _latest(draft: Draft) -> str:
    """The view of a row's own columns."""
    about = "The columns of the newest row" if not draft.numbered else "The columns of the row"
    view = _view(draft, f"{draft.name}_latest", about)
    return f"# {about}, by entity. Without a ttl: a value holds until the next row comes.\n{view}"


def _history(draft: Draft) -> str:
    """The view of an entity's earlier rows."""
    about = f"Counts and means of an entity's earlier rows, over {listed(draft.windows).replace('`', '')}"
    return _view(draft, f"{draft.name}_history", about)


def _view(draft: Draft, view: str, description: str) -> str:
    entities = block("[", [f"{key}_entity" for key in draft.entity], "]", indent=4, lead=len("entities="))
    parts = ["project", text(view), f"entities={entities}", f"description={text(line(description))}"]
    return f"{view} = {block('feature_view(', parts, ')', lead=len(view) + 3)}\n"
