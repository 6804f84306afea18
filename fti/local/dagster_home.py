"""Dagster's instance folder below the FTI home, and where its runs and events are kept."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
from pathlib import Path

from fti.files import replace_file
from fti.settings import Settings
from fti.storage.sql import schema_url

STORAGE = re.compile(r"^(event_log_)?storage:.*\n([ \t]+.*\n)*", re.MULTILINE)
SQLITE_STORAGE = """\
event_log_storage: # SQLite; a whole batch of a run's events is one transaction
  module: fti.local.event_storage
  class: BatchedEventLogStorage
  config:
    base_dir: {folder}
"""
DAGSTER_DATABASE = "FTI_DAGSTER_DATABASE_URL"
POSTGRES_STORAGE = f"""\
storage: # runs, events and schedules, in a schema of FTI_DATABASE_URL
  postgres:
    postgres_url:
      env: {DAGSTER_DATABASE}
"""


def dagster_home(settings: Settings) -> Path:
    """Dagster's instance folder below the FTI home, with a dagster.yaml in it that knows where it lies."""
    home = settings.root / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    file = home / "dagster.yaml"
    known = file.read_text() if file.exists() else None
    text = known or importlib.resources.files("fti").joinpath("dagster.yaml").read_text()
    text = STORAGE.sub(lambda _: _storage(settings, home), text)
    if text != known:
        replace_file(file, text)
    return home


def _storage(settings: Settings, home: Path) -> str:
    """What `dagster.yaml` says of where runs and events are kept: SQLite files, or the team's database."""
    if not settings.database_url:
        return SQLITE_STORAGE.format(folder=json.dumps(str(home / "history" / "runs")))
    from fti.storage.sql import database

    database(settings.database)  # makes the schema
    os.environ[DAGSTER_DATABASE] = schema_url(settings.database, "dagster")
    return POSTGRES_STORAGE
