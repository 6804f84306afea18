"""The `fti` command: thin, and quick to answer because it imports what a command needs only when that command runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from fti.errors import FtiError, machine_fault
from fti.new import command as new_project

Run = TypeVar("Run", bound=Callable[..., Any])
STOPPED = 130
"""The exit status after Ctrl+C."""

HELP = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    help="Feature, training and inference pipelines of your projects.",
    context_settings=HELP,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
dataset = typer.Typer(rich_markup_mode=None)


def command(group: typer.Typer, text: str, name: str | None = None) -> Callable[[Run], Run]:
    """Adds a command, whose `text` is shown whole in the list of commands too."""
    return group.command(name, help=text, short_help=text)


command(app, new_project.TEXT)(new_project.new)


class FirstLine(logging.Handler):
    """Tells of a broken project in one line; `fti status` and Dagster's page have more."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"fti: {record.getMessage().splitlines()[0]}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    logging.captureWarnings(True)  # what one library thinks of another is not for this terminal
    logging.getLogger("py.warnings").addHandler(logging.NullHandler())
    logging.getLogger("fti.project.loading").addHandler(FirstLine())
    try:
        app(argv, prog_name="fti")
    except SystemExit as end:  # Typer always ends so
        if end.code == STOPPED:
            print("fti: stopped; what is done stays, the same command goes on from there", file=sys.stderr)
        return int(end.code or 0)
    except FtiError as error:
        print(f"fti: {error}", file=sys.stderr)
    except Exception as error:
        if (message := machine_fault(error)) is None:
            raise
        print(f"fti: {message}", file=sys.stderr)
    return 1


def _at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise typer.BadParameter(f"{text!r} is no whole number from 1 on")
    return number


def _share(text: str) -> float:
    """A number over 0, at most 1."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1:
        raise typer.BadParameter(f"{text!r} is no share: a number over 0, at most 1")
    return number


def _day(text: str) -> date:
    """A day as it is written on the command line."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no day: write it as 2013-01-31") from None


Project = Annotated[str, typer.Argument(metavar="PROJECT", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="as JSON")]
Version = Annotated[str, typer.Argument(help="a version, or the beginning of one", show_default=False)]


@command(app, "run the contract suite on a project; exit status 1 when it breaks it")
def check(
    project: Project, quick: Annotated[bool, typer.Option("--quick", help="fewer rows, half a minute")] = False
) -> None:
    from fti.project.loading import find_project
    from fti.settings import Settings
    from fti.testing import show

    raise typer.Exit(show.command(find_project(Settings().project_modules, project), quick=quick))


@command(app, "one project from its sources to an answered request")
def run(
    project: Project,
    trials: Annotated[
        int | None,
        typer.Option(parser=_at_least_one, metavar="NUMBER", help="trials of the study (default: the project's)"),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="also make what is made already")] = False,
) -> None:
    from fti.operations.run import run
    from fti.settings import Settings

    run(Settings(), project, num_trials=trials, again=again)


@command(app, "start Dagster, MLflow, the prediction and the ingest services")
def up() -> None:
    from fti.local import servers
    from fti.project.loading import load
    from fti.settings import Settings

    settings = Settings()
    loaded = load(settings.project_modules)
    for broken in loaded.broken:
        print(f"fti: {broken}; the others start", file=sys.stderr)
    names = tuple(project.name for project in loaded.projects)
    streamed = tuple(project.name for project in loaded.projects if project.streamed)
    failed = 0
    for server, problem in servers.start_all(servers.servers(settings, names, streamed), settings):
        if problem:
            print(f"fti: {problem}", file=sys.stderr)
            failed = 1
        else:
            print(f"{server.name:<20} {server.url}", flush=True)
    print("Stop them with `fti down`.")
    raise typer.Exit(failed)


@command(app, "stop what was started")
def down() -> None:
    from fti.local import servers
    from fti.settings import Settings

    settings = Settings()
    names = servers.started(settings)
    for name in names:
        print(f"{name:<20} {'stopped' if servers.stop(name, settings) else 'was not running'}")
    if not names:
        print(f"nothing runs from {settings.root}")


@command(app, "what runs, what is in the stores, who is champion")
def status() -> None:
    from fti.operations import status as report
    from fti.settings import Settings

    report.print_status(Settings())


@command(app, "run the whole life of a model on a year of flights")
def demo(
    weeks: Annotated[int, typer.Option(parser=_at_least_one, metavar="NUMBER", help="weeks to replay at most")] = 7,
    share: Annotated[float, typer.Option(parser=_share, metavar="SHARE", help="share of the requests to replay")] = 1.0,
) -> None:
    from fti.operations.demo import run
    from fti.settings import Settings

    run(Settings(), weeks=weeks, share=share)


@command(app, "compare the features in the code with what is deployed; exit status 2 when they differ, 1 on a mistake")
def plan(as_json: Json = False) -> None:
    from fti.operations.plan import run
    from fti.settings import Settings

    raise typer.Exit(run(Settings(), as_json=as_json))


@command(app, "make days of features, and those whose raw days or code changed")
def backfill(
    project: Project,
    first: Annotated[
        date | None,
        typer.Option("--from", parser=_day, metavar="DAY", help="first day, 2013-01-01 (default: all)"),
    ] = None,
    last: Annotated[date | None, typer.Option("--to", parser=_day, metavar="DAY", help="last day, included")] = None,
    chunk_days: Annotated[
        int | None, typer.Option(parser=_at_least_one, metavar="NUMBER", help="days at once (default: the project's)")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="also make the days that are done")] = False,
    changed: Annotated[bool, typer.Option("--changed", help="read no source: only days whose inputs changed")] = False,
) -> None:
    from fti.operations.backfill import run
    from fti.settings import Settings

    span = None if changed else (first, last)
    run(Settings(), project, span, chunk_days=chunk_days or 0, again=again)


@command(app, "where a model version comes from, back to the raw partitions")
def lineage(
    model: Annotated[str, typer.Argument(help="flights/2, or a version or alias such as champion", show_default=False)],
    project: Annotated[str, typer.Option(help="the model's project, where there are several")] = "",
    as_json: Json = False,
) -> None:
    from fti.operations.lineage import run
    from fti.settings import Settings

    raise typer.Exit(run(Settings(), model, project, as_json=as_json))


@command(app, "write the catalogue of sources, views and features as one HTML file")
def catalog(
    out: Annotated[Path | None, typer.Option(help="folder of index.html (default: catalog in FTI_HOME)")] = None,
) -> None:
    from fti.operations.catalog import write
    from fti.settings import Settings

    settings = Settings()
    print(write(settings, out or settings.root / "catalog"))


DATASETS = "versions of the training datasets, here and in the remote (FTI_DATASET_REMOTE)"
app.add_typer(dataset, name="dataset", help=DATASETS, short_help=DATASETS)


@command(dataset, "every version, newest first", "list")
def list_versions(as_json: Json = False) -> None:
    from fti.operations import datasets
    from fti.settings import Settings

    raise typer.Exit(datasets.list_versions(Settings(), as_json=as_json))


@command(dataset, "rows, ranges, views and statistics of one version")
def show(version: Version, as_json: Json = False) -> None:
    from fti.operations import datasets
    from fti.settings import Settings

    raise typer.Exit(datasets.show(Settings(), version, as_json=as_json))


@command(dataset, "bring a version here from the remote")
def pull(version: Version, to: Annotated[str, typer.Option(help="copy its files into this new folder")] = "") -> None:
    from fti.operations import datasets
    from fti.settings import Settings

    raise typer.Exit(datasets.pull(Settings(), version, to))


@command(dataset, "what differs between two versions")
def diff(old: Version, new: Version, as_json: Json = False) -> None:
    from fti.operations import datasets
    from fti.settings import Settings

    raise typer.Exit(datasets.diff(Settings(), old, new, as_json=as_json))


if __name__ == "__main__":
    sys.exit(main())
