"""Which port each project's services have: places are given once and kept, so that an address stays an address."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterable
from itertools import count, islice

from fti.settings import Settings


def places(settings: Settings, projects: Iterable[str]) -> dict[str, int]:
    """Project -> its place, from 0. New projects get the next free places, in the order given."""
    file = settings.root / "places.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.seek(0)
        text = held.read()
        known: list[str] = json.loads(text) if text else []
        fresh = [name for name in dict.fromkeys(projects) if name not in known]
        if fresh:
            held.truncate(0)
            held.write(json.dumps(known + fresh))
    return {name: place for place, name in enumerate(known + fresh)}


def service_port(settings: Settings, place: int) -> int:
    """The port of the prediction service at `place`: `service_port` and those after it, past Dagster's and MLflow's."""
    taken = {settings.dagster_port, settings.mlflow_port, settings.events_port}
    free = (port for port in count(settings.service_port) if port not in taken)
    return next(islice(free, place, None))
