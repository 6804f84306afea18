"""Which port each project's services have: places are given once and kept, so that an address stays an address."""

from __future__ import annotations

import json
import os
from collections.abc import Container, Iterable
from itertools import count, islice

from fti.files import file_lock, replace_json
from fti.settings import Settings

MOST_SERVICES = 100
"""Projects of one home whose ports never meet."""


def places(settings: Settings, projects: Iterable[str]) -> dict[str, int]:
    """Project -> its place, from 0. New projects get the next free places, in the order given."""
    file, wanted = settings.root / "places.json", list(dict.fromkeys(projects))
    known: list[str] = json.loads(file.read_text()) if file.exists() else []
    fresh = [name for name in wanted if name not in known]
    if fresh and (os.access(settings.root, os.W_OK) or not settings.root.exists()):  # else they are shown, not given
        with file_lock(file.with_suffix(".lock")):
            known = json.loads(file.read_text()) if file.exists() else []
            fresh = [name for name in wanted if name not in known]
            replace_json(file, known + fresh)
    return {name: place for place, name in enumerate(known + fresh)}


def service_port(settings: Settings, place: int) -> int:
    """The port of the prediction service at `place`: `service_port` and those after it, past the other servers'."""
    return _free(settings.service_port, place, {settings.dagster_port, settings.mlflow_port, settings.events_port})


def events_port(settings: Settings, place: int) -> int:
    """The port of the ingest service at `place`: `events_port` and those after it, past the other servers'."""
    services = {service_port(settings, other) for other in range(MOST_SERVICES)}
    return _free(settings.events_port, place, {settings.dagster_port, settings.mlflow_port, *services})


def _free(first: int, place: int, taken: Container[int]) -> int:
    return next(islice((port for port in count(first) if port not in taken), place, None))
