"""`fti new` on the command line: its options, and what it prints."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

import typer

from fti.errors import DataError

TEXT = "make a project from a table: read it, say what is in it and what looks wrong, write two files"


def new(
    name: Annotated[str, typer.Argument(help="name of the project, a Python identifier", show_default=False)],
    *,
    data: Annotated[str, typer.Option(help="file, folder, glob, s3:// address, database URL or env:NAME")],
    label: Annotated[str, typer.Option(help="column to predict")],
    query: Annotated[str | None, typer.Option(help="SQL, where --data is a database")] = None,
    entity: Annotated[str, typer.Option(help="columns that say whom a row is about, comma-separated")] = "",
    timestamp: Annotated[str | None, typer.Option(help="column that says when a row became known")] = None,
    task: Annotated[
        Literal["binary", "multiclass", "regression"] | None, typer.Option(help="if the guess is wrong")
    ] = None,
    rules: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="COLUMN=RULE",
            help="how a column is read, if the guess is wrong: text, number, 'date %d.%m.%Y' ... (may be repeated)",
        ),
    ] = None,
    missing: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=TEXT,TEXT", help="texts of a column that mean a missing value (may be repeated)"),
    ] = None,
    into: Annotated[Path, typer.Option(help="folder of projects")] = Path("projects"),
    force: Annotated[bool, typer.Option("--force", help="write the two files again if they are there")] = False,
) -> None:
    """Write the project and say what comes next."""
    from rich.console import Console

    from fti.new.write.project import Wish, create

    wish = Wish(
        name=name,
        data=data,
        label=label,
        entity=tuple(column.strip() for column in entity.split(",") if column.strip()),
        timestamp=timestamp or None,
        task=task,
        query=query,
        rules=dict(_pair("as", text) for text in rules or ()),
        missing={
            column: tuple(texts.split(",")) for column, texts in (_pair("missing", each) for each in missing or ())
        },
        into=into,
        force=force,
    )
    print(_next_steps(name, create(wish, Console())))


def _next_steps(name: str, folder: Path) -> str:
    """What was written, and the commands that come next."""
    hint = _setting(folder)
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
    return "\n".join(lines)


def _pair(option: str, text: str) -> tuple[str, str]:
    """The column and what is said of it. DataError where one of them is not there."""
    name, equals, said = text.partition("=")
    if not name or not equals or not said:
        raise DataError(f"--{option} {text!r} names no column and what it is: write --{option} COLUMN=...")
    return name, said


def _setting(folder: Path) -> str:
    """What to set so that FTI finds the project; empty when it does."""
    from fti.project.loading import folders
    from fti.settings import Settings

    settings, parent = Settings(), folder.resolve().parent
    known = parent in folders(settings.project_modules)
    return "" if known else f"export FTI_PROJECTS={shlex.quote(f'{settings.projects},{parent}/')}"
