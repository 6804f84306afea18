"""`features.py` of a generated project: its Feast objects."""

from __future__ import annotations

from fti.new.draft import Draft
from fti.new.findings import listed
from fti.new.render import block, call, dictionary, line, text


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
    types = {*draft.entity.values(), *(column.dtype for column in draft.features)}
    types |= {"Float64"} if draft.windows else set()
    imports = [
        "from feast import Entity, FeatureService, FeatureView, Field, FileSource",
        f"from feast.types import {', '.join(sorted(types))}",
        "from feast.value_type import ValueType",
    ]
    if draft.windows:
        imports.append(f"from {draft.name}.project import STATISTICS, WINDOWS")
        imports.sort(key=lambda imported: imported.split()[1])
    return "\n".join(
        [
            f'"""Feast objects of {draft.name}: whom features are about, and the views that hold them.',
            "",
            "The rows of the views are made by `transform` in project.py. A feature that is added here is added there",
            f'too: `fti check {draft.name}` says when the two differ."""',
            "",
            "from datetime import timedelta",
            "",
            *imports,
            *(["", "from fti.windows import window_names"] if draft.windows else []),
            "",
        ]
    )


def _entities(draft: Draft) -> str:
    made = []
    for key, kind in draft.entity.items():
        value_type = f"ValueType.{'INT64' if kind == 'Int64' else 'STRING'}"
        arguments = {"name": text(f"{draft.name}_{key}"), "join_keys": f'["{key}"]', "value_type": value_type}
        made.append(f"{key}_entity = {call('Entity', arguments, lead=len(key) + 10)}\n")
    fields = [f'Field(name="{key}", dtype={kind})' for key, kind in draft.entity.items()]
    return f"{''.join(made)}KEYS = {block('[', fields, ']', lead=len('KEYS = '))}\n"


def _latest(draft: Draft) -> str:
    """The view of a row's own columns."""
    types = dictionary({column.name: column.dtype for column in draft.features}, lead=len("LATEST = "))
    fields = "*(Field(name=name, dtype=dtype) for name, dtype in LATEST.items())"
    about = "The columns of the newest row" if not draft.numbered else "The columns of the row"
    view = _view(draft, f"{draft.name}_latest", fields, about)
    return f"# {about}, by entity. No TTL: a value holds until the next row comes.\nLATEST = {types}\n{view}"


def _history(draft: Draft) -> str:
    """The view of an entity's earlier rows."""
    fields = '*(Field(name=name, dtype=Float64) for name in window_names("past", STATISTICS, WINDOWS))'
    about = f"Counts and means of an entity's earlier rows, over {listed(draft.windows).replace('`', '')}"
    return f"# {about}.\n{_view(draft, f'{draft.name}_history', fields, about)}"


def _view(draft: Draft, view: str, fields: str, description: str) -> str:
    place = {"name": text(view), "path": text(f"{draft.name}/features/{view}"), "timestamp_field": '"event_timestamp"'}
    source = call("FileSource", place, indent=4, lead=len("source="))
    entities = block("[", [f"{key}_entity" for key in draft.entity], "]", indent=4, lead=len("entities="))
    return "\n".join(
        [
            f"{view} = FeatureView(",
            f"    name={text(view)},",
            f"    entities={entities},",
            f"    schema={block('[', ['*KEYS', fields], ']', indent=4, lead=len('schema='))},",
            f"    source={source},",
            "    ttl=timedelta(0),",
            "    online=True,",
            f"    description={text(line(description))},",
            ")",
            "",
        ]
    )
