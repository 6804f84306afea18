"""`fti new` on the command line: its options, and what it prints."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from fti.errors import DataError

TEXT = "make a project from a table: read it, say what is in it and what looks wrong, write two files"


def add_options(command: argparse.ArgumentParser) -> None:
    """The options of `fti new`."""
    command.add_argument("name", help="name of the project, a Python identifier")
    command.add_argument("--data", required=True, help="file, folder, glob, s3:// address, database URL or env:NAME")
    command.add_argument("--query", help="SQL, where --data is a database")
    command.add_argument("--entity", default="", help="columns that say whom a row is about, comma-separated")
    command.add_argument("--timestamp", help="column that says when a row became known")
    command.add_argument("--label", required=True, help="column to predict")
    command.add_argument("--task", choices=("binary", "multiclass", "regression"), help="if the guess is wrong")
    command.add_argument(
        "--as", dest="rules", action="append", default=[], metavar="COLUMN=RULE",
        help="how a column is read, if the guess is wrong: text, number, 'date %%d.%%m.%%Y' ... (may be repeated)",
    )  # fmt: skip
    command.add_argument(
        "--missing", action="append", default=[], metavar="COLUMN=TEXT,TEXT",
        help="texts of a column that mean a missing value (may be repeated)",
    )  # fmt: skip
    command.add_argument("--into", type=Path, default=Path("projects"), help="folder of projects (default: projects)")
    command.add_argument("--force", action="store_true", help="write the two files again if they are there")


def run(arguments: argparse.Namespace) -> int:
    """Write the project and say what comes next."""
    from rich.console import Console

    from fti.new.write import Wish, create

    wish = Wish(
        name=arguments.name,
        data=arguments.data,
        label=arguments.label,
        entity=tuple(name.strip() for name in arguments.entity.split(",") if name.strip()),
        timestamp=arguments.timestamp or None,
        task=arguments.task,
        query=arguments.query,
        rules=dict(_pair("as", text) for text in arguments.rules),
        missing={
            name: tuple(texts.split(",")) for name, texts in (_pair("missing", each) for each in arguments.missing)
        },
        into=arguments.into,
        force=arguments.force,
    )
    folder = create(wish, Console())
    name, hint = arguments.name, _setting(folder)
    next_commands = (
        (f"fti check {name}", "does the project hold together"),
        (f"fti run {name}", "features, model, gates, service"),
        ("fti up", "beside the others in Dagster"),
    )
    lines = [
        "",
        f"{folder}/features.py   whom features are about, and the views that hold them",
        f"{folder}/project.py    the table, the features, the label, the model, its gates",
        "",
        *([hint] if hint else []),
        *(f"{command:<{len(name) + 12}}# {what}" for command, what in next_commands),
    ]
    print("\n".join(lines))
    return 0


def _pair(option: str, text: str) -> tuple[str, str]:
    """The column and what is said of it. DataError where one of them is not there."""
    name, equals, said = text.partition("=")
    if not name or not equals or not said:
        raise DataError(f"--{option} {text!r} names no column and what it is: write --{option} COLUMN=...")
    return name, said


def _setting(folder: Path) -> str:
    """What to set so that FTI finds the project; empty when it does."""
    from fti.loading import folders
    from fti.settings import Settings

    settings, parent = Settings(), folder.resolve().parent
    known = parent in folders(settings.project_modules)
    return "" if known else f"export FTI_PROJECTS={shlex.quote(f'{settings.projects},{parent}/')}"
